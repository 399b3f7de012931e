"""Torrents that live in memory: what the vfs sees of the engine, without an engine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import trio

from torrentfs.errors import DataUnavailable
from torrentfs.metainfo.files import File
from torrentfs.metainfo.hashes import InfoHashes


@dataclass(frozen=True)
class FakeMetainfo:
    """The part of `Metainfo` that the vfs uses."""

    name: str
    hashes: InfoHashes
    files: tuple[File, ...]
    is_single_file: bool = False
    creation_date: int | None = None


def content_of(seed: str, offset: int, size: int) -> bytes:
    """Bytes `[offset, offset + size)` of an endless file that differs everywhere."""
    first, last = offset // 32, (offset + size + 31) // 32
    blocks = b"".join(
        hashlib.sha256(f"{seed}:{number}".encode()).digest() for number in range(first, last)
    )
    return blocks[offset - first * 32 :][:size]


@dataclass
class FakeVolume:
    """A torrent whose bytes follow from its name; reads can be held, cut short or failed."""

    metainfo: FakeMetainfo
    added: float = 1_700_000_000.0
    held: bool = False
    error: BaseException | None = None
    short: int = 0
    opened: list[int] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    reads: list[tuple[int, int, int]] = field(default_factory=list)
    blocked: int = 0
    data: Mapping[int, bytes] = field(default_factory=dict)
    _news: trio.Event = field(default_factory=trio.Event)

    async def read(self, file: int, offset: int, size: int) -> bytes | memoryview:
        self.reads.append((file, offset, size))
        while self.held and self.error is None:
            self.blocked += 1
            try:
                await self._news.wait()
            finally:
                self.blocked -= 1
        if self.error is not None:
            raise self.error
        if file in self.data:
            return memoryview(self.data[file])[offset : offset + size - self.short]
        return content_of(f"{self.metainfo.name}/{file}", offset, size - self.short)

    def let_go(self) -> None:
        self.held = False
        self._news.set()
        self._news = trio.Event()

    def fail_reads(self, reason: str) -> None:
        self.error = DataUnavailable(reason)
        self._news.set()
        self._news = trio.Event()

    def on_open(self, file: int) -> None:
        self.opened.append(file)

    def on_release(self, file: int) -> None:
        self.released.append(file)

    def xattrs(self) -> Mapping[str, str]:
        return {"state": "idle", "progress": "0.25"}


def volume(
    name: str,
    files: Iterable[tuple[str, int]] | int = 1000,
    *,
    key: str | None = None,
    added: float = 1_700_000_000.0,
    created: int | None = None,
    **more: object,
) -> FakeVolume:
    """A torrent called `name`: of one file of that many bytes, or of (path, length) pairs.

    A path may carry attributes (BEP 47) behind a `|`: `p` pad, `x` executable, `l=target` symlink.
    """
    v1 = hashlib.sha1((key or name).encode()).digest() if key is None else bytes.fromhex(key)
    table: list[File] = []
    start = 0
    if isinstance(files, int):
        table.append(File((), files, 0))
    else:
        for text, length in files:
            path, _, attributes = text.partition("|")
            link = attributes.partition("l=")[2] if "l=" in attributes else None
            table.append(
                File(
                    path=PurePosixPath(path).parts,
                    length=length,
                    start=start,
                    pad=attributes == "p",
                    executable=attributes == "x",
                    symlink=None if link is None else PurePosixPath(link).parts,
                )
            )
            start += length
    metainfo = FakeMetainfo(name, InfoHashes(v1=v1), tuple(table), isinstance(files, int), created)
    return FakeVolume(metainfo, added, **more)  # type: ignore[arg-type]
