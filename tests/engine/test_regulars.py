"""Who is kept for the next start, and that it is dialled before anybody is asked for peers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import trio
import trio.testing
from trio.testing import MockClock

from torrentfs.engine.regulars import EVERY, MOST, Regulars
from torrentfs.metainfo.hashes import InfoHashes
from torrentfs.scheduling.peerbook import PeerBook

HASHES = InfoHashes(v1=bytes(20))
A, B, C = ("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.3", 3)


@dataclass
class FakeCache:
    known: list[tuple[str, int]] = field(default_factory=list)
    kept: list[tuple[list[Any], list[Any], float]] = field(default_factory=list)
    gate: trio.Event | None = None

    async def peers(self, hashes: InfoHashes, now: float) -> list[tuple[str, int]]:
        assert hashes is HASHES
        return self.known

    async def keep_peers(
        self, hashes: InfoHashes, useful: Sequence[Any], unwanted: Sequence[Any], now: float
    ) -> None:
        if self.gate is not None:
            await self.gate.wait()
        self.kept.append((list(useful), list(unwanted), now))


@dataclass
class FakePeer:
    source: int
    address: tuple[str, int]
    downloaded: int = 0
    kind: str = "tcp"
    remote: tuple[str, int] = ("", 0)
    listen_port: int | None = None

    def __post_init__(self) -> None:
        self.remote = self.remote if self.remote[0] else self.address


class Case:
    """The regulars of a torrent, whose peers are `peers`."""

    def __init__(self, *peers: FakePeer, book: Sequence[tuple[str, int]] = (A, B, C)) -> None:
        self.peers = list(peers)
        self.cache = FakeCache()
        self.book = PeerBook()
        for address in book:
            self.book.add(address, "tracker", 0.0)
        self.regulars = Regulars(
            HASHES,
            cast("Any", self.cache),
            self.book,
            lambda: cast("Any", self.peers),
            clock=lambda: 1000.0,
        )

    async def kept(self) -> list[tuple[str, int]]:
        """Whom the next commit keeps."""
        self.cache.kept.clear()
        await self.regulars.keep()
        return self.cache.kept[0][0] if self.cache.kept else []


async def test_who_gave_data_is_kept_and_nobody_else() -> None:
    case = Case(FakePeer(1, A, downloaded=5), FakePeer(2, B))
    assert await case.kept() == [A]
    assert await case.kept() == []  # it gave nothing since
    case.peers[0].downloaded = case.peers[1].downloaded = 9
    assert await case.kept() == [A, B]


async def test_who_left_is_kept_too() -> None:
    case = Case()
    case.regulars.on_gone(cast("Any", FakePeer(1, A, downloaded=5)))
    case.regulars.on_gone(cast("Any", FakePeer(2, B)))
    assert await case.kept() == [A]
    assert "1 kept" in repr(case.regulars)


async def test_only_what_can_be_dialled_is_kept() -> None:
    caller, port = ("10.0.0.9", 54321), 6881
    case = Case(
        FakePeer(1, caller, downloaded=1),
        FakePeer(2, caller, downloaded=1, listen_port=port),
        FakePeer(3, A, downloaded=1, kind="webrtc"),
        FakePeer(4, ("seedbox.example", 7), downloaded=1, remote=C),
        book=[("seedbox.example", 7), A],
    )
    assert await case.kept() == [(caller[0], port), C]


async def test_who_was_banned_is_forgotten() -> None:
    case = Case(FakePeer(1, A, downloaded=1), FakePeer(2, B, downloaded=1))
    case.cache.known = [C, A]
    assert await case.regulars.recall() == [C, A]
    case.book.ban(A, "lied")
    await case.regulars.keep()
    assert case.cache.kept == [([B], [A], 1000.0)]
    assert await case.kept() == []


async def test_no_more_than_so_many_between_two_looks() -> None:
    peers = [FakePeer(n, ("10.1.0.1", n), downloaded=1) for n in range(1, 2 * MOST)]
    case = Case(*peers, book=[peer.address for peer in peers])
    assert await case.kept() == [peer.address for peer in peers[-MOST:]]


async def test_soon_and_now_and_then_and_at_the_end(autojump_clock: MockClock) -> None:
    case = Case(FakePeer(1, A, downloaded=1), FakePeer(2, B))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(case.regulars.run)
        await trio.sleep(15)
        assert [entry[0] for entry in case.cache.kept] == [[A]]
        case.peers[1].downloaded = 1
        await trio.sleep(EVERY)
        assert [entry[0] for entry in case.cache.kept] == [[A], [B]]
        case.peers[0].downloaded = 2
        nursery.cancel_scope.cancel()
    assert [entry[0] for entry in case.cache.kept] == [[A], [B], [A]]


async def test_an_end_while_it_is_written_loses_nobody(autojump_clock: MockClock) -> None:
    case = Case(FakePeer(1, A, downloaded=1))
    gate = case.cache.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(case.regulars.run)
        await trio.sleep(EVERY + 1)
        nursery.cancel_scope.cancel()
        gate.set()
    assert [entry[0] for entry in case.cache.kept] == [[A]]


async def test_a_disk_that_hangs_does_not_keep_a_mount_from_ending(
    autojump_clock: MockClock,
) -> None:
    case = Case(FakePeer(1, A, downloaded=1))
    case.cache.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(case.regulars.run)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began < 5.0
