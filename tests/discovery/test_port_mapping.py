"""Keeping ports mapped: order of the ways, renewals, failures, and the end."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from torrentfs.discovery.port_mapping import (
    END_TIME,
    LONGEST_RETRY,
    MAP_TIME,
    RETRY,
    Port,
    PortMapping,
)
from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.wire.port_control import Mapped, Protocol

PORTS = (Port("tcp", 6881), Port("udp", 6881))


class FakeWay:
    """A gateway that does as it is told, and remembers when it was asked for what."""

    def __init__(self, *, lifetime: int = 7200, shift: int = 0, error: str = "") -> None:
        self.lifetime, self.shift, self.error = lifetime, shift, error
        self.silent = False
        self.asked: list[tuple[float, Protocol, int, int]] = []
        self.open: set[tuple[Protocol, int]] = set()

    async def map(self, protocol: Protocol, port: int, external: int, lifetime: int) -> Mapped:
        self.asked.append((trio.current_time(), protocol, external, lifetime))
        await trio.lowlevel.checkpoint()
        if self.silent:
            await trio.sleep_forever()
        if self.error:
            raise RemoteProtocolError(self.error)
        if not lifetime:
            self.open.discard((protocol, external))
            return Mapped(protocol, port, external, 0, 1, None)
        external = port + self.shift
        self.open.add((protocol, external))
        return Mapped(protocol, port, external, self.lifetime, 1, "203.0.113.7")


class Setting:
    def __init__(self, **ways: FakeWay) -> None:
        self.ways = ways
        self.mapped: list[tuple[Protocol, int]] = []
        self.mapping = PortMapping(PORTS, self.find, lambda *told: self.mapped.append(told))

    def find(self) -> Sequence[tuple[str, FakeWay]]:
        return list(self.ways.items())

    async def run(self, seconds: float) -> None:
        """Run for so long, then end it."""
        with trio.move_on_after(seconds):
            await self.mapping.run()


async def test_the_first_way_that_works_is_kept_and_renewed(autojump_clock: MockClock) -> None:
    bad, good = FakeWay(error="no"), FakeWay(lifetime=1000, shift=5)
    setting = Setting(pcp=bad, upnp=good)
    await setting.run(1100)
    assert len(bad.asked) == 1  # not again once the other worked
    renewals = [
        when for when, protocol, _, lifetime in good.asked if protocol == "tcp" and lifetime
    ]
    assert [round(when - renewals[0]) for when in renewals] == [0, 500, 1000]
    assert [external for *_, external, _ in good.asked[2:4]] == [6886, 6886]  # the same again
    assert setting.mapped == [("tcp", 6886), ("udp", 6886)]  # told once
    assert good.open == set()  # and taken away at the end


async def test_a_gateway_with_tiny_lifetimes_is_not_asked_all_the_time(
    autojump_clock: MockClock,
) -> None:
    way = FakeWay(lifetime=1)
    await Setting(pcp=way).run(301)
    assert sum(1 for _, protocol, _, lifetime in way.asked if protocol == "tcp" and lifetime) == 6


async def test_no_gateway_is_no_error_and_asked_for_ever_more_rarely(
    autojump_clock: MockClock,
) -> None:
    way = FakeWay(error="the gateway does not permit it")
    setting = Setting(pcp=way)
    await setting.run(RETRY * 7 + 1)
    assert [when - way.asked[0][0] for when, *_ in way.asked] == [0, RETRY, 3 * RETRY, 7 * RETRY]
    seen = setting.mapping.statistics()
    assert (seen.ports, seen.way) == ((), None)
    assert seen.last_error == "pcp: the gateway does not permit it"
    assert LONGEST_RETRY > 7 * RETRY


async def test_without_any_way(autojump_clock: MockClock) -> None:
    setting = Setting()
    await setting.run(1)
    assert setting.mapping.statistics().last_error == "there is no gateway"


async def test_a_way_that_hangs_costs_its_time_only(autojump_clock: MockClock) -> None:
    stuck, good = FakeWay(), FakeWay()
    stuck.silent = True
    setting = Setting(pcp=stuck, upnp=good)
    await setting.run(MAP_TIME + 1)
    seen = setting.mapped
    assert seen == [("tcp", 6881), ("udp", 6881)]


async def test_a_gateway_that_hangs_at_the_end_does_not_hold_us_up(
    autojump_clock: MockClock,
) -> None:
    way = FakeWay()
    setting = Setting(pcp=way)

    async def hang_later() -> None:
        await trio.sleep(1)
        way.silent = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hang_later)
        await setting.run(2)
        assert trio.current_time() < 1e9
        began = min(when for when, *_ in way.asked)
        assert trio.current_time() - began <= 2 + END_TIME + 0.1


async def test_a_way_that_stops_working_makes_room_for_another(autojump_clock: MockClock) -> None:
    first, second = FakeWay(), FakeWay(shift=1)
    setting = Setting(pcp=first, upnp=second)

    async def move_away() -> None:
        await trio.sleep(100)
        first.error = "gone"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(move_away)
        with trio.move_on_after(3700):
            await setting.mapping.run()
        assert setting.mapped[-2:] == [("tcp", 6882), ("udp", 6882)]
        seen = setting.mapping.statistics()
        assert seen.way == "upnp"
        assert seen.address == "203.0.113.7"
        assert seen.ports == (("tcp", 6881, 6882), ("udp", 6881, 6882))


async def test_transport_errors_count_as_refusals(autojump_clock: MockClock) -> None:
    class Down(FakeWay):
        async def map(self, protocol: Protocol, port: int, external: int, lifetime: int) -> Mapped:
            raise TransportError("network is unreachable")

    setting = Setting(pcp=Down(), upnp=FakeWay())
    await setting.run(1)
    assert setting.mapped[0] == ("tcp", 6881)


@pytest.mark.expect_log("a bug while asking the gateway")
async def test_a_bug_costs_one_way(autojump_clock: MockClock) -> None:
    class Broken(FakeWay):
        async def map(self, protocol: Protocol, port: int, external: int, lifetime: int) -> Mapped:
            raise TypeError("readonly attribute")

    setting = Setting(pcp=Broken(), upnp=FakeWay())
    await setting.run(1)
    assert setting.mapped[0] == ("tcp", 6881)


async def test_a_mapping_that_is_lost_makes_our_own_port_count_again(
    autojump_clock: MockClock,
) -> None:
    way = FakeWay(shift=1)
    setting = Setting(pcp=way)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(setting.run, 3700)
        await trio.sleep(1)
        way.error = "gone"
        await trio.sleep(3650)
    assert setting.mapped == [("tcp", 6882), ("udp", 6882), ("tcp", 6881), ("udp", 6881)]


async def test_on_another_network_the_gateway_is_asked_at_once(autojump_clock: MockClock) -> None:
    first, second = FakeWay(shift=1), FakeWay()
    setting = Setting(pcp=first)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(setting.run, 100)
        await trio.sleep(1)
        setting.ways = {"pcp": second}
        setting.mapping.look_again()
        await trio.sleep(1)
        assert setting.mapping.statistics().ports == (("tcp", 6881, 6881), ("udp", 6881, 6881))
        assert second.open == {("tcp", 6881), ("udp", 6881)}
    assert setting.mapped[2:] == [("tcp", 6881), ("udp", 6881)] * 2
