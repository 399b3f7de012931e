"""An ICE agent whose candidates come from given addresses, and from one server at a time.

aioice gathers from every interface, asks one STUN and one TURN server, waits until all of them have
answered for every address, and says nothing of what went wrong. Here each question is put by the
caller, who learns who answered and why the others did not (`Failure`), and can go on as soon as
there is an answer: the address of a second interface is worth little beside a reader who waits.

Of aioice's own functions, `get_component_candidates` makes the sockets, and
`server_reflexive_candidate` and `relayed_candidate` ask; none of them is public.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Any

import aioice
import aioice.ice
from aioice.stun import TransactionFailed, TransactionTimeout

from torrentfs.transports.webrtc.servers import SILENT, Failure, refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torrentfs.transports.webrtc.servers import Server


class IceConnection(aioice.Connection):
    """aioice's agent; its candidates are gathered by `open`, `ask_stun` and `ask_turn`."""

    def __init__(self, *, relay_only: bool) -> None:
        policy = aioice.TransportPolicy.RELAY if relay_only else aioice.TransportPolicy.ALL
        super().__init__(ice_controlling=False, transport_policy=policy)
        self._relay_only = relay_only
        self._local_candidates_start = self._local_candidates_end = True

    async def open(self, addresses: Sequence[str]) -> None:
        """Make a socket for each address, which is a host candidate; where it cannot, there is
        none."""
        self._local_candidates = await self.get_component_candidates(1, list(addresses))

    @property
    def hosts(self) -> list[str]:
        """The addresses that a STUN server can be asked from; aioice does so over IPv4 alone."""
        return [each.local_candidate.host for each in self._asking()]

    def _asking(self) -> list[aioice.ice.StunProtocol]:
        return [
            each
            for each in self._protocols
            if each.local_candidate.type == "host" and ":" not in each.local_candidate.host
        ]

    async def ask_stun(
        self, server: Server, hosts: Iterable[str], *, wait: float, grace: float
    ) -> tuple[set[str], Failure | None]:
        """Ask from these of `hosts`; a server-reflexive candidate for each that got an answer.

        All are waited for `wait` seconds, and no longer than `grace` after the first answer. Those
        that did not answer in that time are told, and why not if none did.
        """
        place = (server.place.host, server.place.port)
        asking = {
            asyncio.create_task(aioice.ice.server_reflexive_candidate(each, place)): (
                each.local_candidate.host
            )
            for each in self._asking()
            if each.local_candidate.host in hosts
        }
        loop = asyncio.get_running_loop()
        until, answered = loop.time() + wait, False
        failure = Failure(SILENT)
        waiting = set(asking)
        silent = set(asking.values())
        try:
            while waiting:
                done, waiting = await asyncio.wait(
                    waiting,
                    timeout=max(0.0, until - loop.time()),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not done:
                    break
                for task in done:
                    try:
                        candidate, _ = task.result()
                    except Exception as error:  # a server can say anything
                        failure = failure_of(error)
                        continue
                    silent.discard(asking[task])
                    self._local_candidates.append(candidate)
                    if not answered:
                        answered = True
                        until = min(until, loop.time() + grace)
        finally:
            await _end(waiting)
        return silent, None if answered else failure

    async def ask_turn(self, server: Server, *, wait: float) -> Failure | None:
        """Ask for a relay; a candidate, or why there is none."""
        place = server.place
        asking = asyncio.create_task(
            aioice.ice.relayed_candidate(
                component=1,
                hide_related_address=self._relay_only,
                protocol_factory=lambda: aioice.ice.StunProtocol(self),
                turn_server=(place.host, place.port),
                turn_username=server.username,
                turn_password=server.password,
                turn_ssl=place.tls,
                turn_transport=place.transport,
            )
        )
        try:
            await asyncio.wait([asking], timeout=wait)
        finally:
            await _end([asking])
            # even if nobody waits any more: what was allocated must be given back by `close`
            if not asking.cancelled() and asking.exception() is None:
                candidate, protocol = asking.result()
                self._protocols.append(protocol)
                self._local_candidates.append(candidate)
        if asking.cancelled():
            return Failure(SILENT)
        error = asking.exception()
        return None if error is None else failure_of(error)


async def _end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    running = [task for task in tasks if not task.done()]
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)


def failure_of(error: BaseException) -> Failure:
    """Why a question to a server got no useful answer."""
    match error:
        case TransactionFailed():
            code = error.response.attributes.get("ERROR-CODE", (0, ""))[0]
            return refusal(code)
        case TransactionTimeout():
            return Failure(SILENT)
        case socket.gaierror():
            return Failure("is not found by its name")
        case ssl.SSLCertVerificationError():
            return Failure(f"shows a certificate that is not valid: {error.verify_message}")
        case ssl.SSLError():
            return Failure("speaks no TLS")
        case ConnectionRefusedError():
            return Failure("refuses connections")
        case OSError() if error.strerror:
            return Failure(f"cannot be reached: {error.strerror}")
        case _:
            return Failure("does not answer as such a server should")
