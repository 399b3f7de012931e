"""The sending half of an SCTP association: messages in, packets' chunks out, SACKs back. Pure.

Messages are cut into DATA chunks, each of which is in one of four places: *waiting* (never sent),
*in flight*, *reported* (a gap block has it; it may be forgotten only when the cumulative TSN
passes it) or *lost* (to be sent again, before anything that waits). `_sent` has the last three,
in the order of TSNs.

**Congestion** is RFC 9260, 7.2: slow start, congestion avoidance, one halving for each window of
losses; it starts with ten packets as TCP (RFC 6928) and Chromium do. **Loss** is seen as QUIC sees
it (RFC 9002, 6.1.1): every transmission has a number, and one that was overtaken by `OVERTAKEN`
later ones is lost; so the loss of a chunk sent again is seen as well, which counting reports
misses. When nothing comes back for the retransmission time-out, everything in flight is lost.

**Bursts.** At most `BURST` packets go out at once: Chromium's socket buffer is of 64 KiB. If more
may go, `pause` says when: at twice the pace at which the window lasts for a round trip. Without
that, acknowledgements that come in a clump let out one burst for each round trip.

All is reliable and ordered, whatever the peer's channel asks: more than asked, never less.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING

from torrentfs.transports.webrtc.sctp import (
    FIRST,
    HEADER_LENGTH,
    LAST,
    MAX_PACKET,
    MAX_PAYLOAD,
    WRAP,
    data_chunk,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

INITIAL_PACKETS = 10
LEAST_PACKETS = 4
"""Of the congestion window after a loss (RFC 9260, 7.2.3)."""
GROWTH = 2
"""Packets that slow start adds for a SACK, at most (RFC 9260, 7.2.1, its L; RFC 3465)."""
SLOW_START_LEAST = 80_000
SLOW_START_RATE = 32e6
"""Slow start ends at the latest with a window of so many bytes, or of so many per second of the
least round trip: beyond that it only overruns Chromium's socket buffer, by a thousand packets."""
BURST = 16
OVERTAKEN = 3
RTO_INITIAL = 1.0
RTO_MIN = 0.4
"""Seconds: more than the 200 ms for which a receiver may keep a SACK back; RFC 9260 says 1 s."""
RTO_MAX = 3.0
"""Seconds: WebRTC's limit; ICE's consent decides that a peer is gone."""
SACK_DELAY = 0.2
MAX_CHUNKS = MAX_PACKET - HEADER_LENGTH


class _Chunk:
    __slots__ = ("body", "in_flight", "number", "reported", "sent_at", "size", "times", "tsn")

    def __init__(self, tsn: int, size: int, body: bytes) -> None:
        self.tsn = tsn
        self.size = size
        self.body = body
        self.in_flight = False
        self.reported = False
        self.number = 0
        self.times = 0
        self.sent_at = 0.0


