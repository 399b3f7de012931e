"""SOURCE: what a user may name a torrent by, and how it becomes metadata.

Four spellings, told apart by their text alone so that a typing mistake fails before anything
is forked or mounted: a `magnet:` URI, an http(s) URL of a .torrent, a bare info-hash (40 hex or
32 base32 digits of v1, 64 hex digits of v2), and otherwise a path. A path always wins over an
info-hash of the same spelling when such a file exists.

`load` reads a path or URL and parses it; a magnet has nothing to load, its metadata comes from
peers. Errors name the source, in one line: `ConfigError` for what cannot be read,
`InvalidTorrent` for what was read and is not a torrent, `MetadataTimeout` for a slow URL.
"""

from __future__ import annotations

import base64
import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import trio

from torrentfs.daemon.quantities import format_size
from torrentfs.errors import ConfigError, InvalidTorrent, MetadataTimeout, TransportError
from torrentfs.metainfo.bencoding import BencodingError
from torrentfs.metainfo.hashes import InfoHashes
from torrentfs.metainfo.limits import MAX_METADATA_BYTES, MAX_TORRENT_BYTES
from torrentfs.metainfo.magnet import Magnet, Publisher, parse_magnet, parse_publisher
from torrentfs.metainfo.torrent_file import Metainfo, parse_torrent

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHOWN = 100
"""Characters of a source that an error message repeats."""


@dataclass(frozen=True, slots=True)
class MagnetSource:
    """A magnet link or bare info-hash."""

    text: str
    magnet: Magnet


@dataclass(frozen=True, slots=True)
class PublisherSource:
    """A magnet link of a publisher, whose newest torrent it stands for (BEP 46)."""

    text: str
    publisher: Publisher


@dataclass(frozen=True, slots=True)
class FileSource:
    """A .torrent file; the path is absolute, so a daemon may change its directory."""

    text: str
    path: Path


@dataclass(frozen=True, slots=True)
class UrlSource:
    """An http(s) URL that answers with a .torrent."""

    text: str
    url: str


@dataclass(frozen=True, slots=True)
class DataSource:
    """A .torrent that somebody has in hand; `text` is what to call it."""

    text: str
    data: bytes


Source = MagnetSource | PublisherSource | FileSource | UrlSource


class Reply(Protocol):
    """What `load` needs of an HTTP reply."""

    @property
    def status(self) -> int: ...
    @property
    def body(self) -> bytes: ...


class Fetcher(Protocol):
    """The HTTP client's one method that is needed here (torrentfs.transports.http)."""

    async def get(
        self, url: str, *, max_bytes: int, timeout: float, headers: Mapping[str, str] | None = None
    ) -> Reply: ...


def shorten(text: str) -> str:
    """A source as an error message may repeat it: printable, on one line, not too long."""
    plain = "".join(c if c.isprintable() else "?" for c in text)
    return plain if len(plain) <= _SHOWN else plain[: _SHOWN - 1] + "…"


def parse_source(text: str) -> Source:
    """Tell which spelling `text` is; ConfigError or InvalidTorrent when it can be none."""
    if text.lower().startswith("magnet:"):
        publisher = parse_publisher(text)
        if publisher is not None:
            return PublisherSource(text, publisher)
        return MagnetSource(text, parse_magnet(text))
    if re.match(r"https?://[^/?#]", text, re.IGNORECASE):
        return UrlSource(text, text)
    if not text or "\0" in text:
        raise ConfigError("a source must not be empty: name a .torrent file, magnet or URL")
    path = Path(os.path.abspath(os.path.expanduser(text)))
    if not os.path.lexists(path):
        hashes = parse_info_hash(text)
        if hashes is not None:
            return MagnetSource(text, Magnet(hashes=hashes))
        scheme = re.match(r"([a-z][a-z0-9+.-]*)://", text, re.IGNORECASE)
        if scheme and scheme[1].lower() in ("http", "https"):
            raise ConfigError(f"{shorten(text)}: the URL names no host")
        if scheme:
            raise ConfigError(f"{shorten(text)}: cannot fetch {scheme[1]}://, only http and https")
        raise ConfigError(
            f"{shorten(text)}: no such file, and not a magnet link, http(s) URL or info-hash"
        )
    return FileSource(text, path)


