"""Who parts when somebody calls and there is no place."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock

from tests.engine.kit import rig
from torrentfs.engine import dialling
from torrentfs.engine.crowding import SETTLED, make_place
from torrentfs.errors import TransportError
from torrentfs.metainfo.bitfield import Bitfield


@dataclass
class FakePeer:
    pieces: Bitfield
    they_are_interested: bool = False
    connected_at: float = 0.0
    last_received: float = 0.0
    closed: list[str] = field(default_factory=list)

    def close(self, reason: str) -> None:
        self.closed.append(reason)


FULL, HALF = Bitfield.full(8), Bitfield(8, range(4))


def parted(have: Bitfield, *peers: FakePeer) -> list[int]:
    made = make_place(have, peers)  # type: ignore[arg-type]
    gone = [number for number, peer in enumerate(peers) if peer.closed]
    assert made is bool(gone)
    return gone


async def test_the_seed_that_was_silent_for_longest(autojump_clock: MockClock) -> None:
    await trio.sleep(100)
    one, other = FakePeer(FULL, last_received=50), FakePeer(FULL, last_received=20)
    assert parted(FULL, FakePeer(HALF), one, other) == [2]
    assert other.closed == ["both have everything"]


async def test_nobody_while_we_lack_something(autojump_clock: MockClock) -> None:
    await trio.sleep(100)
    assert parted(HALF, FakePeer(FULL)) == []


async def test_nobody_who_wants_or_lacks_something_or_has_just_come(
    autojump_clock: MockClock,
) -> None:
    await trio.sleep(100)
    new = FakePeer(FULL, connected_at=trio.current_time() - SETTLED / 2)
    assert parted(FULL, FakePeer(HALF), FakePeer(FULL, they_are_interested=True), new) == []


async def test_who_calls_again_finds_a_place(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialled: list[str] = []

    async def refuse(host: str, port: int, *, bind: object) -> None:
        await trio.lowlevel.checkpoint()
        dialled.append(host)
        raise TransportError("connection refused")

    monkeypatch.setattr(dialling, "open_tcp", refuse)
    async with rig(have=None, max_peers=1, tcp=True) as r:
        await r.connect(have=None)  # a seed, which we have no use for
        await trio.sleep(SETTLED + 1)
        r.swarm.add_peers([("198.51.100.1", 6881)], "tracker")  # who would take the place at once
        [seed] = r.torrent.peers()
        await r.connect(have=False)
        await trio.sleep(1)
        assert r.torrent.peers() == []  # both were sent away
        await r.connect(have=[1])
        [peer] = r.torrent.peers()
        assert peer is not seed
        assert dialled == []
