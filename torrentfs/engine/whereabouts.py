"""Where a session is on the network, and what has to follow when that changes.

*The interface* of `--bind-interface` is known by its name: its device may go, come again as another
one, and have another address (a VPN reconnects). Nothing leaves while it is gone, because every
socket is held to it (`transports.binding`); here is the way back. The kernel tells of a change, and
then the ports and local discovery open sockets where the interface stands now; what opens a socket
for each call finds it by itself. Connections over what is no more are given up, rests and back-offs
that came of it are forgotten, and trackers, DHT and gateway hear of us anew. What cannot follow at
once (a port that is taken) is tried again every `RETRY` seconds.

*The port* that others reach may be another than ours behind a gateway. Who announces is told when
it changes, also back to our own when the mapping is lost.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import trio

from torrentfs.transports.binding import Footing, look, split
from torrentfs.transports.device_changes import DeviceChanges

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from torrentfs.discovery.dht.node import DhtNode
    from torrentfs.discovery.lsd import LocalDiscovery
    from torrentfs.discovery.port_mapping import PortMapping, PortMappingStatistics
    from torrentfs.engine.config import SessionConfig
    from torrentfs.engine.dormant import Dormant
    from torrentfs.engine.signalling import Signalling
    from torrentfs.engine.swarm import Swarm
    from torrentfs.engine.torrent import Torrent
    from torrentfs.transports.http import HttpClient
    from torrentfs.transports.listener import Listener
    from torrentfs.transports.udp_port import UdpPort

log = logging.getLogger(__name__)

MAPPING_DELAY = 0.5
"""Seconds after which the gateway is asked: nobody calls us earlier, and the mount starts first."""

RETRY = 2.0
"""Seconds until what could not follow is tried again."""

SHORT = 5.0
"""Seconds without the interface that connections outlive, if it is the same as before."""

PARTING = 0.1
"""Seconds in which connections that are given up have ended."""


class Host(Protocol):
    """What is needed of a session, as it is at that moment."""

    config: SessionConfig
    client: HttpClient
    port: int
    listener: Listener | None
    udp: UdpPort | None
    lsd: LocalDiscovery | None
    dht: DhtNode | None
    signalling: Signalling | None

    torrents: dict[str, Torrent]
    volumes: dict[str, Dormant]

    @property
    def swarms(self) -> Iterable[Swarm]: ...


class Whereabouts:
    """Of one session; `follow` and `map_ports` run for as long as it does."""

    def __init__(self, host: Host) -> None:
        self.announced_port = 0
        """Where peers reach our port from outside: another one behind some gateways."""
        self.mapping: PortMapping | None = None
        self.trouble = ""
        """What is wrong with the interface now, in words; else empty."""
        self._host = host
        self._bind = host.config.bind
        self._good: Footing | None = None
        self._bad_since: float | None = None

    # -- the interface ------------------------------------------------------------------------

    async def follow(self) -> None:
        """Be where the interface is until cancelled; returns if we are held to none."""
        bind = self._bind
        if bind is None or split(bind).device is None:
            return
        with DeviceChanges() as changes:
            while True:
                pause = float("inf")
                try:
                    if not await self._look(bind):
                        pause = RETRY
                except OSError as error:  # no descriptors, say
                    log.debug("the interface cannot be looked at: %s", error)
                    pause = RETRY
                except Exception:  # a bug of ours must cost the way back, not the mount
                    log.exception("a bug while following the interface")
                    pause = RETRY
                with trio.move_on_after(pause):
                    await changes.wait()

    async def _look(self, bind: str) -> bool:
        """Whether all is as it should be, as far as we can do something about it."""
        footing = look(bind)
        host = self._host
        parts = [part for part in (host.listener, host.udp, host.lsd) if part is not None]
        failed = [trouble for part in parts if (trouble := part.follow())]
        now = trio.current_time()
        if footing.trouble:
            self._say(footing.trouble, "nothing leaves until it is back")
            if self._bad_since is None:
                self._bad_since = now
            return True
        if failed:
            self._say(f"peers cannot reach us at {split(bind).device}: {failed[0]}", "tried again")
            return False
        self._say("")
        before, self._good = self._good, footing
        away = 0.0 if self._bad_since is None else now - self._bad_since
        if self._bad_since is not None or before not in (None, footing):
            await self._start_over(_lost(before or footing, footing, everything=away > SHORT))
        self._bad_since = None
        return True

    def _say(self, trouble: str, meanwhile: str = "") -> None:
        if trouble and trouble != self.trouble:
            log.warning("%s: %s", trouble, meanwhile)
        elif self.trouble and not trouble:
            log.info("the interface is back")
        self.trouble = trouble

    async def _start_over(self, lost: frozenset[bool]) -> None:
        """Begin anew at another place, or after a while; connections of families `lost` are over
        (True is IPv6)."""
        host = self._host
        swarms = list(host.swarms)
        if lost:
            # they hear us no more
            streams = [one for swarm in swarms for one in swarm.connected.items()]
            for address, stream in streams:
                if (":" in address[0]) in lost:
                    stream.abort()
            await host.client.drop_connections()
            await trio.sleep(PARTING)
        if host.dht is not None:
            host.dht.begin_again()
        if host.signalling is not None:
            host.signalling.reconnect()
        for swarm in swarms:
            swarm.start_over()
            _tell_anew(swarm)
        for dormant in host.volumes.values():
            dormant.breaker.on_progress()
        for torrent in self._opened():
            torrent.reader.breaker.on_progress()
            for seed in torrent.web_seeds:
                seed.retry_soon()
        if self.mapping is not None:
            self.mapping.look_again()

    # -- the port -----------------------------------------------------------------------------

    async def map_ports(self, rng: Random) -> None:
        """Ask the gateway to let peers in to our ports, soon after these are open."""
        await trio.sleep(MAPPING_DELAY)
        from torrentfs.discovery.port_mapping import Gateways, Port, PortMapping

        host = self._host
        ports = [Port("tcp", host.listener.port)] if host.listener is not None else []
        ports += [Port("udp", host.udp.port)] if host.udp is not None else []
        ways = Gateways(rng, bind=self._bind)
        self.mapping = PortMapping(ports, ways, self.on_port_mapped)
        await self.mapping.run()

    def on_port_mapped(self, protocol: str, external: int) -> None:
        """Our port is reached at `external` now; peers and trackers know of one alone."""
        if protocol != ("tcp" if self._host.listener is not None else "udp"):
            return
        if external == self.announced_port:
            return
        self.announced_port = external
        for swarm in self._host.swarms:
            if swarm.trackers is not None:
                swarm.trackers.announced_port = external
            if swarm.dht is not None:
                swarm.dht.announced_port = external
            _tell_anew(swarm)
        for torrent in self._opened():
            torrent.listen_port = external

    def statistics(self) -> PortMappingStatistics | None:
        """What the gateway has opened; None while it is not asked."""
        return self.mapping.statistics() if self.mapping is not None else None

    def _opened(self) -> list[Torrent]:
        shelved = (one.torrent for one in self._host.volumes.values())
        return [*self._host.torrents.values(), *(one for one in shelved if one is not None)]

    def __repr__(self) -> str:
        return f"<Whereabouts port {self.announced_port} {self.trouble or 'ok'}>"


def _tell_anew(swarm: Swarm) -> None:
    """Tell trackers and the DHT where we are, without waiting for their intervals."""
    if swarm.trackers is not None:
        swarm.trackers.announce_anew()
    if swarm.dht is not None:
        swarm.dht.search_anew()


def _lost(before: Footing, now: Footing, *, everything: bool) -> frozenset[bool]:
    """The families whose connections are of no use any more: True is IPv6."""
    pairs = {False: (before.ipv4, now.ipv4), True: (before.ipv6, now.ipv6)}
    return frozenset(
        ipv6
        for ipv6, (old, new) in pairs.items()
        if old is not None and (everything or old != new or before.number != now.number)
    )
