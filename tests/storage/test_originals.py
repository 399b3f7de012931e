"""Seeding in place: the bytes that were hashed or none, whatever happens to the files."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.swarm.payload import ODD_TREE, write_tree
from tests.swarm.torrents import Version
from torrentfs.errors import StorageError
from torrentfs.metainfo.torrent_file import Metainfo, build_torrent, parse_torrent
from torrentfs.storage import originals as module
from torrentfs.storage.base import PieceLost
from torrentfs.storage.descriptors import Descriptors
from torrentfs.storage.hashing import Recipe, builder_for, hash_payload
from torrentfs.storage.originals import (
    CHECK_SHARE,
    WATCH_SECONDS,
    WATCH_SHARE,
    Originals,
    originals_of,
)
from torrentfs.storage.payload import list_payload

PIECE = 65536
VERSIONS: tuple[Version, ...] = ("v1", "hybrid", "v2")
LARGE = "z/large.bin"


class Kit:
    """A tree that is shared, and what its owner is told."""

    def __init__(
        self, root: Path, version: Version, table: Descriptors | None = None, number: int = 0
    ) -> None:
        self.root = root
        payload = list_payload(root)
        builder = builder_for(payload, Recipe(version, PIECE))
        info, layers = hash_payload(payload, builder)
        self.metainfo: Metainfo = parse_torrent(build_torrent(info, layers))
        self.store = Originals(self.metainfo, originals_of(payload, self.metainfo), table, number)
        self.evicted: list[int] = []
        self.regained: list[int] = []
        self.store.on_evicted = self.evicted.extend
        self.store.on_regained = self.regained.extend
        self.space = bytearray(self.metainfo.geometry.num_pieces * PIECE)
        for file in self.metainfo.files:
            if not file.pad:
                data = root.joinpath(*file.path).read_bytes()
                self.space[file.start : file.start + file.length] = data

    def right(self, piece: int) -> bytes:
        start = piece * PIECE
        return bytes(self.space[start : start + self.metainfo.geometry.piece_size(piece)])

    def number(self, name: str) -> int:
        path = tuple(name.split("/"))
        return next(n for n, file in enumerate(self.metainfo.files) if file.path == path)

    def pieces(self, name: str) -> range:
        return self.metainfo.geometry.pieces_of_file(self.number(name))

    async def read(self, piece: int) -> bytes:
        return bytes(await self.store.read(piece, 0, self.metainfo.geometry.piece_size(piece)))

    async def check_everything(self) -> None:
        """Each piece is right, or lost and told to be."""
        for piece in range(self.metainfo.geometry.num_pieces):
            try:
                assert await self.read(piece) == self.right(piece)
                assert piece in self.store.have
            except PieceLost:
                assert piece not in self.store.have
                assert piece in self.evicted


@pytest.fixture(params=VERSIONS)
def kit(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kit]:
    made = Kit(write_tree(tmp_path / "t", ODD_TREE), request.param)
    yield made
    made.store.close()


async def test_everything_is_there(kit: Kit) -> None:
    assert kit.store.have.complete
    await kit.check_everything()
    assert kit.evicted == []
    statistics = kit.store.statistics()
    assert (statistics.have, statistics.unsure, statistics.disk_bytes) == (
        kit.store.have.count,
        0,
        0,
    )


async def test_parts_come_without_a_thread_once_a_file_is_open(kit: Kit) -> None:
    piece = kit.pieces(LARGE)[2]
    assert kit.store.read_nowait(piece, 100, 1000) is None
    await kit.read(piece)
    part = kit.store.read_nowait(piece, 100, 1000)
    if part is not None:  # some file systems cannot be asked
        assert bytes(part) == kit.right(piece)[100:1100]


async def test_what_is_put_is_not_written(kit: Kit) -> None:
    before = {path: path.stat() for path in kit.root.rglob("*")}
    await kit.store.put(0, bytearray(kit.right(0)))
    assert {path: path.stat() for path in kit.root.rglob("*")} == before


async def test_a_touched_file_is_checked_and_goes_on(kit: Kit) -> None:
    piece = kit.pieces(LARGE)[1]
    await kit.read(piece)
    os.utime(kit.root / LARGE)
    assert kit.store.read_nowait(piece, 0, 16) is None
    assert await kit.read(piece) == kit.right(piece)
    assert kit.store.statistics().unsure == len(kit.pieces(LARGE)) - 1
    await kit.check_everything()
    assert kit.evicted == []
    assert kit.store.statistics().unsure == 0


async def test_a_replaced_file_with_the_same_content_goes_on(kit: Kit) -> None:
    await kit.check_everything()
    place = kit.root / LARGE
    place.with_name("new").write_bytes(place.read_bytes())
    place.with_name("new").rename(place)
    await kit.check_everything()
    assert kit.evicted == []


async def test_a_changed_byte_costs_its_piece(kit: Kit) -> None:
    await kit.check_everything()
    victim = kit.pieces(LARGE)[3]
    file = kit.metainfo.files[kit.number(LARGE)]
    with (kit.root / LARGE).open("r+b") as changing:
        changing.seek(victim * PIECE - file.start + 5)
        changing.write(b"\0\0\0\0")
    await kit.check_everything()
    assert kit.evicted == [victim]
    with pytest.raises(PieceLost, match="not in the files"):
        await kit.read(victim)


@pytest.mark.parametrize("how", ["emptied", "cut", "gone", "directory", "unreadable"])
async def test_a_file_that_is_not_there_costs_its_pieces(kit: Kit, how: str) -> None:
    place = kit.root / LARGE
    await kit.read(kit.pieces(LARGE)[0])
    match how:
        case "emptied":
            place.write_bytes(b"")
        case "cut":
            os.truncate(place, 1_000_000)
        case "gone":
            place.unlink()
        case "directory":
            place.unlink()
            place.mkdir()
        case _:
            if os.geteuid() == 0:
                pytest.skip("root may read everything")
            place.chmod(0)
    await kit.check_everything()
    assert set(kit.evicted) <= set(kit.pieces(LARGE))
    assert kit.pieces(LARGE)[-2] in kit.evicted
    if how != "cut":
        assert set(kit.evicted) >= set(kit.pieces(LARGE)[1:-1])


def open_files() -> list[str]:
    return [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.exists()]


async def test_a_deleted_file_is_let_go_of(kit: Kit) -> None:
    place = kit.root / LARGE
    await kit.read(kit.pieces(LARGE)[1])
    place.unlink()
    with pytest.raises(PieceLost):
        await kit.read(kit.pieces(LARGE)[1])
    assert LARGE not in " ".join(open_files())


async def test_one_check_for_many_readers(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    piece = kit.pieces(LARGE)[4]
    await kit.read(piece)
    os.utime(kit.root / LARGE)
    checks = []
    examine = Originals.examine

    def counted(self: Originals, number: int) -> object:
        checks.append(number)
        return examine(self, number)

    monkeypatch.setattr(Originals, "examine", counted)
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(kit.read, piece)
    assert checks == [piece]


async def test_a_file_that_never_rests_is_given_up(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    piece = kit.pieces(LARGE)[4]
    read = Originals._read

    def disturbed(self: Originals, *args: int) -> bytearray:
        os.utime(kit.root / LARGE)
        return read(self, *args)

    monkeypatch.setattr(Originals, "_read", disturbed)
    with pytest.raises(PieceLost, match="keeps changing"):
        await kit.read(piece)
    assert kit.evicted == [piece]


@pytest.mark.expect_log("z/large.bin changed: 1 pieces")
async def test_a_look_finds_a_change_and_its_repair(kit: Kit) -> None:
    place = kit.root / LARGE
    victim = kit.pieces(LARGE)[1]
    offset = victim * PIECE - kit.metainfo.files[kit.number(LARGE)].start
    await kit.store.look()
    assert kit.store.have.complete
    for data, lost in [(b"\xff" * 4, [victim]), (kit.right(victim)[:4], [])]:
        with place.open("r+b") as changing:
            changing.seek(offset)
            changing.write(data)
        await kit.store.look()
        assert sorted(set(range(kit.store.have.size)) - set(kit.store.have)) == lost
    assert kit.evicted == kit.regained == [victim]
    await kit.check_everything()


@pytest.mark.expect_log("z/large.bin cannot be read: not shared for now")
async def test_a_look_finds_what_is_gone_and_back(kit: Kit) -> None:
    place = kit.root / LARGE
    aside = kit.root / "aside"
    for source, target, complete in [(place, aside, False), (aside, place, True)]:
        source.rename(target)
        await kit.store.look()
        await kit.store.look()  # says it once
        assert kit.store.have.complete == complete
    assert sorted(kit.evicted) == list(kit.pieces(LARGE))
    assert sorted(kit.regained) == list(kit.pieces(LARGE))


async def test_it_looks_again_and_again(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    begun: list[float] = []

    async def look(self: Originals) -> float:
        begun.append(trio.current_time())
        return 10.0 * len(begun)

    monkeypatch.setattr(Originals, "look", look)
    with trio.move_on_after(45):
        await kit.store.watch()
    assert begun == [0, 10, 30]


async def test_looking_and_checking_take_their_share_of_the_time(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    seconds = 1.0

    async def look(*_: object, **__: object) -> set[int]:
        await trio.sleep(seconds)
        return set()

    async def check(self: Originals, file: int, *, say_so: bool) -> None:
        await trio.sleep(100)

    monkeypatch.setattr(trio.to_thread, "run_sync", look)
    monkeypatch.setattr(Originals, "_check_file", check)
    assert await kit.store.look() == WATCH_SHARE * seconds
    kit.store._unreadable.add(kit.number(LARGE))
    assert await kit.store.look() == 100 * CHECK_SHARE
    kit.store._unreadable.clear()
    seconds = 0.01
    assert await kit.store.look() == WATCH_SECONDS


async def test_files_are_open_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_OPEN", 5)
    kit = Kit(write_tree(tmp_path / "t", {f"{n:03}": 100 for n in range(100)}), "v2")
    before = len(os.listdir("/proc/self/fd"))
    await kit.check_everything()
    assert len(os.listdir("/proc/self/fd")) - before <= 6
    kit.store.close()
    assert len(os.listdir("/proc/self/fd")) <= before


@contextlib.contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """As if this process could open so many more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft if soft < 4096 else 4096, hard))
    taken: list[int] = []

    def take_all() -> None:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))

    with pytest.raises(OSError, match="Too many open files"):
        take_all()
    for _ in range(count):
        os.close(taken.pop())
    try:
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_many_torrents_have_one_table(tmp_path: Path) -> None:
    """And where the process has fewer descriptors than that, no file is declared lost."""
    table = Descriptors(module.MAX_OPEN)
    kits = [
        Kit(write_tree(tmp_path / str(n), {f"{f:03}": 100 for f in range(64)}), "v2", table, n)
        for n in range(4)
    ]
    for room in (140, 20):
        with descriptors_left(room):
            for kit in kits:
                await kit.check_everything()
                assert kit.store.have.complete
    assert len(table) <= 128
    kits[0].store.close()
    assert len(table) > 0
    for kit in kits:
        kit.store.close()
    assert len(table) == 0


