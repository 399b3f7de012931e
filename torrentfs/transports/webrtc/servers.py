"""Which STUN and TURN servers are asked for candidates, and what became of those that were.

Several may be named of each kind. The first is asked; when it does not answer or refuses, the next
one is, and he who failed goes to the end of the row. So a dead server costs a wait once, not once
for each offer.

He rests for `SILENCE`. After that he is asked again, before those that are well, or what was told
of him would stand for ever; but one such at a time, and only where nobody waits for the candidates
(they are gathered ahead). An offer that is wanted now does without him until he has answered. Where
there is nothing to offer without an answer (relay-only), whoever was merely silent is asked all the
same; one that refuses our credentials is not, until he has rested.

A machine with several addresses asks a STUN server from each, and may get no answer to some: a
container bridge leads nowhere. That address rests, for this server, and the server is well.

Pure: `now` is an argument, in seconds of any clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torrentfs.transports.webrtc.config import ServerPlace

SILENCE = 60.0
"""Seconds that a server which did not answer is not asked again."""

_CODES = {
    300: "sends us to another server",
    401: "refuses the credentials",
    403: "forbids it",
    437: "does not know the allocation",
    438: "takes no nonce of its own",
    441: "refuses the credentials",
    442: "relays no UDP",
    486: "has given this user all that he may have",
    500: "has a fault",
    508: "has nothing left to give",
}
"""Error codes of RFC 8489 section 14.8 and RFC 8656 section 19. The server's own words are not
repeated: a log is no place for a stranger's text."""

SILENT = "does not answer"


@dataclass(frozen=True, slots=True)
class Server:
    """A STUN server, or a relay and what it wants to know."""

    url: str
    place: ServerPlace
    username: str = ""
    password: str = ""

    def __repr__(self) -> str:  # no password in a log
        return f"Server({self.url!r})"


class Failure(NamedTuple):
    """Why a server gave no candidate; `reason` reads after its name."""

    reason: str
    refused: bool = False
    """It answered, and said no: to ask again at once would be no use."""


def refusal(code: int) -> Failure:
    """What an error response means."""
    return Failure(f"{_CODES.get(code, 'answers with an error')} ({code})", refused=True)


class Servers:
    """Those of one kind, the next one to be asked in front."""

    def __init__(self, servers: Iterable[Server]) -> None:
        self._row = list(servers)
        self._failures: dict[Server, Failure] = {}
        """Of those that failed when they were last asked."""
        self._rests: dict[Server, float] = {}
        self._deaf: dict[tuple[Server, str], float] = {}

    def __bool__(self) -> bool:
        return bool(self._row)

    def due(self, now: float, *, waited_for: bool, needed: bool) -> Sequence[Server]:
        """Whom to ask, one after the other until one answers.

        `waited_for`: somebody waits for the candidates; `needed`: without one there is no offer.
        """
        rested = [each for each in self._row if now >= self._rests.get(each, now)]
        if not rested and needed:
            return [each for each in self._row if not self._refuses(each)]
        failed = [each for each in rested if each in self._failures]
        well = [each for each in rested if each not in self._failures]
        if not waited_for:
            return [*failed[:1], *well, *failed[1:]]
        return [*well, *failed] if needed else well

    def _refuses(self, server: Server) -> bool:
        failure = self._failures.get(server)
        return failure is not None and failure.refused

    def hearing(self, server: Server, addresses: Iterable[str], now: float) -> list[str]:
        """Those of our addresses to ask it from."""
        self._deaf = {key: until for key, until in self._deaf.items() if until > now}
        return [each for each in addresses if (server, each) not in self._deaf]

    def on_answer(self, server: Server, silent: Iterable[str], now: float) -> bool:
        """It gave a candidate, but none to the `silent` addresses; True if it had failed before."""
        for address in silent:
            self._deaf[server, address] = now + SILENCE
        self._rests.pop(server, None)
        return self._failures.pop(server, None) is not None

    def on_failure(self, server: Server, failure: Failure, now: float) -> bool:
        """It gave none; True if that is news: it had not failed before, or for another reason."""
        if now >= self._rests.get(server, now):  # else another gathering has said so already
            self._row.remove(server)
            self._row.append(server)
        self._rests[server] = now + SILENCE
        known = self._failures.get(server)
        self._failures[server] = failure
        return known != failure

    def complaints(self) -> str:
        """What is wrong with those that failed, in words."""
        return ", ".join(
            f"{each.url} {self._failures[each].reason}"
            for each in self._row
            if each in self._failures
        )

    def __repr__(self) -> str:
        return f"<Servers {self._row}, {len(self._failures)} failed>"
