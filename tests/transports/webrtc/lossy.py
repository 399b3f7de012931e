"""A network of asyncio in virtual time, for associations: delays, losses, copies, disorder."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: moves the clock of its loop instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        events = super().select(0)
        if not events:
            assert timeout is not None, "nothing will ever happen"
            self.now += max(timeout, 0)
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose timers are due as soon as there is nothing else to do."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def run(scene: Coroutine[Any, Any, None]) -> None:
    """Run it in virtual time."""

    async def bounded() -> None:
        async with asyncio.timeout(3600):
            await scene

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(bounded())


@dataclass
class Weather:
    """What a wire does to packets, one way."""

    seed: int = 0
    loss: float = 0.0
    copies: float = 0.0
    delay: float = 0.01
    jitter: float = 0.0
    down: bool = False
    batch: bool = True
    """Whether packets that arrive at the same time are given together."""


class Wire:
    """As much of a DTLS transport as an association needs, with the other end of it."""

    state = "connected"

    def __init__(self, role: str, weather: Weather, fast: bool) -> None:
        self._role = role
        self._receiver: Any = None
        self.weather = weather
        self.random = Random(weather.seed)
        self.other: Wire | None = None
        self.sent = 0
        self.dropped: Callable[[bytes], bool] = lambda packet: False
        self._coming: dict[float, list[bytes]] = {}
        self._giving: set[asyncio.Task[None]] = set()
        if fast:
            self.send_packets = self._send_packets

    def _register_data_receiver(self, receiver: Any) -> None:
        self._receiver = receiver

    def _unregister_data_receiver(self, receiver: Any) -> None:
        self._receiver = None

    async def _send_data(self, data: bytes) -> None:
        self._send_packets([data])

    def _send_packets(self, packets: Sequence[bytes]) -> None:
        for packet in packets:
            self.sent += 1
            weather = self.weather
            if weather.down or self.dropped(packet) or self.random.random() < weather.loss:
                continue
            for _ in range(1 + (self.random.random() < weather.copies)):
                delay = weather.delay + self.random.random() * weather.jitter
                loop = asyncio.get_running_loop()
                # Steps of a millisecond: several arrive at the same time, in order.
                when = round(loop.time() + delay, 3)
                assert self.other is not None
                if when not in self.other._coming:
                    self.other._coming[when] = []
                    loop.call_at(when, self.other._give, when)
                self.other._coming[when].append(packet)

    def _give(self, when: float) -> None:
        packets = self._coming.pop(when)
        if self._receiver is None:
            return
        if self.weather.batch and hasattr(self._receiver, "packets_received"):
            self._receiver.packets_received(packets)
        else:
            task = asyncio.ensure_future(self._give_slowly(packets))
            self._giving.add(task)
            task.add_done_callback(self._giving.discard)

    async def _give_slowly(self, packets: Sequence[bytes]) -> None:
        for packet in packets:
            if self._receiver is not None:
                await self._receiver._handle_data(packet)


def wires(one: Weather, other: Weather | None = None, fast: bool = True) -> tuple[Wire, Wire]:
    """Both ends; `one` is the weather of what the first one sends."""
    first = Wire("server", one, fast)
    second = Wire("client", other or one, fast)
    first.other, second.other = second, first
    return first, second