def parse_info_hash(text: str) -> InfoHashes | None:
    """The hashes that 40 hex, 32 base32 or 64 hex digits spell, or None."""
    if re.fullmatch(r"[0-9a-fA-F]{40}", text):
        return InfoHashes(v1=bytes.fromhex(text))
    if re.fullmatch(r"[0-9a-fA-F]{64}", text):
        return InfoHashes(v2=bytes.fromhex(text))
    if re.fullmatch(r"[a-zA-Z2-7]{32}", text):
        return InfoHashes(v1=base64.b32decode(text.upper()))
    return None


async def load(
    source: FileSource | UrlSource | DataSource, client: Fetcher, *, timeout: float
) -> Metainfo:
    """Read and parse one torrent; `timeout` bounds a URL, in seconds."""
    if isinstance(source, DataSource):
        data = source.data
        if len(data) > MAX_TORRENT_BYTES:
            words = f"{format_size(len(data))} is too large for a .torrent file"
            raise InvalidTorrent(f"{shorten(source.text)}: {words}")
    elif isinstance(source, FileSource):
        # a file system that hangs must not hold up Ctrl-C
        data = await trio.to_thread.run_sync(read_torrent_file, source, abandon_on_cancel=True)
    else:
        data = await _download(source, client, timeout)
    # parsing 200,000 files takes a second: the loop goes on meanwhile
    return await trio.to_thread.run_sync(parse_torrent_of, source, data)


def parse_torrent_of(source: FileSource | UrlSource | DataSource, data: bytes) -> Metainfo:
    """Parse what `source` gave; InvalidTorrent names it."""
    try:
        return parse_torrent(data)
    except BencodingError as exc:
        raise InvalidTorrent(f"{shorten(source.text)}: damaged or cut short ({exc})") from exc
    except InvalidTorrent as exc:
        raise InvalidTorrent(f"{shorten(source.text)}: {exc}") from exc


def read_torrent_file(source: FileSource) -> bytes:
    """The bytes of a .torrent file, with a size limit; ConfigError when it cannot be read.

    Nothing but a regular file is opened: a pipe without a writer would be waited for.
    """
    shown = shorten(source.text)
    try:
        about = os.stat(source.path)
        if stat.S_ISDIR(about.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(about.st_mode):
            raise ConfigError(f"cannot read {shown}: not a regular file")
        size = about.st_size
        if size <= MAX_TORRENT_BYTES:
            with open(source.path, "rb") as file:
                data = file.read(MAX_TORRENT_BYTES + 1)
            size = len(data)
    except OSError as exc:
        reason = (exc.strerror or str(exc)).lower()
        raise ConfigError(f"cannot read {shown}: {reason}") from exc
    if size > MAX_TORRENT_BYTES:
        raise InvalidTorrent(f"{shown}: {format_size(size)} is too large for a .torrent file")
    return data


async def _download(source: UrlSource, client: Fetcher, timeout: float) -> bytes:
    shown = shorten(source.url)
    try:
        with trio.fail_after(timeout):
            reply = await client.get(source.url, max_bytes=MAX_METADATA_BYTES, timeout=timeout)
    except trio.TooSlowError:
        raise MetadataTimeout(f"{shown}: no answer in {round(timeout, 2):g} s") from None
    except TransportError as exc:
        raise ConfigError(f"cannot fetch {shown}: {exc}") from exc
    if reply.status != 200:
        raise ConfigError(f"cannot fetch {shown}: the server answered {reply.status}")
    return reply.body
