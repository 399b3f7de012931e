"""Ports that are open to the Internet although we are behind a NAT: ask the gateway, and go on.

PCP and NAT-PMP are asked first (a closed port tells at once that there is neither), then UPnP.
What has worked is asked first from then on. Mappings are renewed at half of their lifetime and
taken away at the end, within `END_TIME`; if we are killed, they lapse by themselves.

Nothing depends on it: without a mapping peers cannot call us, but we can call them. So failures
are a line of log at most, and tried again every `RETRY` seconds, doubling to `LONGEST_RETRY`.

A gateway is somebody on the same network; what it says is shown, not believed: it changes no
address that we announce but the port.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from typing import Protocol as Interface

import trio

from torrentfs.discovery.gateway import PortControl, find_gateway
from torrentfs.discovery.upnp import Upnp
from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.transports.binding import split

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from torrentfs.wire.port_control import Mapped, Protocol

log = logging.getLogger(__name__)

LIFETIME = 7200
"""Seconds asked for (RFC 6886 3.3)."""
LEAST_RENEWAL = 60.0
"""Seconds between renewals at least, however short the lifetimes that a gateway gives."""
RETRY, LONGEST_RETRY = 120.0, 3600.0
MAP_TIME = 15.0
"""Seconds for one way to map all ports."""
END_TIME = 1.0


class Port(NamedTuple):
    """A port that we listen on."""

    protocol: Protocol
    number: int


class Way(Interface):
    """A way to ask a gateway: `gateway.PortControl`, `upnp.Upnp`."""

    async def map(self, protocol: Protocol, port: int, external: int, lifetime: int) -> Mapped:
        """A mapping, or `TransportError`, `RemoteProtocolError`; `lifetime` 0 takes it away."""


@dataclass(frozen=True, slots=True)
class PortMappingStatistics:
    """Which ports are open outside (protocol, ours, the gateway's), by which way; or why not."""

    ports: tuple[tuple[Protocol, int, int], ...]
    way: str | None
    address: str | None
    """The gateway's address outside, as it says."""
    last_error: str | None


class Gateways:
    """The ways there are now, asked from `bind` if that is given (see `binding`)."""

    def __init__(self, rng: Random, *, bind: str | None = None) -> None:
        self._rng = rng
        self._bind = bind
        self._device = split(bind).device if bind is not None else None
        # a library that opens sockets of its own can be held to an address, not to a device
        self._upnp = Upnp(bind=bind) if self._device is None else None
        self._known: dict[str, PortControl] = {}

    def __call__(self) -> Sequence[tuple[str, Way]]:
        """PCP or NAT-PMP where there is a default gateway; UPnP finds its own by multicast."""
        gateway = find_gateway(self._device)
        if gateway is None:
            return ()
        control = self._known.get(gateway.address)
        if control is None:
            # one gateway at a time: the address of another network means nothing here
            control = PortControl(gateway.address, self._rng, bind=self._bind)
            self._known = {gateway.address: control}
        ways: list[tuple[str, Way]] = [("PCP/NAT-PMP", control)]
        if self._upnp is not None:
            ways.append(("UPnP", self._upnp))
        return ways


class PortMapping:
    """Keeps `ports` mapped while `run` runs.

    `find_ways` gives the ways to try, by name, in order; it is asked at each attempt, because a
    laptop changes its network. `on_mapped(protocol, external port)` is called for each new one, and
    with our own port when a mapping to another one is lost.
    """

    def __init__(
        self,
        ports: Sequence[Port],
        find_ways: Callable[[], Sequence[tuple[str, Way]]],
        on_mapped: Callable[[Protocol, int], None] = lambda protocol, external: None,
    ) -> None:
        self._ports = tuple(ports)
        self._find_ways = find_ways
        self._on_mapped = on_mapped
        self._mapped: dict[Port, Mapped] = {}
        self._way: tuple[str, Way] | None = None
        self._last_error: str | None = None
        self._failures = 0
        self._anew = trio.Event()

    async def run(self) -> None:
        """Map and renew until cancelled, then take the mappings away."""
        try:
            while True:
                self._anew = trio.Event()
                pause = await self._map_all()
                with trio.move_on_after(pause):
                    await self._anew.wait()
        finally:
            if self._mapped and self._way is not None:
                with trio.move_on_after(END_TIME, shield=True):
                    await self._unmap(self._way[1])

    def look_again(self) -> None:
        """We are on another network, or at another address: what was mapped is of no use."""
        self._lose()
        self._failures = 0
        self._anew.set()

    def _lose(self) -> None:
        """Nothing is mapped any more: peers can reach our own ports at best."""
        lost, self._mapped, self._way = self._mapped, {}, None
        for port, mapped in lost.items():
            if mapped.external_port != port.number:
                self._on_mapped(port.protocol, port.number)

    async def _map_all(self) -> float:
        """Try the ways in turn; the seconds until the next time."""
        ways = [self._way] if self._way else []
        ways += [way for way in self._find_ways() if not self._way or way[0] != self._way[0]]
        reasons: list[str] = []
        for name, way in ways:
            try:
                with trio.fail_after(MAP_TIME):
                    found = {port: await self._map(way, port) for port in self._ports}
            except trio.TooSlowError:
                reasons.append(f"{name}: nothing within {MAP_TIME:.0f} s")
            except (TransportError, RemoteProtocolError) as error:
                reasons.append(f"{name}: {error}")
            except Exception as error:  # a bug must cost this way, not the mount
                log.exception("a bug while asking the gateway")
                reasons.append(f"{name}: {error!r}")
            else:
                return self._on_all(name, way, found)
        self._lose()
        self._failures += 1
        words = "; ".join(reasons) or "there is no gateway"
        # said once, and again when it is another reason
        (log.debug if words == self._last_error else log.info)("no port is mapped: %s", words)
        self._last_error = words
        return min(LONGEST_RETRY, RETRY * 2.0 ** min(10, self._failures - 1))

    async def _map(self, way: Way, port: Port) -> Mapped:
        known = self._mapped.get(port)
        external = known.external_port if known is not None else port.number
        return await way.map(port.protocol, port.number, external, LIFETIME)

    def _on_all(self, name: str, way: Way, found: dict[Port, Mapped]) -> float:
        for port, mapped in found.items():
            known = self._mapped.get(port)
            if known is None or known.external_port != mapped.external_port:
                log.info(
                    "%s port %d is open as %s:%d (%s)",
                    port.protocol, port.number, mapped.address or "the gateway's",
                    mapped.external_port, name,
                )  # fmt: skip
                self._on_mapped(port.protocol, mapped.external_port)
        self._mapped = found
        self._way = name, way
        self._last_error = None
        self._failures = 0
        shortest = min((mapped.lifetime for mapped in found.values()), default=LIFETIME)
        return max(LEAST_RENEWAL, min(shortest, LIFETIME) / 2)

    async def _unmap(self, way: Way) -> None:
        for port, mapped in self._mapped.items():
            try:
                await way.map(port.protocol, port.number, mapped.external_port, 0)
            except (TransportError, RemoteProtocolError) as error:
                log.debug("%s port %d stays mapped: %s", port.protocol, port.number, error)

    def statistics(self) -> PortMappingStatistics:
        """What is mapped at this moment."""
        return PortMappingStatistics(
            ports=tuple(
                (port.protocol, port.number, mapped.external_port)
                for port, mapped in self._mapped.items()
            ),
            way=self._way[0] if self._way else None,
            address=next((m.address for m in self._mapped.values() if m.address), None),
            last_error=self._last_error,
        )

    def __repr__(self) -> str:
        return f"<PortMapping {[*self._mapped.values()] or self._last_error}>"