class Outbound:
    """What goes to the peer, from our `initial` TSN on; `window` is what its INIT advertised.

    `sequences`: the number of the next message of each stream; a reset stream is taken out.
    """

    def __init__(self, initial: int, window: int, sequences: dict[int, int] | None = None) -> None:
        self.window = window
        self.congestion_window = INITIAL_PACKETS * MAX_PAYLOAD
        self.threshold: float = inf
        self.in_flight = 0
        """Bytes of payload sent and neither acknowledged nor lost."""
        self.smoothed_round_trip: float | None = None
        self.retransmitted = 0
        """Chunks sent again."""
        self._least_round_trip = inf
        self._variance = 0.0
        self._timeout = RTO_INITIAL
        self._next = initial
        self._cumulative = initial - 1
        self._waiting: deque[_Chunk] = deque()
        self._sent: dict[int, _Chunk] = {}
        self._lost: deque[_Chunk] = deque()
        self._gaps: list[tuple[int, int]] = []
        self._number = 0
        self._largest = 0
        self._partial = 0
        self._recovery: int | None = None
        self._rescue = False
        self._sequences = {} if sequences is None else sequences
        self._deadline: float | None = None
        self._cut_short = False
        self._limited = False

    def __repr__(self) -> str:
        return (
            f"<Outbound in flight {self.in_flight} of {self.congestion_window}/{self.window} "
            f"waiting {len(self._waiting)} lost {len(self._lost)} again {self.retransmitted}>"
        )

    @property
    def waiting(self) -> int:
        """Chunks that were never sent."""
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """True if the peer has acknowledged all."""
        return not self._sent and not self._waiting

    @property
    def next_tsn(self) -> int:
        """Of the next message, on the wire."""
        return self._next % WRAP

    @property
    def cumulative(self) -> int:
        """The last TSN up to which the peer has all."""
        return self._cumulative

    @property
    def deadline(self) -> float | None:
        """When `on_deadline` is due; moves without notice."""
        return self._deadline

    @property
    def pause(self) -> float | None:
        """Seconds until more may be taken, if only the length of a burst ended the last one."""
        if not self._cut_short:
            return None
        round_trip = self.smoothed_round_trip or 0.0
        return round_trip * BURST * MAX_PAYLOAD / self.congestion_window / 2

    # -- messages ---------------------------------------------------------------------------------

    def push(self, stream: int, ppid: int, message: bytes) -> None:
        """Cut a message (of at least a byte) into chunks that wait."""
        sequence = self._sequences.get(stream, 0)
        self._sequences[stream] = sequence + 1 & 0xFFFF
        size = len(message)
        flags = FIRST
        for begin in range(0, size, MAX_PAYLOAD):
            payload = message[begin : begin + MAX_PAYLOAD]
            if begin + MAX_PAYLOAD >= size:
                flags |= LAST
            body = data_chunk(flags, self._next, stream, sequence, ppid, payload)
            self._waiting.append(_Chunk(self._next, len(payload), body))
            self._next += 1
            flags = 0

    # -- packets ----------------------------------------------------------------------------------

    def take(self, now: float) -> list[bytes]:
        """The chunks of each packet that may go out now."""
        packets: list[bytes] = []
        bodies: list[bytes] = []
        room = MAX_CHUNKS
        self._cut_short = self._limited = False
        allowed = min(self.congestion_window, self.window)
        queues = (self._lost, self._waiting) if self._lost else (self._waiting,)
        for queue in queues:
            while queue:
                chunk = queue[0]
                if chunk.reported or chunk.tsn <= self._cumulative:
                    queue.popleft()  # it was not lost after all
                    continue
                if self.in_flight >= allowed and not self._rescue:
                    self._limited = True
                    break
                length = len(chunk.body)
                if length > room:
                    packets.append(b"".join(bodies))
                    bodies = []
                    room = MAX_CHUNKS
                    if len(packets) >= BURST:
                        self._cut_short = self._limited = True
                        return packets
                queue.popleft()
                self._rescue = False
                self._send(chunk, now)
                bodies.append(chunk.body)
                room -= length
        if bodies:
            packets.append(b"".join(bodies))
        elif self._deadline is None and (self._lost or self._waiting):
            self._deadline = now + self._timeout  # the window is shut: ask from time to time
        return packets

    def _send(self, chunk: _Chunk, now: float) -> None:
        self._number += 1
        chunk.number = self._number
        chunk.sent_at = now
        chunk.in_flight = True
        chunk.times += 1
        self.in_flight += chunk.size
        if chunk.times == 1:
            self._sent[chunk.tsn] = chunk
        else:
            self.retransmitted += 1
        if self._deadline is None:
            self._deadline = now + self._timeout

    # -- what comes back --------------------------------------------------------------------------

    def on_sack(
        self, cumulative: int, window: int, gaps: Sequence[tuple[int, int]], now: float
    ) -> None:
        """A SACK, its numbers unwrapped near `cumulative`."""
        if not self._cumulative <= cumulative < self._next - len(self._waiting):
            return  # out of order, or of what was never sent
        self.window = window
        acknowledged = self._acknowledge(cumulative, now)
        moved = bool(acknowledged)
        if gaps:
            acknowledged += self._report(gaps)
        if self._recovery is not None and cumulative >= self._recovery:
            self._recovery = None
        # Only a window that was used may grow; several SACKs may come before more is taken.
        if moved and self._limited and self._recovery is None:
            self._grow(acknowledged)
        if gaps and self._find_lost():
            self._shrink()
        self._gaps = list(gaps)
        if not self._sent:
            self._deadline = None
        elif moved:
            self._deadline = now + self._timeout

    def _acknowledge(self, cumulative: int, now: float) -> int:
        acknowledged = 0
        chunk: _Chunk | None = None
        for tsn in range(self._cumulative + 1, cumulative + 1):
            chunk = self._sent.pop(tsn)
            if chunk.in_flight:
                self.in_flight -= chunk.size
                chunk.in_flight = False
            if not chunk.reported:
                acknowledged += chunk.size
                self._note(chunk)
        self._cumulative = cumulative
        # The last one: of a packet that was acknowledged late the others waited for it.
        if chunk is not None and chunk.times == 1 and not chunk.reported:
            self._measure(now - chunk.sent_at)
        return acknowledged

    def _report(self, gaps: Sequence[tuple[int, int]]) -> int:
        acknowledged = 0
        known = dict(self._gaps)
        end = self._next - len(self._waiting)
        for first, last in gaps:
            # What the SACK before this one said need not be looked at again.
            begin = max(first, known.get(first, first - 1) + 1)
            for tsn in range(begin, min(last + 1, end)):
                chunk = self._sent.get(tsn)
                if chunk is None or chunk.reported:
                    continue
                chunk.reported = True
                acknowledged += chunk.size
                if chunk.in_flight:
                    chunk.in_flight = False
                    self.in_flight -= chunk.size
                self._note(chunk)
        return acknowledged

    def _note(self, chunk: _Chunk) -> None:
        # Of one sent twice it is not known which transmission came.
        if chunk.times == 1 and chunk.number > self._largest:
            self._largest = chunk.number

    def _find_lost(self) -> bool:
        """Look through what the peer says is missing; True if any of it is lost anew."""
        limit = self._largest - OVERTAKEN
        found: list[_Chunk] = []
        for chunk in self._sent.values():
            if chunk.in_flight and chunk.number <= limit:
                chunk.in_flight = False
                self.in_flight -= chunk.size
                found.append(chunk)
        self._lose(found)
        return bool(found)

    def _lose(self, found: Sequence[_Chunk]) -> None:
        self._lost = deque(sorted([*self._lost, *found], key=lambda chunk: chunk.tsn))

    def on_deadline(self, now: float) -> None:
        """Nothing came back in time: all that is in flight is lost (RFC 9260, 6.3.3)."""
        self._deadline = None
        self._rescue = True  # one chunk goes out even if the window is shut (RFC 9260, 6.1 A)
        if not self.in_flight:
            return
        found = [chunk for chunk in self._sent.values() if chunk.in_flight]
        for chunk in found:
            chunk.in_flight = False
        self.in_flight = 0
        self._lose(found)
        self._recovery = None
        self._partial = 0
        self.threshold = max(self.congestion_window // 2, LEAST_PACKETS * MAX_PAYLOAD)
        self.congestion_window = MAX_PAYLOAD
        self._timeout = min(self._timeout * 2, RTO_MAX)

    # -- control ----------------------------------------------------------------------------------

    def _grow(self, acknowledged: int) -> None:
        if self.congestion_window <= min(self.threshold, self._slow_start_end):
            self.congestion_window += min(acknowledged, GROWTH * MAX_PAYLOAD)
            return
        self._partial += acknowledged
        if self._partial >= self.congestion_window:
            self._partial -= self.congestion_window
            self.congestion_window += MAX_PAYLOAD

    @property
    def _slow_start_end(self) -> float:
        return max(SLOW_START_LEAST, SLOW_START_RATE * self._least_round_trip)

    def _shrink(self) -> None:
        if self._recovery is not None:
            return
        least = LEAST_PACKETS * MAX_PAYLOAD
        self.threshold = self.congestion_window = max(self.congestion_window // 2, least)
        self._partial = 0
        self._recovery = self._next - len(self._waiting) - 1
        self._rescue = True

    def _measure(self, sample: float) -> None:
        self._least_round_trip = min(self._least_round_trip, sample)
        if self.smoothed_round_trip is None:
            self.smoothed_round_trip = sample
            self._variance = sample / 2
        else:
            difference = abs(self.smoothed_round_trip - sample)
            self._variance += (difference - self._variance) / 4
            self.smoothed_round_trip += (sample - self.smoothed_round_trip) / 8
        timeout = self.smoothed_round_trip + max(4 * self._variance, SACK_DELAY)
        self._timeout = min(max(timeout, RTO_MIN), RTO_MAX)
