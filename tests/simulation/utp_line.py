"""Two uTP connections over a simulated line, in virtual time and without any task.

`Line` carries datagrams with a delay, at a rate, with a queue of limited length, and loses, doubles
and delays some of them, as a random source of a given seed says.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from itertools import count
from random import Random

from torrentfs.wire.utp import SYN, parse_packet
from torrentfs.wire.utp_connection import UtpConnection


@dataclass
class Line:
    """One direction. Seconds, bytes per second, shares of all datagrams."""

    delay: float = 0.02
    rate: float = 0.0
    loss: float = 0.0
    reorder: float = 0.0
    double: float = 0.0
    queue: float = 0.2
    """Seconds that a datagram waits at most; one that would wait longer is lost."""
    limit: int = 0
    """Longest datagram that gets through, if not 0; with `cut` only probes are held to it."""
    cut: bool = False
    interface: int = 0
    """Longest that the sender's kernel takes as a probe, if not 0."""
    free_at: float = 0.0
    carried: int = 0
    lost: int = 0
    largest: int = 0
    """Longest that was sent."""
    probes: list[int] = field(default_factory=list)
    """Their sizes, those that the kernel refused too."""

    def arrivals(self, size: int, now: float, rng: Random, *, whole: bool = False) -> list[float]:
        """When a datagram sent now arrives: never, once or twice. `whole` may not be cut."""
        start = max(now, self.free_at)
        if self.rate:
            if start - now > self.queue:
                self.lost += 1
                return []
            self.free_at = start = start + size / self.rate
        narrow = self.limit and size > self.limit and (whole or not self.cut)
        if rng.random() < self.loss or narrow:
            self.lost += 1
            return []
        self.carried += 1
        times = [start + self.delay]
        if rng.random() < self.reorder:
            times[0] += rng.uniform(0, self.delay)
        if rng.random() < self.double:
            times.append(times[0] + rng.uniform(0, self.delay))
        return times


class End:
    """A connection with what it is to send and what it received."""

    def __init__(self, data: bytes = b"", *, close: bool = True) -> None:
        self.connection: UtpConnection | None = None
        self.to_send = memoryview(data)
        self.received = bytearray()
        self.close = close
        self.reads = True
        self.ended_at: float | None = None

    def pump(self, now: float) -> None:
        """Queue what there is room for and read what came."""
        connection = self.connection
        assert connection is not None
        if self.to_send:
            self.to_send = self.to_send[connection.queue(self.to_send[: connection.room]) :]
        elif self.close:
            connection.close()
        while self.reads and connection.readable:
            room = bytearray(connection.readable)
            assert connection.read_into(memoryview(room)) == len(room)
            self.received += room
        if connection.ended and self.ended_at is None:
            self.ended_at = now


class Wire:
    """The two ends and the lines between; `run` until nothing is left to do."""

    def __init__(
        self,
        one: End,
        other: End,
        there: Line,
        back: Line,
        seed: int = 0,
        *,
        ipv6: bool = False,
    ) -> None:
        self.ipv6 = ipv6
        self.ends = (one, other)
        self.lines = (there, back)
        self.now = 1000.0
        self.rng = Random(seed)
        self._events: list[tuple[float, int, int, bytes]] = []
        self._order = count()
        first = self.rng.randrange(1 << 16)
        seq = self.rng.randrange(1 << 16)
        one.connection = UtpConnection.dial(first, seq, self.now, ipv6=ipv6)

    def run(self, seconds: float = 600.0) -> float:
        """Until both ends have ended or broken; the virtual seconds it took."""
        started = self.now
        self._flush(0)
        while not self._done():
            due = [
                (end.connection.next_timeout(), number)
                for number, end in enumerate(self.ends)
                if end.connection is not None
            ]
            timeout, number = min(due)
            if self._events and self._events[0][0] <= timeout:
                self.now, _, number, datagram = heapq.heappop(self._events)
                self._deliver(number, datagram)
            else:
                assert timeout < float("inf"), "nothing would ever happen"
                self.now = max(self.now, timeout)
                connection = self.ends[number].connection
                assert connection is not None
                connection.on_timeout(self.now)
            self._flush(number)
            assert self.now - started < seconds, f"not done in {seconds} s: {self.ends}"
        return self.now - started

    def _done(self) -> bool:
        """All is said and arrived, or one end gave up (the other might wait for ever)."""
        made = [end.connection for end in self.ends if end.connection is not None]
        if any(connection.error for connection in made):
            return True
        return len(made) == 2 and all(
            end.ended_at is not None and end.connection is not None and end.connection.finished
            for end in self.ends
        )

    def _deliver(self, number: int, datagram: bytes) -> None:
        end = self.ends[number]
        packet = parse_packet(memoryview(datagram))
        if end.connection is None:
            assert packet.kind == SYN
            seq = self.rng.randrange(1 << 16)
            end.connection = UtpConnection.answer(packet, seq, self.now, ipv6=self.ipv6)
        else:
            end.connection.receive(packet, self.now)

    def _flush(self, number: int) -> None:
        end = self.ends[number]
        connection = end.connection
        assert connection is not None
        end.pump(self.now)
        line = self.lines[number]
        datagrams = []
        probe = connection.probe(self.now)
        if probe is not None:
            line.probes.append(len(probe))
            if line.interface and len(probe) > line.interface:
                connection.on_probe_refused(self.now)
            else:
                datagrams.append(probe)
        for datagram in datagrams + connection.datagrams(self.now):
            line.largest = max(line.largest, len(datagram))
            whole = datagram is probe
            for when in line.arrivals(len(datagram), self.now, self.rng, whole=whole):
                heapq.heappush(self._events, (when, next(self._order), 1 - number, datagram))
