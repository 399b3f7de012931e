"""Magnet links (BEP 9, 52, 53): a torrent by its hash, with hints where to find it.

`xt=urn:btih:` has a v1 hash in 40 hex or 32 base32 digits, `xt=urn:btmh:` a v2 hash as a multihash
in hex (`1220` and 64 digits). Both together name a hybrid. All else is advice: what is malformed of
it is dropped. `so` (BEP 53) selects files by number: `so=0,2,4-8`.

`xs=urn:btpk:` names no torrent but a publisher, by his public key in hex, who tells the DHT which
torrent is his newest (BEP 46); `s` is a salt in hex, for one who publishes several.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from torrentfs.errors import InvalidTorrent
from torrentfs.metainfo import limits
from torrentfs.metainfo.advice import is_host, unique_urls
from torrentfs.metainfo.hashes import InfoHashes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torrentfs.metainfo.torrent_file import Metainfo

_BTIH = "urn:btih:"
_BTMH = "urn:btmh:"
_BTPK = "urn:btpk:"
_KEY = re.compile(r"[0-9A-Fa-f]{64}")
_SALT = re.compile(r"(?:[0-9A-Fa-f]{2}){0,64}")
_SHA256_MULTIHASH = "1220"
_ENDPOINT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:]+)):([0-9]{1,5})")
_SELECTION = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Magnet:
    """What a magnet link says.

    `name` is its display name (not safe as a file name). `peers` are `x.pe` as (host, port), IPv6
    without brackets. `select` are the ranges of file numbers of `so`. `exact_source` are its `xs`
    and `as` URLs, where the .torrent file may be had.
    """

    hashes: InfoHashes
    name: str | None = None
    trackers: tuple[str, ...] = ()
    web_seeds: tuple[str, ...] = ()
    peers: tuple[tuple[str, int], ...] = ()
    select: tuple[range, ...] = ()
    exact_source: tuple[str, ...] = ()

    def to_uri(self) -> str:
        """The link; `parse_magnet` of it gives an equal `Magnet`."""
        parts = []
        if self.hashes.v1:
            parts.append(f"xt={_BTIH}{self.hashes.v1.hex()}")
        if self.hashes.v2:
            parts.append(f"xt={_BTMH}{_SHA256_MULTIHASH}{self.hashes.v2.hex()}")
        if self.name:
            parts.append(f"dn={_quote(self.name)}")
        parts += [f"tr={_quote(url)}" for url in self.trackers]
        parts += [f"ws={_quote(url)}" for url in self.web_seeds]
        parts += [f"xs={_quote(url)}" for url in self.exact_source]
        parts += [f"x.pe={_endpoint(host, port)}" for host, port in self.peers]
        if self.select:
            parts.append("so=" + ",".join(map(_selection, self.select)))
        return "magnet:?" + "&".join(parts)


@dataclass(frozen=True, slots=True)
class Publisher:
    """Who names a torrent: a public key (32 bytes, Ed25519) and a salt."""

    key: bytes
    salt: bytes = b""


def magnet_of(metainfo: Metainfo) -> Magnet:
    """The link that names `metainfo`, with its trackers and web seeds."""
    return Magnet(
        hashes=metainfo.hashes,
        name=metainfo.name,
        trackers=tuple(dict.fromkeys(url for tier in metainfo.trackers for url in tier)),
        web_seeds=metainfo.web_seeds,
    )


def parse_magnet(uri: str, hashes: InfoHashes | None = None) -> Magnet:
    """Read a magnet link; `InvalidTorrent` (one line) when it names no torrent.

    With `hashes` it need not name one: it is that of a publisher whose torrent is known by now.
    """
    fields = _fields(uri)
    name = _CONTROL.sub("", next(iter(fields.get("dn", [])), ""))
    return Magnet(
        hashes=hashes or _hashes(fields.get("xt", [])),
        name=name or None,
        trackers=unique_urls(fields.get("tr", []), limits.MAX_TRACKERS),
        web_seeds=unique_urls(fields.get("ws", []), limits.MAX_WEB_SEEDS),
        peers=_peers(fields.get("x.pe", [])),
        select=_ranges(fields.get("so", [])),
        exact_source=unique_urls(fields.get("xs", []) + fields.get("as", []), limits.MAX_WEB_SEEDS),
    )


def parse_publisher(uri: str) -> Publisher | None:
    """The publisher that a magnet link names instead of a torrent, or None.

    `InvalidTorrent` when his key or salt is malformed, or this is no magnet link at all.
    """
    fields = _fields(uri)
    keys = [url for url in fields.get("xs", []) if url.lower().startswith(_BTPK)]
    if not keys or fields.get("xt"):
        return None
    digits, salt = keys[0][len(_BTPK) :].strip(), next(iter(fields.get("s", [])), "").strip()
    if not _KEY.fullmatch(digits):
        raise InvalidTorrent("the btpk key of the magnet link is not 64 hex digits")
    if not _SALT.fullmatch(salt):
        raise InvalidTorrent("the salt of the magnet link is not at most 128 hex digits")
    return Publisher(binascii.unhexlify(digits), binascii.unhexlify(salt))


def _fields(uri: str) -> dict[str, list[str]]:
    if len(uri) > limits.MAX_MAGNET_BYTES:
        raise InvalidTorrent(f"the magnet link is over {limits.MAX_MAGNET_BYTES} characters")
    uri = uri.encode("utf-8", "replace").decode()  # a command line may carry lone surrogates in
    scheme, _, query = uri.strip().partition(":")
    if scheme.lower() != "magnet" or not query.startswith("?"):
        raise InvalidTorrent("this is not a magnet link: it begins with magnet:?")
    fields: dict[str, list[str]] = {}
    for part in query[1:].split("&"):
        key, _, value = part.partition("=")
        # a number behind a key tells repeated ones apart in some writers: xt.1=, tr.2=
        key = re.sub(r"\.[0-9]+$", "", unquote(key).lower())
        if key == "dn":
            value = value.replace("+", " ")  # as forms write it; a `+` in a URL is one
        fields.setdefault(key, []).append(unquote(value, errors="replace"))
    return fields


def _hashes(topics: Iterable[str]) -> InfoHashes:
    v1: set[bytes] = set()
    v2: set[bytes] = set()
    for topic in topics:
        kind, digits = topic[: len(_BTIH)].lower(), topic[len(_BTIH) :].strip()
        if kind == _BTIH:
            v1.add(_v1_hash(digits))
        elif kind == _BTMH:
            v2.add(_v2_hash(digits))
    if not v1 and not v2:
        raise InvalidTorrent("the magnet link has no BitTorrent hash (xt=urn:btih: or urn:btmh:)")
    if len(v1) > 1 or len(v2) > 1:
        raise InvalidTorrent("the magnet link names more than one torrent")
    return InfoHashes(v1=next(iter(v1), None), v2=next(iter(v2), None))


def _v1_hash(digits: str) -> bytes:
    try:
        if len(digits) == 40:
            return binascii.unhexlify(digits)
        if len(digits) == 32 and "=" not in digits:  # padding would stand for fewer bytes
            return base64.b32decode(digits.upper())
    except ValueError:
        pass
    raise InvalidTorrent("the btih hash of the magnet link is not 40 hex or 32 base32 digits")


def _v2_hash(digits: str) -> bytes:
    try:
        if len(digits) == 68 and digits.startswith(_SHA256_MULTIHASH):
            return binascii.unhexlify(digits[len(_SHA256_MULTIHASH) :])
    except ValueError:
        pass
    raise InvalidTorrent("the btmh hash of the magnet link is not 1220 and 64 hex digits")


def _peers(values: Iterable[str]) -> tuple[tuple[str, int], ...]:
    peers: dict[tuple[str, int], None] = {}
    for value in values:
        match = _ENDPOINT.fullmatch(value.strip())
        if match is None or len(peers) >= limits.MAX_MAGNET_PEERS:
            continue
        host, port = match[1] or match[2], int(match[3])
        if host.isascii() and is_host(host.encode()) and 0 < port < 65536:
            peers[host, port] = None
    return tuple(peers)


def _ranges(values: Iterable[str]) -> tuple[range, ...]:
    ranges: list[range] = []
    for value in values:
        for part in value.split(","):
            match = _SELECTION.fullmatch(part.strip())
            if match is None or len(ranges) >= limits.MAX_SELECT_RANGES:
                continue
            first = int(match[1])
            last = first if match[2] is None else int(match[2])
            if first <= last < limits.MAX_FILES:
                ranges.append(range(first, last + 1))
    return tuple(ranges)


def file_numbers(ranges: Iterable[range], count: int) -> Iterator[int]:
    """The numbers below `count` in any of `ranges`, once each, ascending (BEP 53 `so`).

    Takes time for the ranges and for what it yields, however much they overlap.
    """
    done = 0
    for wanted in sorted(ranges, key=lambda r: r.start):
        numbers = range(max(done, wanted.start), min(count, wanted.stop))
        yield from numbers
        done = max(done, wanted.stop)


def _quote(text: str) -> str:
    return quote(text, safe="/:.~-_")


def _endpoint(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _selection(numbers: range) -> str:
    if len(numbers) == 1:
        return str(numbers.start)
    return f"{numbers.start}-{numbers.stop - 1}"
