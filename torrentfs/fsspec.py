"""`torrent://` for everything that reads through fsspec: pandas, pyarrow, DuckDB, Dask, xarray.

    torrent://<info-hash>/path                                  by its hash, in 40 or 64 digits
    torrent://path,  storage_options={"source": SOURCE}         SOURCE as `torrentfs mount` takes it
    torrent://path::https://example.org/x.torrent               a .torrent that fsspec can read

All other storage options are the settings of `torrentfs.open`. Paths are those inside the torrent.

Ranges are fetched as asked for: with their pieces and no read-ahead, many of them together
(`cat_ranges`). Files keep no block of 5 MiB around a read as other file systems of fsspec do: the
torrent's own cache has the pieces, in memory and on disk. A file keeps what is in the piece (or
block, of a v2 torrent) behind the last small read, as that was fetched with it anyway; so a
program that reads eight bytes at a time is served well and nothing is fetched for it. Who asks
for another of fsspec's caches (`cache_type`) gets it.

(The option is not called `torrent`: fsspec takes one of a protocol's name for all of its options,
as a chain needs them: `{"torrent": {"peer": ...}, "s3": {...}}`.)

A file system is named by what it was made from, and can be pickled: each process opens the torrent
for itself. Content never changes, so nothing is ever invalidated.
"""

from __future__ import annotations

import errno
import os
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

import fsspec
from fsspec.caching import BaseCache, register_cache
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from torrentfs import sync
from torrentfs.cli.settings import parse_settings
from torrentfs.daemon.sources import parse_info_hash
from torrentfs.errors import ConfigError, DataUnavailable
from torrentfs.metainfo.geometry import BLOCK_LENGTH
from torrentfs.metainfo.limits import MAX_TORRENT_BYTES

if TYPE_CHECKING:
    from torrentfs.engine.stats import TorrentStatistics

_OF_FSSPEC = frozenset(
    {"asynchronous", "loop", "use_listings_cache", "listings_expiry_time", "max_paths"}
)
"""Storage options that fsspec gives to every file system."""

_SMALL = 64 * 1024
"""Bytes below which a read takes along what was fetched with it."""

_ANYWHERE = frozenset({"http", "https", "file", "local"})
"""Where torrentfs reads a .torrent itself: through the proxy that it is told to use."""


class TorrentFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """The files of one torrent, read-only."""

    protocol = "torrent"
    root_marker = ""

    def __init__(
        self,
        source: str | None = None,
        *,
        fo: str | None = None,
        target_protocol: str | None = None,
        target_options: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        """`fo` and the two behind it are how fsspec says what follows `::` in a URL.

        Nothing is opened yet; a setting that there is not is a `ConfigError` at once.
        """
        if self._cached:
            return
        ours = {name: value for name, value in settings.items() if name not in _OF_FSSPEC}
        super().__init__(**{name: settings[name] for name in settings if name in _OF_FSSPEC})
        if fo is not None and source is not None:
            raise ConfigError(f"two torrents are named: {source} and {fo}")
        if fo is None and source is None:
            raise ConfigError(
                "which torrent? torrent://INFO-HASH/PATH, torrent://PATH::FILE.torrent, "
                'or storage_options={"source": "magnet:..."}'
            )
        parse_settings(ours)
        self._source = source
        self._target = (fo, target_protocol, target_options or {})
        self._settings = ours
        self._opened: tuple[int, sync.Torrent] | None = None
        self._lock = threading.Lock()

    # -- URLs

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        text = str(os.fspath(path))
        rest = text.removeprefix("torrent://").removeprefix("torrent::")
        if rest != text and _hash_in(text) is not None:
            rest = rest.partition("/")[2]
        return rest.strip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        found = _hash_in(path)
        return {} if found is None else {"source": found}

    def unstrip_protocol(self, name: str) -> str:
        """The URL of a path, with the info-hash where it is named by that."""
        if name.startswith("torrent://"):
            return name
        named = self._source is not None and parse_info_hash(self._source) is not None
        return f"torrent://{self._source}/{name}" if named else f"torrent://{name}"

    # -- the torrent

    @property
    def torrent(self) -> sync.Torrent:
        """The open torrent, opened at the first use in this process."""
        with self._lock:
            if self._opened is None or self._opened[0] != os.getpid():
                source = self._source if self._source is not None else self._chained()
                self._opened = os.getpid(), sync.open(source, **self._settings)
            return self._opened[1]

    def _chained(self) -> str | bytes:
        fo, protocol, options = self._target
        assert fo is not None
        if protocol in _ANYWHERE and not options:
            return fo
        with fsspec.open(fo, protocol=protocol, **options) as file:
            data: bytes = file.read(MAX_TORRENT_BYTES + 1)
        return data

    def statistics(self) -> TorrentStatistics:
        """What it has, what was fetched from whom, in this process and at this moment."""
        return self.torrent.statistics()

    def close(self) -> None:
        """Close the torrent; the next use opens it again."""
        with self._lock:
            if self._opened is not None:
                self._opened[1].close()
                self._opened = None

    # -- names

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """`name`, `size`, `type`, and the `info_hash`, which with the name says what is in it."""
        path = self._strip_protocol(path)
        torrent = self.torrent
        if path in torrent:
            size = torrent[path].size
            return {
                "name": path, "size": size, "type": "file", "info_hash": torrent.info_hash
            }  # fmt: skip
        if torrent.is_directory(path):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(errno.ENOENT, f"no such file in {torrent.name}", path)

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """What is in a directory, or the file itself."""
        path = self._strip_protocol(path)
        torrent = self.torrent
        paths = [path] if path in torrent else torrent.list_directory(path)
        return [self.info(each) for each in paths] if detail else paths

    def created(self, path: str) -> datetime:
        """When the torrent was made, as it says; 1970 when it does not."""
        self.info(path)
        return self.torrent.created or datetime.fromtimestamp(0, UTC)

    def modified(self, path: str) -> datetime:
        """The same: content never changes."""
        return self.created(path)

    # -- bytes

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        """The bytes of a range, negative places counted from the end; nothing else is fetched."""
        file = self.torrent[self._strip_protocol(path)]
        offset, size = _range(file.size, start, end)
        return file.read_at(offset, size)

    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[Any]:
        """Many ranges, fetched together; `max_gap` means nothing: it is pieces that are fetched."""
        if not isinstance(paths, list):
            raise TypeError("paths must be a list")
        starts = starts if isinstance(starts, list) else [starts] * len(paths)
        ends = ends if isinstance(ends, list) else [ends] * len(paths)
        if len(starts) != len(paths) or len(ends) != len(paths):
            raise ValueError("paths, starts and ends must be of one length")
        torrent = self.torrent
        answers: list[Any] = []
        wanted: dict[int, tuple[str, int, int]] = {}
        for place, (path, start, end) in enumerate(zip(paths, starts, ends, strict=True)):
            path = self._strip_protocol(path)
            try:
                wanted[place] = (path, *_range(torrent[path].size, start, end))
                answers.append(b"")
            except OSError as error:
                answers.append(error)
        found = torrent.read_ranges(list(wanted.values()))
        for (place, (path, _, _)), answer in zip(wanted.items(), found, strict=True):
            if isinstance(answer, DataUnavailable):
                answers[place] = OSError(answer.errno, str(answer), path)
            else:
                answers[place] = answer
        for answer in answers:
            if isinstance(answer, OSError) and on_error == "raise":
                raise answer
        return answers

    def cat(
        self, path: Any, recursive: bool = False, on_error: str = "raise", **kwargs: Any
    ) -> Any:
        """Files whole, all of them fetched together."""
        paths = self.expand_path(path, recursive=recursive)
        if (
            len(paths) == 1
            and not isinstance(path, list)
            and paths[0] == self._strip_protocol(path)
        ):
            return self.cat_file(paths[0], **kwargs)
        files = [each for each in paths if self.isfile(each)]
        start, end = kwargs.get("start"), kwargs.get("end")
        how = "raise" if on_error == "raise" else "return"
        answers = self.cat_ranges(files, start, end, on_error=how)
        return {
            path: answer
            for path, answer in zip(files, answers, strict=True)
            if on_error != "omit" or not isinstance(answer, OSError)
        }

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> TorrentFile:
        if mode != "rb":
            self._refuse(path)
        return TorrentFile(self, path, block_size=block_size, cache_options=cache_options, **kwargs)

    def _refuse(self, path: str, *args: Any, **kwargs: Any) -> NoReturn:
        """Whatever would change something."""
        raise OSError(errno.EROFS, "a torrent cannot be written to", path)

    mkdir = makedirs = rmdir = rm_file = _rm = cp_file = touch = _refuse


class TorrentFile(AbstractBufferedFile):  # type: ignore[misc]
    """An open file."""

    def __init__(
        self,
        fs: TorrentFileSystem,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        cache_type: str = "torrent",
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        file = fs.torrent[path]
        self._following = sync.Following(file)
        if cache_type == PieceCache.name:
            cache_options = dict(zip(("start", "unit"), file.grid, strict=True))
        super().__init__(
            fs,
            path,
            mode,
            block_size,
            cache_type=cache_type,
            cache_options=cache_options,
            size=file.size,
            **kwargs,
        )

    def _fetch_range(self, start: int, end: int) -> bytes:
        parts = []
        end = min(end, self.size)
        while start < end:
            parts.append(self._following.read(start, end - start))
            start += len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """As of any file."""
        if not self.closed:
            self._following.close()
        super().close()


class PieceCache(BaseCache):  # type: ignore[misc]
    """What came with the last small read, up to the end of its piece or block."""

    name = "torrent"

    def __init__(
        self, blocksize: int, fetcher: Any, size: int, start: int = 0, unit: int = BLOCK_LENGTH
    ) -> None:
        """`start` of the file in units of `unit` bytes, which are fetched as a whole."""
        super().__init__(blocksize, fetcher, size)
        self._start = start
        self._unit = unit
        self._place = 0
        self._data = b""

    def _fetch(self, start: int | None, stop: int | None) -> bytes:
        start = start or 0
        stop = self.size if stop is None else min(stop, self.size)
        if start >= stop:
            return b""
        if self._place <= start and stop <= self._place + len(self._data):
            return self._data[start - self._place : stop - self._place]
        if stop - start >= _SMALL:
            data: bytes = self.fetcher(start, stop)
            return data
        border = -(-(self._start + stop) // self._unit) * self._unit - self._start
        self._data = self.fetcher(start, min(border, stop + _SMALL, self.size))
        self._place = start
        return self._data[: stop - start]


register_cache(PieceCache, clobber=True)


def _hash_in(url: str) -> str | None:
    """The info-hash that a URL begins with, if any."""
    if not url.startswith("torrent://"):
        return None
    host = url.removeprefix("torrent://").partition("/")[0]
    return host if parse_info_hash(host) is not None else None


def _range(size: int, start: int | None, end: int | None) -> tuple[int, int]:
    """Offset and size of a slice of `size` bytes."""
    first, last, _ = slice(start, end).indices(size)
    return first, max(0, last - first)
