"""The Python door: read a torrent without a mount.

    with torrentfs.open("magnet:?...") as torrent:            # or `async with`, and awaits
        for file in torrent:
            print(file.path, file.size)
        head = torrent["a/b.mkv"].read_at(0, 65536)

`open` takes what `torrentfs mount` takes, and as settings the options of it that are about
fetching (`cli.settings`). The verified pieces are kept where those of mounts are kept.

Asynchronous code gets the classes of this module; all else those of `torrentfs.sync`, which have
the same names and methods. With trio a torrent lives in the task that opened it. With asyncio
(notebooks!) it lives in the thread of `torrentfs.portal`, and awaiting it blocks no loop.

Whoever names a range wants that range: `read_at` and `read_many` fetch the pieces under it and
nothing else. `stream` reads on as a player does, with the read-ahead of a mount.

A read that cannot be answered is an `OSError` with `errno` and the reason; it waits no longer than
`read_timeout` without progress.
"""

from __future__ import annotations

import contextlib
import os
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import trio

from torrentfs.cli.settings import parse_settings
from torrentfs.daemon.opening import STREAMED, open_source
from torrentfs.daemon.outcome import cause_of
from torrentfs.daemon.ranges import Range
from torrentfs.daemon.sources import DataSource, parse_source, shorten
from torrentfs.errors import DataUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
    from types import TracebackType

    from torrentfs import sync
    from torrentfs.daemon.opening import Opened
    from torrentfs.daemon.sources import Source
    from torrentfs.engine.stats import TorrentStatistics

    Run = Callable[..., Awaitable[Any]]

F = TypeVar("F", bound="BaseFile")


Given = str | bytes | os.PathLike[str]
"""A source as it is given: as text, as a path, or a .torrent itself."""


def open(source: Given, **settings: Any) -> Opening:
    """A torrent to be opened by `with` or `async with`.

    `source` is a magnet link, .torrent file (or its bytes), http(s) URL of one, or info-hash.
    Settings are the options of `torrentfs mount` that are about fetching:
    `peer="192.0.2.7:6881"`, `cache_size="20G"`, `dht=False`. `ConfigError` and `InvalidTorrent`
    (both `ValueError`) say what is wrong with either.
    """
    return Opening(source, settings)


