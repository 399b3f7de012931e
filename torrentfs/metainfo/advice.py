"""What stands beside `info` in a .torrent file: trackers, web seeds, nodes, dates, comments.

None of it is covered by the info-hash and none of it is needed to tell right bytes from wrong ones,
so what is malformed or too much is dropped and the rest used.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torrentfs.metainfo import limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torrentfs.metainfo.bencoding import Value

KEYS = frozenset(
    [
        b"announce",
        b"announce-list",
        b"url-list",
        b"httpseeds",
        b"nodes",
        b"creation date",
        b"comment",
        b"comment.utf-8",
        b"created by",
        b"created by.utf-8",
    ]
)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\x00-\x20\x7f-\xa0\ud800-\udfff]+")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_MAX_DATE = 1 << 40


@dataclass(frozen=True, slots=True)
class Advice:
    """Well-formed, capped; see the properties of `Metainfo` of the same names."""

    trackers: tuple[tuple[str, ...], ...] = ()
    web_seeds: tuple[str, ...] = ()
    http_seeds: tuple[str, ...] = ()
    nodes: tuple[tuple[str, int], ...] = ()
    creation_date: int | None = None
    comment: str | None = None
    created_by: str | None = None

    @classmethod
    def read(cls, outer: Mapping[bytes, Value]) -> Advice:
        """Take what is well-formed of the outer dictionary of a .torrent file."""
        date = outer.get(b"creation date")
        return cls(
            trackers=_tiers(outer.get(b"announce-list"), outer.get(b"announce")),
            web_seeds=_web_seeds(outer.get(b"url-list")),
            http_seeds=_web_seeds(outer.get(b"httpseeds")),
            nodes=_nodes(outer.get(b"nodes")),
            creation_date=date if type(date) is int and 0 <= date < _MAX_DATE else None,
            comment=_text(outer.get(b"comment.utf-8")) or _text(outer.get(b"comment")),
            created_by=_text(outer.get(b"created by.utf-8")) or _text(outer.get(b"created by")),
        )

    def fields(self) -> dict[str, Any]:
        """All of it by name, as `build_torrent` takes it."""
        return {name: getattr(self, name) for name in self.__slots__}

    def asking(self, other: Advice) -> Advice:
        """This, with the trackers, web seeds and nodes of `other`, if that names any of these.

        Dates and words stay: what programs saw of a torrent once does not change.
        """
        if not other.fingerprint:
            return self
        return replace(
            self,
            trackers=other.trackers,
            web_seeds=other.web_seeds,
            http_seeds=other.http_seeds,
            nodes=other.nodes,
        )

    @property
    def fingerprint(self) -> str:
        """Digest of the trackers, web seeds and nodes, in hex; empty if none is named."""
        named = self.trackers, self.web_seeds, self.http_seeds, self.nodes
        if not any(named):
            return ""
        return hashlib.blake2b(repr(named).encode(), digest_size=8).hexdigest()


def valid_url(raw: object) -> str | None:
    """The URL in `raw` (bytes of UTF-8 or a string), or None when it is none or too long."""
    if isinstance(raw, bytes):
        try:
            raw = raw[: limits.MAX_URL_BYTES + 1].decode()
        except UnicodeDecodeError:
            return None
    if not isinstance(raw, str) or len(raw) > limits.MAX_URL_BYTES:
        return None
    raw = raw.strip()
    return raw if _URL.fullmatch(raw) else None


def unique_urls(raws: Iterable[object], limit: int) -> tuple[str, ...]:
    """The well-formed URLs of `raws`, each once, in order, at most `limit`."""
    urls: dict[str, None] = {}
    for raw in raws:
        if len(urls) >= limit:
            break
        url = valid_url(raw)
        if url is not None:
            urls[url] = None
    return tuple(urls)


def _tiers(announce_list: Value, announce: Value) -> tuple[tuple[str, ...], ...]:
    """BEP 12: `announce-list` replaces `announce` where it names anything."""
    tiers = []
    seen: set[str] = set()
    for tier in announce_list if type(announce_list) is list else ():
        raws = tier if type(tier) is list else [tier]
        room = limits.MAX_TRACKERS - len(seen)
        urls = [url for url in unique_urls(raws, limits.MAX_TRACKERS) if url not in seen][:room]
        if urls:
            seen.update(urls)
            tiers.append(tuple(urls))
    if not tiers and (url := valid_url(announce)) is not None:
        tiers.append((url,))
    return tuple(tiers)


def _web_seeds(value: Value) -> tuple[str, ...]:
    """BEP 19 writes one string or a list."""
    return unique_urls(value if type(value) is list else [value], limits.MAX_WEB_SEEDS)


def _nodes(value: Value) -> tuple[tuple[str, int], ...]:
    nodes: dict[tuple[str, int], None] = {}
    for node in value[: limits.MAX_NODES] if type(value) is list else ():
        if type(node) is list and len(node) == 2:
            host, port = node
            if type(host) is bytes and type(port) is int and is_host(host) and 0 < port < 65536:
                nodes[host.decode(), port] = None
    return tuple(nodes)


_HOST = re.compile(rb"[A-Za-z0-9._:-]{1,255}")


def is_host(raw: bytes) -> bool:
    """True for what may be a host name or an address, without brackets."""
    return _HOST.fullmatch(raw) is not None


def _text(value: Value) -> str | None:
    if type(value) is not bytes:
        return None
    return _CONTROL.sub("", value[: limits.MAX_TEXT_BYTES].decode("utf-8", "replace")) or None
