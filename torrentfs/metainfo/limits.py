"""Every cap on what a torrent or magnet may ask of us, in one place, each with its reason.

Crossing one is an `InvalidTorrent` with one line of text. The numbers leave room above the
largest real torrents and keep the worst a stranger can make us hold or compute within what a
small machine has.
"""

from __future__ import annotations

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

MAX_METADATA_BYTES = 64 * MIB
"""Info dictionary taken from peers (BEP 9). They may make us hold this much before its hash can be
checked. Torrents with 14 MB of it exist; 64 MiB are 3.3 million v1 pieces."""

MAX_TORRENT_BYTES = 512 * MIB
"""A .torrent file, which the user chose: 200 GiB in the smallest pieces (16 KiB) has 250 MiB of v1
hashes, or 400 MiB of v2 layers."""

MAX_PIECES = 1 << 24
"""Pieces of a torrent: a bitfield of 2 MiB per peer at most.
200 GiB in 16 KiB pieces has 13.1 M."""

MAX_PIECE_LENGTH = 256 * MIB
"""A v1 piece is held whole until it is verified; 16 MiB is common, 64 MiB the largest seen."""

MIN_V2_PIECE_LENGTH = 16 * KIB
"""BEP 52: "must be a power of two and at least 16KiB"."""

MAX_TORRENT_LENGTH = 1 << 50
"""Bytes of payload (1 PiB): keeps every offset far inside 64 bits."""

MAX_FILES = 1_000_000
"""Files of a torrent, padding included. The largest known archives have some 400,000."""

MAX_PATH_DEPTH = 100
"""Components of a file's path; the same as the nesting that libtorrent accepts."""

MAX_PATH_BYTES = 8192
"""Bytes of a file's raw path: twice PATH_MAX, so longer names of a torrent cannot be real."""

MAX_NAME_BYTES = 255
"""Bytes of UTF-8 in one component of a safe path: NAME_MAX of Linux."""

MAX_NESTING = 256
"""Lists and dictionaries inside each other: a v2 path of `MAX_PATH_DEPTH` and room to spare, far
below Python's recursion limit."""

MAX_CONTAINERS = 4 * MAX_FILES
"""Lists and dictionaries of one torrent or message (a v2 file has two): 300 MB at the worst."""

MAX_MESSAGE_NESTING = 32
"""The same for messages of peers and trackers, which are flat."""

MAX_INTEGER_DIGITS = 20
"""Digits of a bencoded integer: what 64 bits need. Longer ones only cost time."""

MAX_TRACKERS = 1000
"""Announce URLs of a torrent or magnet; the rest is dropped (lists of some hundred exist)."""

MAX_WEB_SEEDS = 1000
"""Web seed URLs of each kind; the rest is dropped."""

MAX_NODES = 1000
"""DHT nodes of a torrent; the rest is dropped."""

MAX_URL_BYTES = 4096
"""Bytes of a tracker or web seed URL; longer ones are dropped."""

MAX_TEXT_BYTES = 64 * KIB
"""Bytes kept of `comment` and `created by`."""

MAX_MAGNET_BYTES = 64 * KIB
"""Characters of a magnet link: shells and browsers stop far earlier."""

MAX_MAGNET_PEERS = 1000
"""`x.pe` addresses of a magnet; the rest is dropped."""

MAX_SELECT_RANGES = 10_000
"""Ranges of `so` (BEP 53) in a magnet."""
