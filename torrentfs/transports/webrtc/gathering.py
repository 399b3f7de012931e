"""Local ICE candidates, gathered ahead, and where they may come from.

Gathering host candidates takes a millisecond; asking a STUN or TURN server takes round trips, or
for ever when it is gone. So a few gatherings wait ready for the next offers and answers, and a
server that did not answer is left alone for a while instead of being waited for each time.

aioice gathers from every interface; here it is told which addresses to use (`bound_loop` adds the
device, when one is named).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aioice
from aiortc import RTCCertificate, RTCIceServer
from aiortc.rtcicetransport import connection_kwargs

from torrentfs.errors import TransportError
from torrentfs.transports.webrtc.interfaces import host_addresses
from torrentfs.transports.webrtc.sdp import Candidate

if TYPE_CHECKING:
    from collections.abc import Coroutine

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
SILENCE = 60.0
"""Seconds that a server which did not answer is not asked again."""


class IceConnection(aioice.Connection):
    """aioice's agent with host candidates of the given addresses alone."""

    def __init__(self, addresses: list[str], wait: float, **settings: Any) -> None:
        super().__init__(ice_controlling=False, **settings)
        self._addresses = addresses
        self._wait = wait

    async def gather_candidates(self) -> None:
        """Make the sockets and ask the servers, for as long as was said."""
        self._local_candidates_start = True
        self._local_candidates = await self.get_component_candidates(
            1,
            self._addresses,
            timeout=self._wait,  # type: ignore[arg-type]  # asyncio takes fractions
        )
        self._local_candidates_end = True


@dataclass(frozen=True, slots=True)
class Gathered:
    """An ICE agent with its candidates, and the certificate of the connection to be."""

    ice: IceConnection
    certificate: RTCCertificate
    until: float

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

    def __init__(self, config: RtcConfig) -> None:
        self._config = config
        servers = [RTCIceServer(url) for url in config.stun]
        servers += [
            RTCIceServer(server.url, server.username, server.password) for server in config.turn
        ]
        self._servers = connection_kwargs(servers)
        self._wait = TURN_WAIT if config.turn else STUN_WAIT
        self._silent_until = 0.0
        self._ready: deque[Gathered] = deque()
        self._filling: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._closing: set[asyncio.Task[None]] = set()

    async def take(self) -> Gathered:
        """One that is ready, or a new one; `TransportError` when there is no candidate."""
        now = asyncio.get_running_loop().time()
        while self._ready and self._ready[0].until < now:
            self._dispose(self._ready.popleft())
        gathered = self._ready.popleft() if self._ready else await self._gather()
        if self._filling is None and not self._closed:
            self._filling = asyncio.create_task(self._fill())
        return gathered

    async def _fill(self) -> None:
        try:
            while len(self._ready) < READY:
                self._ready.append(await self._gather())
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
        return LIFE_WITH_SERVER if self._servers else LIFE

    async def _gather(self) -> Gathered:
        loop = asyncio.get_running_loop()
        config = self._config
        began = loop.time()
        servers = self._servers if began >= self._silent_until or config.relay_only else {}
        policy = aioice.TransportPolicy.RELAY if config.relay_only else aioice.TransportPolicy.ALL
        ice = IceConnection(
            [] if config.relay_only else host_addresses(config.bind),
            self._wait,
            transport_policy=policy,
            **servers,
        )
        gathering = asyncio.create_task(ice.gather_candidates())
        try:
            await asyncio.shield(gathering)
        except BaseException:
            # aioice's questions to servers would outlive a gathering that is cancelled
            self._start(_end(gathering, ice))
            raise
        if servers and not any(each.type != "host" for each in ice.local_candidates):
            self._silent_until = loop.time() + SILENCE
            log.info("no STUN or TURN server answered within %.0f s", self._wait)
        if not ice.local_candidates:
            await ice.close()
            what = "no TURN server answers" if config.relay_only else "no socket could be bound"
            raise TransportError(f"WebRTC has no candidate: {what}")
        return Gathered(ice, RTCCertificate.generateCertificate(), loop.time() + self._life)

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


async def _end(gathering: asyncio.Task[None], ice: IceConnection) -> None:
    await asyncio.wait([gathering])
    await ice.close()
