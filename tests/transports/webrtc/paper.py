"""A worker of paper for tests of the bridge, and descriptions that pass for real."""

from __future__ import annotations

from collections.abc import Callable

import trio

from torrentfs.errors import TransportError
from torrentfs.transports.webrtc.config import RtcConfig
from torrentfs.transports.webrtc.protocol import (
    AnswerMade,
    AnswerOffer,
    Ended,
    Forget,
    MakeOffer,
    Message,
    OfferMade,
    ToWorker,
)
from torrentfs.transports.webrtc.sdp import Candidate, Description, render

SDP = render(
    Description(
        ufrag="abcd",
        password="x" * 22,
        fingerprints=(("sha-256", ":".join(["00"] * 32)),),
        setup="active",
        candidates=(Candidate("1", 1, "127.0.0.1", 9, "host"),),
    )
)


class PaperWorker:
    """Answers what it is asked at once, or, when `silent`, never; `dies` to let it die."""

    def __init__(self, config: RtcConfig, on_message: Callable[[Message, int], None]) -> None:
        self.pid: int | None = 42
        self.asked: list[ToWorker] = []
        self.say = on_message
        self.dies = trio.Event()
        self.silent = False
        self.stuck = False

    def send(self, message: ToWorker) -> None:
        if self.stuck:
            raise TransportError("the WebRTC worker does not answer")
        self.asked.append(message)
        if self.silent:
            return
        if isinstance(message, MakeOffer):
            self.say(OfferMade(message.connection, f"offer {message.connection}"), -1)
        elif isinstance(message, AnswerOffer):
            self.say(AnswerMade(message.connection, f"answer {message.connection}"), -1)
        elif isinstance(message, Forget):
            self.say(Ended(message.connection), -1)

    async def run(self) -> str:
        await self.dies.wait()
        return "ended with signal 9"


class PaperWorkers:
    """All the workers that a bridge has made."""

    def __init__(self) -> None:
        self.made: list[PaperWorker] = []
        self.silent = False

    def __call__(
        self, config: RtcConfig, on_message: Callable[[Message, int], None]
    ) -> PaperWorker:
        worker = PaperWorker(config, on_message)
        worker.silent = self.silent
        self.made.append(worker)
        return worker

    @property
    def last(self) -> PaperWorker:
        return self.made[-1]
