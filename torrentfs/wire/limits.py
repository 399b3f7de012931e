"""Caps on what peers and trackers may send us, each with its reason; beyond one is an error.

What follows from the size of a torrent (pieces, metadata) is capped in `metainfo.limits`.
"""

from __future__ import annotations

from torrentfs.metainfo.geometry import BLOCK_LENGTH
from torrentfs.metainfo.limits import MAX_PIECES

KIB = 1 << 10
MIB = 1 << 20

MAX_BLOCK_BYTES = BLOCK_LENGTH
"""Payload of one `Piece`. We never ask for more than a block, so more cannot be an answer;
libtorrent closes on it as well ("packet too large")."""

MAX_BITFIELD_BYTES = (MAX_PIECES + 7) // 8
"""A bitfield of unknown length, while a magnet's metadata is not there yet."""

MAX_WHOLE_SETS = 8
"""How often one peer may replace its whole set of pieces. BEP 3 allows it once, as the first
message. Like libtorrent we take it later and again (some clients send it after the extension
handshake, or again when their own metadata arrived), but a `HaveAll` is 5 bytes that cost the
receiver work for every piece of the torrent."""

MAX_EXTENDED_BYTES = MIB
"""A BEP 10 message: libtorrent's limit for any packet."""

MAX_EXTENSION_HANDSHAKE_BYTES = 64 * KIB
"""Real ones have some 300 bytes; decoding a hostile MiB would cost a tenth of a second."""

MAX_EXTENSION_HANDSHAKES = 100
"""From one peer. BEP 10 allows more than the first, for what changes while connected, which is
rare; each costs some ten microseconds of decoding."""

MAX_EXTENSIONS = 128
"""Names in `m`; message ids have one byte."""

MAX_EXTENSION_NAME_BYTES = 64

MAX_METADATA_MESSAGE_BYTES = BLOCK_LENGTH + KIB
"""A BEP 9 message: a block of metadata and the dictionary in front of it."""

MAX_TEXT_BYTES = 256
"""Kept of free text from strangers: client versions, failure reasons."""

MAX_HASHES = 8192
"""Base hashes in one BEP 52 request: what libtorrent answers at most (BEP 52 suggests 512)."""

MAX_PROOF_LAYERS = 64
"""Layers above them: a tree over all 64-bit offsets has 50."""

INITIAL_BUFFER_BYTES = 64 * KIB
"""Receive buffer of a peer that says little: hundreds of them are idle at any time."""

MAX_BUFFER_BYTES = MIB
"""Receive buffer of a fast peer: 64 blocks per system call. A longer message (a bitfield of
millions of pieces) makes it grow beyond, as its bytes arrive."""

MIN_ROOM_BYTES = 32 * KIB
"""Least room handed to a receive call."""

MAX_TRACKER_REPLY_BYTES = 4 * MIB
"""An HTTP tracker's reply: 200 dictionary peers have 20 KB, a scrape of a few torrents less."""

MAX_TRACKER_PEERS = 5000
"""Peers taken from one reply; trackers give 50 to 200."""

MAX_TRACKER_ID_BYTES = 512
"""`tracker id` goes into every later request line."""

MAX_SDP_BYTES = 64 * KIB
"""A session description. Browsers' have 1 to 4 KiB; libtorrent's limit is 64 KiB less one."""

MAX_OFFER_ID_BYTES = 64
"""Of an offer made to us, which is echoed. All known clients use 20."""

MAX_SIGNAL_BYTES = 256 * KIB
"""A message of a WebSocket tracker: a session description, half of it escaped."""

MAX_INTERVAL = 24 * 3600
"""Seconds a tracker may make us wait: a day. One that says more would be as good as gone."""
