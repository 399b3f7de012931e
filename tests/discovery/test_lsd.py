"""Local discovery: who is told what, how often, and what is believed; then over loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from torrentfs.discovery import lsd
from torrentfs.discovery.lsd import INTERVAL, MAX_HEARD, SPACING, Link, LocalDiscovery, open_links
from torrentfs.transports.base import Address
from torrentfs.transports.binding import Footing
from torrentfs.wire.lsd import GROUP4, GROUP6, MOST, LocalAnnounce, parse_announce, write_announce

ONE, TWO = b"1" * 20, b"2" * 20


class FakeSocket:
    """Notes what is sent with its time; gives what is put in."""

    def __init__(self) -> None:
        self.sent: list[tuple[float, LocalAnnounce]] = []
        self.put, self._got = trio.open_memory_channel[tuple[bytes, Any] | OSError](100)
        self.closed = False
        self.broken = False

    async def sendto(self, data: bytes, address: Any) -> int:
        await trio.lowlevel.checkpoint()
        assert address in (GROUP4, GROUP6)
        if self.broken:
            raise OSError(101, "x")
        self.sent.append((trio.current_time(), parse_announce(data)))
        return len(data)

    async def recvfrom(self, size: int) -> tuple[bytes, Any]:
        got = await self._got.receive()
        if isinstance(got, OSError):
            raise got
        return got

    def close(self) -> None:
        self.closed = True


class Heard:
    def __init__(self) -> None:
        self.peers: list[Address] = []
        self.any = trio.Event()

    def __call__(self, peers: Sequence[Address], origin: str) -> None:
        assert origin == "lsd"
        self.peers += peers
        self.any.set()


@asynccontextmanager
async def running() -> AsyncIterator[tuple[LocalDiscovery, FakeSocket]]:
    link = FakeSocket()
    discovery = LocalDiscovery(6881, [Link(link, GROUP4, False)])
    async with trio.open_nursery() as nursery:
        await nursery.start(discovery.run)
        yield discovery, link
        nursery.cancel_scope.cancel()
    assert link.closed


async def test_announced_at_once_and_every_five_minutes(autojump_clock: MockClock) -> None:
    async with running() as (discovery, link):
        discovery.add([ONE, TWO], Heard())
        await trio.sleep(2 * INTERVAL + 10)
        times = [round(when) for when, _ in link.sent]
        assert times == [0, round(INTERVAL), round(2 * INTERVAL)]
        assert {announce.info_hashes for _, announce in link.sent} == {(ONE, TWO)}
        assert {announce.port for _, announce in link.sent} == {6881}
        discovery.remove([ONE, TWO])
        await trio.sleep(3 * INTERVAL)
        assert len(link.sent) == discovery.announces == 3


async def test_no_more_than_one_datagram_a_minute(autojump_clock: MockClock) -> None:
    async with running() as (discovery, link):
        for number in range(3 * MOST):
            discovery.add([number.to_bytes(20)], Heard())
        await trio.sleep(10)
        assert len(link.sent) == 1  # those that came together went together
        await trio.sleep(INTERVAL - 20)
        gaps = [b[0] - a[0] for a, b in zip(link.sent, link.sent[1:], strict=False)]
        assert len(link.sent) == 3
        assert min(gaps) >= SPACING
        told = [info_hash for _, announce in link.sent for info_hash in announce.info_hashes]
        assert len(set(told)) == 3 * MOST


async def test_who_is_heard(autojump_clock: MockClock) -> None:
    async with running() as (discovery, link):
        heard = Heard()
        discovery.add([ONE], heard)

        def say(*hashes: bytes, port: int = 7, cookie: str = "", host: str = "192.0.2.5") -> None:
            data = write_announce(LocalAnnounce(port, hashes, cookie))
            link.put.send_nowait((data, (host, 6771)))

        say(TWO)
        say(ONE, TWO)
        say(ONE, cookie=discovery._cookie)
        say(ONE, port=6881, host="127.0.0.1")  # ourselves, by another copy of the cookie
        link.put.send_nowait((b"nonsense", ("192.0.2.5", 6771)))
        link.put.send_nowait(OSError(100, "x"))
        say(ONE, port=8, host="fe80::1%lo")
        await trio.sleep(5)
        assert heard.peers == [("192.0.2.5", 7), ("fe80::1%lo", 8)]
        assert discovery.heard == 2
        for port in range(1, 2 * MAX_HEARD):
            say(ONE, port=port)
        await trio.sleep(0.5)
        assert len(heard.peers) == 2 + MAX_HEARD


async def test_a_network_that_is_down_is_no_error(autojump_clock: MockClock) -> None:
    async with running() as (discovery, link):
        link.broken = True
        discovery.add([ONE], Heard())
        await trio.sleep(10)
        link.broken = False
        await trio.sleep(INTERVAL)
        assert len(link.sent) == 1
        assert "1 torrents" in repr(discovery)


async def test_a_torrent_that_goes_before_its_announce_says_nothing(
    autojump_clock: MockClock,
) -> None:
    async with running() as (discovery, link):
        discovery.add([ONE], Heard())
        await trio.sleep(1)
        discovery.remove([ONE])
        await trio.sleep(304)  # when it would have been due again
        discovery.add([TWO], Heard())
        await trio.sleep(10)
        told = [(round(when), announce.info_hashes) for when, announce in link.sent]
        assert told == [(0, (ONE,)), (305, (TWO,))]


async def test_on_another_network_all_are_announced_and_heard_anew(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, stands = FakeSocket(), FakeSocket(), [Footing(3, "10.0.0.2", None, "")]
    links = iter([Link(first, GROUP4, False), Link(second, GROUP4, False)])
    monkeypatch.setattr(lsd, "look", lambda bind: stands[-1])
    monkeypatch.setattr(lsd, "open_links", lambda bind: [next(links)])
    discovery, heard = LocalDiscovery(6881, bind="%vpn0"), Heard()
    async with trio.open_nursery() as nursery:
        await nursery.start(discovery.run)
        discovery.add([ONE], heard)
        await trio.sleep(1)
        assert discovery.follow() == ""
        assert not first.closed
        stands.append(Footing(0, None, None, "the interface vpn0 is gone"))
        discovery.follow()
        assert first.closed
        await trio.sleep(100)
        stands.append(Footing(4, "10.0.0.2", None, ""))
        discovery.follow()
        await trio.sleep(1)
        assert [announce.info_hashes for _, announce in second.sent] == [(ONE,)]
        second.put.send_nowait((write_announce(LocalAnnounce(7, (ONE,))), ("10.0.0.9", 6771)))
        await trio.sleep(1)
        assert heard.peers == [("10.0.0.9", 7)]
        nursery.cancel_scope.cancel()
    assert second.closed


async def test_an_address_that_nobody_has_leaves_nothing_open() -> None:
    assert open_links("192.0.2.77") == []
    assert open_links("2001:db8::77") == []
    assert open_links("127.0.0.1%nosuchdevice") == []


@pytest.mark.real
@pytest.mark.parametrize("bind", ["127.0.0.1", "127.0.0.1%lo"])
async def test_two_on_one_host_find_each_other(bind: str) -> None:
    host = "127.0.0.1"  # over ::1 the kernel has no route for multicast
    heard = [Heard(), Heard()]
    both = [LocalDiscovery(port, open_links(bind)) for port in (7001, 7002)]
    assert all(discovery._links for discovery in both)
    async with trio.open_nursery() as nursery:
        for discovery, ears in zip(both, heard, strict=True):
            await nursery.start(discovery.run)
            discovery.add([ONE], ears)
        with trio.fail_after(10):
            for ears in heard:
                await ears.any.wait()
        nursery.cancel_scope.cancel()
    assert [ears.peers for ears in heard] == [[(host, 7002)], [(host, 7001)]]