class Opening:
    """What `open` gives: entered, it becomes a `Torrent` of this module or of `torrentfs.sync`."""

    def __init__(self, source: Given, settings: dict[str, Any]) -> None:
        self._given = source
        self._settings = settings
        self._source = source_of(source)
        self._config = parse_settings(settings)
        self._stack = AsyncExitStack()
        self._open: sync.Torrent | None = None

    def __enter__(self) -> sync.Torrent:
        from torrentfs import sync

        self._open = sync.open(self._given, **self._settings)
        return self._open

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            self._open.close()

    async def __aenter__(self) -> Torrent:
        if not trio.lowlevel.in_trio_task():
            return await self._enter_asyncio()
        try:
            return await self._enter_trio()
        except Exception as error:
            await self._stack.aclose()
            raise cause_of(error) from None
        except BaseException as error:
            if await self._stack.__aexit__(type(error), error, error.__traceback__):
                raise RuntimeError("the session has ended") from error
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if error is None or isinstance(error, Exception):
            await self._stack.aclose()  # what the user raised reaches him as he raised it
            return None
        return await self._stack.__aexit__(kind, error, traceback)

    async def _enter_trio(self) -> Torrent:
        from torrentfs.engine.session import open_session

        session = await self._stack.enter_async_context(open_session(self._config.session))
        opened = await open_source(session, self._source, self._config)
        return Torrent(opened, _here)

    async def _enter_asyncio(self) -> Torrent:
        import asyncio

        from torrentfs.portal import Portal

        portal = Portal.of_process()

        async def run(function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
            return await asyncio.wrap_future(portal.submit(function, *args))

        lease = await run(portal.open_there, self._source, self._config)

        async def close() -> None:
            await asyncio.wrap_future(lease.give_back())

        self._stack.push_async_callback(close)
        return Torrent(lease.opened, run)

    def __repr__(self) -> str:
        return f"<Opening of {shorten(self._source.text)!r}>"


async def _here(function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    return await function(*args)


class BaseFile:
    """A file of an open torrent: what is known of it without reading."""

    def __init__(self, torrent: BaseTorrent[Any], path: str) -> None:
        self._torrent = torrent
        self.path = path
        self.number: int = torrent._contents.number(path)
        """Its number in the torrent."""
        self.size: int = torrent._contents.size(path)

    @property
    def grid(self) -> tuple[int, int]:
        """Where the file begins and how long a unit is, of what is fetched as a whole, in bytes."""
        opened = self._torrent._opened
        return opened.torrent.metainfo.geometry.file_starts[self.number], opened.ranges.unit

    def __repr__(self) -> str:
        return f"<File {self.path!r} of {self._torrent.name!r}, {self.size} bytes>"


class BaseTorrent(Generic[F]):
    """An open torrent: names and sizes, which are known without asking anybody.

    Iterating gives its files, in the torrent's order; `torrent[path]` one of them. Paths have `/`
    between names and are without the torrent's own; a single-file torrent has its one file.
    """

    _file: type[F]

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._contents = opened.contents
        self.name: str = opened.contents.name
        self.info_hash: str = opened.key

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(map(self._contents.size, self._contents.files))

    @property
    def files(self) -> list[F]:
        """All files."""
        return list(self)

    @property
    def created(self) -> datetime | None:
        """When it was made, as it says."""
        said = self._opened.torrent.metainfo.creation_date
        try:
            return None if said is None else datetime.fromtimestamp(said, UTC)
        except (OverflowError, ValueError, OSError):  # any integer can be in a torrent
            return None

    def is_directory(self, path: str) -> bool:
        """Whether `path` is a directory; the empty one is the torrent itself."""
        return self._contents.is_directory(path)

    def list_directory(self, path: str = "") -> list[str]:
        """The paths of what is in a directory; `FileNotFoundError`."""
        return [child for _, child in self._contents.children(path)]

    def __iter__(self) -> Iterator[F]:
        return (self._file(self, path) for path in self._contents.files)

    def __len__(self) -> int:
        return len(self._contents.files)

    def __contains__(self, path: object) -> bool:
        return path in self._contents.files

    def __getitem__(self, path: str) -> F:
        """One file; `FileNotFoundError` says what there is."""
        return self._file(self, path)

    def __repr__(self) -> str:
        return f"<Torrent {self.name!r}, {len(self)} files>"


class File(BaseFile):
    """A file of an open torrent."""

    _torrent: Torrent

    async def read_at(self, offset: int, size: int) -> bytes:
        """The bytes `[offset, offset + size)`, fewer at the end of the file."""
        check_range(offset, size)
        with as_os_error(self.path):
            run, opened = self._torrent._run, self._torrent._opened
            return bytes(await run(opened.ranges.read, self.number, offset, size))

    async def read(self) -> bytes:
        """All of it."""
        return await self.read_at(0, self.size)

    async def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of each `(offset, size)`; they are fetched together."""
        wanted = [Range(self.number, *check_range(offset, size)) for offset, size in ranges]
        with as_os_error(self.path):
            answers = await self._torrent._run(self._torrent._opened.ranges.read_many, wanted)
            return list(map(or_raise, answers))

    async def stream(self, offset: int = 0, size: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `offset` on, in order and with read-ahead, some hundred KiB at a time."""
        check_range(offset, size or 0)
        end = self.size if size is None else min(self.size, offset + size)
        with as_os_error(self.path):
            while offset < end:
                read = self._torrent._opened.read_on
                data = await self._torrent._run(
                    read, self.number, offset, min(STREAMED, end - offset)
                )
                offset += len(data)
                yield data


class Torrent(BaseTorrent[File]):
    """An open torrent, for asynchronous code."""

    _file = File

    def __init__(self, opened: Opened, run: Run) -> None:
        super().__init__(opened)
        self._run = run

    async def statistics(self) -> TorrentStatistics:
        """What it has, what was fetched from whom, at this moment."""

        async def ask() -> TorrentStatistics:
            return self._opened.torrent.statistics()  # type: ignore[no-any-return]

        return await self._run(ask)  # type: ignore[no-any-return]


def source_of(given: Given) -> Source | DataSource:
    """What is meant; the errors are those of `parse_source`."""
    if isinstance(given, bytes):
        return DataSource("the .torrent given", given)
    return parse_source(os.fspath(given))


def check_range(offset: int, size: int) -> tuple[int, int]:
    """The two, if they can mean a range."""
    if offset < 0 or size < 0:
        raise ValueError(f"no range: offset {offset}, size {size}")
    return offset, size


def or_raise(answer: bytes | DataUnavailable) -> bytes:
    """An answer of `Ranges.read_many`."""
    if isinstance(answer, DataUnavailable):
        raise answer
    return answer


@contextlib.contextmanager
def as_os_error(path: str) -> Iterator[None]:
    """Say `DataUnavailable` as all that reads files says it."""
    try:
        yield
    except DataUnavailable as error:
        raise OSError(error.errno, str(error), path) from error
