"""Local ICE candidates, gathered ahead, and where they may come from.

Gathering host candidates takes a millisecond; asking a STUN or TURN server takes round trips, or
for ever when it is gone. So a few gatherings wait ready for the next offers and answers. Those have
time: they wait for every answer, and so find out which servers are silent, and from which of our
addresses. One that somebody waits for goes on `GRACE` after the first answer of each kind, and does
not ask who was silent before (`servers`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiortc import RTCCertificate

from torrentfs.errors import TransportError
from torrentfs.transports.webrtc.config import server_place
from torrentfs.transports.webrtc.ice import IceConnection
from torrentfs.transports.webrtc.interfaces import host_addresses
from torrentfs.transports.webrtc.sdp import Candidate
from torrentfs.transports.webrtc.servers import Server, Servers

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from torrentfs.transports.webrtc.config import RtcConfig

log = logging.getLogger(__name__)

READY = 4
"""Gatherings kept ready."""
LIFE = 120.0
"""Seconds that one stays usable: addresses of the machine change."""
LIFE_WITH_SERVER = 30.0
"""With a server: a NAT may forget the mapping of a silent port after as little (RFC 4787)."""
STUN_WAIT = 1.0
TURN_WAIT = 3.0
GRACE = 0.1
"""Seconds that other addresses have once a STUN server has answered one of them."""
ASKING = 7.0
"""Seconds after which no further server is asked: the bridge waits for ten."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """An ICE agent with its candidates, and the certificate of the connection to be."""

    ice: IceConnection
    certificate: RTCCertificate
    until: float
    addresses: tuple[str, ...]
    """Of ours, from which it was gathered."""

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """For our description."""
        return tuple(
            Candidate(
                foundation=each.foundation,
                priority=each.priority,
                host=each.host,
                port=each.port,
                kind=each.type,
                related=None
                if each.related_address is None
                else (each.related_address, each.related_port or 0),
            )
            for each in self.ice.local_candidates
        )


class Gatherings:
    """A few `Gathered` ready for use, refilled when one is taken."""

    def __init__(
        self, config: RtcConfig, report: Callable[[str, str], None] = lambda url, reason: None
    ) -> None:
        """`report` is told of each server that fails and why, and with no reason when it is well
        again."""
        self._config = config
        self._report = report
        self._stun = Servers(Server(url, server_place(url)) for url in config.stun)
        self._turn = Servers(
            Server(each.url, server_place(each.url), each.username, each.password)
            for each in config.turn
        )
        self._ready: deque[Gathered] = deque()
        self._filling: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._closing: set[asyncio.Task[None]] = set()

    async def take(self) -> Gathered:
        """One that is ready, or a new one; `TransportError` when there is no candidate."""
        now = asyncio.get_running_loop().time()
        addresses = self._addresses()  # others by now, when a VPN came back
        while self._ready and (self._ready[0].until < now or self._ready[0].addresses != addresses):
            self._dispose(self._ready.popleft())
        gathered = self._ready.popleft() if self._ready else await self._gather(waited_for=True)
        if self._filling is None and not self._closed:
            self._filling = asyncio.create_task(self._fill())
        return gathered

    async def _fill(self) -> None:
        try:
            while len(self._ready) < READY:
                self._ready.append(await self._gather(waited_for=False))
        except TransportError as error:
            log.debug("nothing gathered ahead: %s", error)
        finally:
            self._filling = None
        if self._timer is None and self._ready:
            self._timer = asyncio.get_running_loop().call_at(self._ready[0].until, self._expire)

    def _expire(self) -> None:
        """Drop what nobody has asked for; nothing new is gathered before somebody does."""
        loop = asyncio.get_running_loop()
        while self._ready and self._ready[0].until <= loop.time():
            self._dispose(self._ready.popleft())
        self._timer = None
        if self._ready:
            self._timer = loop.call_at(self._ready[0].until, self._expire)

    @property
    def _life(self) -> float:
        return LIFE_WITH_SERVER if self._stun or self._turn else LIFE

    def _addresses(self) -> tuple[str, ...]:
        """Where host candidates are gathered; `TransportError` when there is no such place."""
        return () if self._config.relay_only else tuple(host_addresses(self._config.bind))

    async def _gather(self, *, waited_for: bool) -> Gathered:
        """Candidates of all kinds; `waited_for` by somebody now."""
        loop = asyncio.get_running_loop()
        config = self._config
        addresses = self._addresses()
        ice = IceConnection(relay_only=config.relay_only)
        try:
            await ice.open(addresses)
            async with asyncio.TaskGroup() as asking:
                asking.create_task(self._ask_stun(ice, waited_for))
                asking.create_task(self._ask_turn(ice, waited_for))
        except BaseException:
            self._start(ice.close())
            raise
        if not ice.local_candidates:
            await ice.close()
            what = self._turn.complaints() if config.relay_only else "no socket could be bound"
            raise TransportError(f"no candidate: {what}")
        certificate = RTCCertificate.generateCertificate()
        return Gathered(ice, certificate, loop.time() + self._life, addresses)

    async def _ask_stun(self, ice: IceConnection, waited_for: bool) -> None:
        time = asyncio.get_running_loop().time
        last = time() + ASKING - STUN_WAIT
        for server in self._stun.due(time(), waited_for=waited_for, needed=False):
            hosts = self._stun.hearing(server, ice.hosts, time())
            if not hosts:
                continue
            if time() > last:
                return
            grace = GRACE if waited_for else STUN_WAIT
            silent, failure = await ice.ask_stun(server, hosts, wait=STUN_WAIT, grace=grace)
            if failure is None:
                deaf = () if waited_for else silent  # those had no time
                if self._stun.on_answer(server, deaf, time()):
                    self._report(server.url, "")
                return
            if self._stun.on_failure(server, failure, time()):
                self._report(server.url, failure.reason)

    async def _ask_turn(self, ice: IceConnection, waited_for: bool) -> None:
        time = asyncio.get_running_loop().time
        last = time() + ASKING - TURN_WAIT
        needed = self._config.relay_only
        for server in self._turn.due(time(), waited_for=waited_for, needed=needed):
            if time() > last:
                return
            failure = await ice.ask_turn(server, wait=TURN_WAIT)
            if failure is None:
                if self._turn.on_answer(server, (), time()):
                    self._report(server.url, "")
                return
            if self._turn.on_failure(server, failure, time()):
                self._report(server.url, failure.reason)

    def _dispose(self, gathered: Gathered) -> None:
        self._start(gathered.ice.close())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Free what is ready; a gathering that runs is waited for."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.wait([self._filling])
        while self._ready:
            await self._ready.popleft().ice.close()
        if self._closing:
            await asyncio.wait(self._closing)