async def test_no_descriptor_at_all_costs_a_read_and_no_piece(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAUSES", (0, 0))
    piece = kit.pieces(LARGE)[1]
    for change in (lambda: None, lambda: os.utime(kit.root / LARGE)):
        change()
        with descriptors_left(0):
            for _ in range(9):
                with pytest.raises(StorageError, match="too many open files") as caught:
                    await kit.read(piece)
                assert not isinstance(caught.value, PieceLost)
    await kit.read(piece)
    os.utime(kit.root / LARGE)
    with descriptors_left(0):
        await kit.read(piece)  # the file that was open was closed, to be of use
    kit.store.close()
    with descriptors_left(0):
        assert await kit.store.look() >= WATCH_SECONDS
    assert kit.store.have.complete
    assert kit.store.statistics().unsure
    await kit.store.look()  # goes on with what could not be checked
    assert kit.store.statistics().unsure == 0
    await kit.check_everything()
    assert kit.evicted == []


@pytest.mark.expect_log("a part of ")
async def test_a_place_that_the_disk_does_not_give_costs_its_piece_until_it_does(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = kit.pieces(LARGE)[2:4]
    broken = True
    preadv = os.preadv

    def read(fd: int, buffers: list[memoryview], offset: int, *flags: int) -> int:
        file = kit.metainfo.files[kit.number(LARGE)]
        pieces = range((file.start + offset) // PIECE, (file.start + offset) // PIECE + 1)
        if broken and os.readlink(f"/proc/self/fd/{fd}").endswith(LARGE) and pieces[0] in bad:
            raise OSError(errno.EIO, "Input/output error")
        return preadv(fd, buffers, offset, *flags)

    monkeypatch.setattr(os, "preadv", read)
    await kit.check_everything()
    assert kit.evicted == list(bad)
    await kit.store.look()
    assert kit.regained == []
    broken = False
    await kit.store.look()
    assert kit.regained == list(bad)
    await kit.check_everything()
