"""One uTP connection (BEP 29) without its socket: packets in, packets and bytes out.

The owner gives it what came (`receive`), asks for what is to be sent (`datagrams`), and calls it at
`next_timeout`. Nothing waits and nothing knows the time but by `now` (seconds). Numbers inside are
plain integers; only on the wire do they wrap around.

*Ids.* Who dials takes a random id to receive under and sends under the next one; SYN alone carries
the first. A STATE in answer to the SYN has the number of the first packet of data to come.

*Receiving.* `utp_arrivals` keeps what came. Any number of packets are acknowledged by one, made by
the next `datagrams()`: the owner decides how often that is.

*Sending.* What `queue` took is cut into packets when the windows (the peer's and LEDBAT's) allow.
A packet is lost when three later ones arrived, or, sent again, when that has not arrived a round
trip later; or when nothing at all comes for a timeout (at least 0.5 s, then doubled), after which
everything in flight counts as lost.

*Size.* `probe` gives packets that try what the path carries whole (see `utp_mtu`); the owner sends
them so that they are not cut, and before what `datagrams` gives, so that later packets tell of
their loss. Two timeouts in a row make packets small: the path may have become narrower.

*Ending.* `close` sends what is queued and a FIN. RESET, or silence through `MAX_TIMEOUTS`, is
`error`, in words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.wire.utp import (
    DATA,
    FIN,
    HEADER,
    HEADER_BYTES,
    MASK16,
    MASK32,
    PADDING,
    RESET,
    STATE,
    SYN,
    VERSION,
    micros,
    padding,
    selected,
    unwrap,
    write_header,
)
from torrentfs.wire.utp_arrivals import RECEIVE_CAPACITY, Arrivals
from torrentfs.wire.utp_ledbat import DelayBase, Ledbat
from torrentfs.wire.utp_mtu import PathMtu
from torrentfs.wire.utp_round_trip import RoundTrip

if TYPE_CHECKING:
    from torrentfs.wire.utp import Packet

    Buffer = bytes | bytearray | memoryview

SEND_CAPACITY = 512 << 10
"""Bytes queued and not yet cut into packets, at most."""

MAX_IN_FLIGHT = 8192
"""Packets; far below half of the numbers that there are."""

MAX_TIMEOUTS = 6
"""In a row, with nothing acknowledged between (half a minute), unless the peer has no room."""
MAX_SYN_TIMEOUTS = 3
KEEP_ALIVE = 29.0
"""Seconds without a packet of ours after which one goes out: NAT boxes forget after 30."""

_LATER = 3
"""Packets that must have arrived before an earlier one is lost: lines change the order, too."""

_BEHIND_PROBE = 1 + _LATER
"""Packets that must be there to follow a probe, or nothing would tell of its loss but a timeout."""

_DATA_FIRST = DATA << 4 | VERSION


class _Sent:
    """A packet that was not acknowledged yet."""

    __slots__ = ("at", "datagram", "kind", "lost", "times")

    def __init__(self, kind: int, datagram: bytes, at: float) -> None:
        self.kind = kind
        self.datagram = datagram  # with the header it was first sent with
        self.at = at
        self.times = 1
        self.lost = False


class UtpConnection:
    """The state of one connection; `receive_id` and `send_id` as the module says."""

    def __init__(
        self, receive_id: int, send_id: int, seq: int, now: float, *, ipv6: bool = False
    ) -> None:
        self.receive_id = receive_id
        self.send_id = send_id
        self.connected = False
        self.error: str | None = None
        """Why the connection broke, once it did; nothing is sent from then on."""
        self.resends = 0
        """Packets sent more than once."""
        self.round_trip = RoundTrip()
        # sending
        self.mtu = PathMtu(ipv6=ipv6)
        self._packet = packet = self.mtu.size
        self._probe: int | None = None  # number of the one under way
        self._congestion = Ledbat(packet)
        self._queue = bytearray()
        self._first = seq
        self._next = seq  # the number of the next packet that has one
        self._acked = seq - 1
        self._flight: dict[int, _Sent] = {}  # ascending
        self._in_flight = 0  # bytes of those that are not lost
        self._lost = 0  # how many are
        self._their_window = packet
        self._recover = seq - 1  # losses up to here belong to the last loss that we yielded to
        self._fin: int | None = None
        self._closing = False
        # receiving
        self.arrivals = Arrivals()
        self._told_window = RECEIVE_CAPACITY
        self._ack_due = False
        self._answer_due = False
        # time
        self._base = DelayBase()
        self._delay = 0  # of their last packet, for them
        self._timeouts = 0
        self._timer: float | None = None
        self._sent_at = now

    @classmethod
    def dial(cls, receive_id: int, seq: int, now: float, *, ipv6: bool = False) -> UtpConnection:
        """The side that begins: a SYN is the first of its `datagrams`."""
        made = cls(receive_id, (receive_id + 1) & MASK16, seq, now, ipv6=ipv6)
        made._send(SYN, b"", now)
        return made

    @classmethod
    def answer(cls, syn: Packet, seq: int, now: float, *, ipv6: bool = False) -> UtpConnection:
        """The side that got a SYN."""
        made = cls((syn.connection + 1) & MASK16, syn.connection, seq, now, ipv6=ipv6)
        made.arrivals.ack = syn.seq
        made.connected = True
        made._their_window = syn.window or made._packet
        made._delay = (micros(now) - syn.timestamp) & MASK32
        made._answer_due = True
        return made

    # -- facts --------------------------------------------------------------------------------

    @property
    def readable(self) -> int:
        """Bytes that `read_into` would give now."""
        return self.arrivals.readable

    @property
    def ended(self) -> bool:
        """The peer sent all it had, and all of it was read."""
        return self.arrivals.ended

    @property
    def room(self) -> int:
        """Bytes that `queue` would take now."""
        return SEND_CAPACITY - len(self._queue)

    @property
    def wants_to_send(self) -> bool:
        """An acknowledgement is due."""
        return self._ack_due or self._answer_due

    @property
    def finished(self) -> bool:
        """Nothing is left to do: broken, or everything and the FIN arrived."""
        return self.error is not None or (
            self._fin is not None and not self._flight and not self._queue
        )

    def next_timeout(self) -> float:
        """When to call `on_timeout`."""
        if self.error is not None:
            return float("inf")
        keep_alive = self._sent_at + KEEP_ALIVE
        return keep_alive if self._timer is None else min(self._timer, keep_alive)

    # -- the owner's side ---------------------------------------------------------------------

    def read_into(self, buffer: memoryview) -> int:
        """Move received bytes to the front of `buffer`; how many."""
        count = self.arrivals.read_into(buffer)
        if self.arrivals.window - self._told_window >= RECEIVE_CAPACITY // 4:
            self._ack_due = True  # it may have stopped for want of room
        return count

    def queue(self, data: Buffer) -> int:
        """Take bytes to send; how many there was room for."""
        count = min(len(data), max(0, self.room))
        self._queue += data if count == len(data) else memoryview(data)[:count]
        return count

    def close(self) -> None:
        """Send what is queued, then a FIN."""
        self._closing = True

    def discard(self) -> None:
        """What was received and will be is of no interest."""
        self.arrivals.discard()

    def reset(self, now: float) -> bytes | None:
        """End it at once; the datagram that says so, if the peer knows of us."""
        if self.error is not None:
            return None
        self.error = "closed by us"
        return write_header(
            *(RESET, self.send_id, micros(now), self._delay, 0, self._next, self.arrivals.ack)
        )

    def fail(self, reason: str) -> None:
        """It is broken, for a reason that the owner knows."""
        if self.error is None:
            self.error = reason

    # -- receiving ----------------------------------------------------------------------------

    def receive(self, packet: Packet, now: float) -> None:
        """Act on a packet of this connection; one that cannot be is ignored."""
        kind = packet.kind
        if self.error is not None:
            return
        if kind == SYN:  # again: our answer was lost
            if self.connected and packet.connection == self.send_id:
                self._answer_due = True
            return
        ack = unwrap(packet.ack, self._acked)
        if ack >= self._next or ack < self._acked - MAX_IN_FLIGHT:
            return  # acknowledges what was never sent: not from our peer
        if kind == RESET:
            self.error = "connection reset by peer"
            return
        if not self.connected:
            if kind != STATE or ack != self._next - 1:
                return
            self.connected = True
            self.arrivals.ack = packet.seq - 1
        seq = unwrap(packet.seq, self.arrivals.ack)
        if abs(seq - self.arrivals.ack) > MAX_IN_FLIGHT:
            return
        if packet.window < self._packet:  # it is there, only it has no room
            self._timeouts = 0
        self._delay = (micros(now) - packet.timestamp) & MASK32
        self._their_window = packet.window
        if self._flight:
            self._on_ack(ack, packet, now)
        if kind == DATA:
            self._ack_due = True
            self.arrivals.on_data(seq, packet.payload)
        elif kind == FIN:
            self._ack_due = True
            self.arrivals.on_end(seq)

    def _on_ack(self, ack: int, packet: Packet, now: float) -> None:
        flight = self._flight
        was_full = self._in_flight + self._packet > self._congestion.window
        gone: list[_Sent] = []
        while self._acked < ack:
            self._acked += 1
            sent = flight.pop(self._acked, None)
            if sent is not None:
                gone.append(sent)
        if packet.selective:
            named = [seq for seq in selected(ack, packet.selective) if seq < self._next]
            gone += [sent for seq in named if (sent := flight.pop(seq, None)) is not None]
            if len(named) >= _LATER:
                self._find_lost(named[-_LATER], now)
        if not gone:
            return
        if self._probe is not None and self._probe not in flight:
            self.mtu.on_arrived(now)
            self._end_probe()
        acked = self._timeouts = 0
        for sent in gone:
            if sent.lost:
                self._lost -= 1
            else:
                self._in_flight -= len(sent.datagram)
            acked += len(sent.datagram)
        if gone[-1].times == 1:
            self.round_trip.on_sample(now - gone[-1].at)
        queue = 0
        if packet.delay:
            queue = self._base.add(packet.delay, now)
            if self.round_trip.mean is not None:  # no queue is longer than the way there and back
                queue = min(queue, int(self.round_trip.mean * 1_000_000))
        self._congestion.on_ack(acked, queue, is_full=was_full)
        self.round_trip.on_progress()
        self._timer = now + self.round_trip.timeout if flight else None

    def _find_lost(self, before: int, now: float) -> None:
        """Packets in front of the number `before`, which arrived with two later ones, are lost."""
        patience = self.round_trip.bound
        found = -1
        for seq, sent in self._flight.items():
            if seq >= before:
                break
            if sent.lost or (sent.times > 1 and now - sent.at < patience):
                continue
            sent.lost = True
            self._lost += 1
            self._in_flight -= len(sent.datagram)
            if seq == self._probe:  # which says nothing about congestion
                self.mtu.on_lost(now)
                self._end_probe()
            else:
                found = seq
        if found > self._recover:
            self._recover = self._next - 1
            self._congestion.on_loss()

    # -- time ---------------------------------------------------------------------------------

    def on_timeout(self, now: float) -> None:
        """It is `next_timeout`, or later: `datagrams` may have something afterwards."""
        if self.error is not None:
            return
        if now >= self._sent_at + KEEP_ALIVE:
            self._ack_due = True
        if self._timer is None or now < self._timer:
            return
        self._timer = None
        if not self._flight:  # their window was closed: ask again, with a packet
            self._their_window = max(self._their_window, self._packet)
            return
        self._timeouts += 1
        if self._timeouts >= (MAX_TIMEOUTS if self.connected else MAX_SYN_TIMEOUTS):
            self.error = "timed out"
            return
        self.round_trip.on_timeout()
        self._timer = now + self.round_trip.timeout
        is_congestion = self._probe is None or len(self._flight) > 1
        if self._probe is not None:
            self.mtu.on_lost(now)
            self._end_probe()
        for sent in self._flight.values():
            self._lost += not sent.lost
            sent.lost = True
        self._in_flight = 0
        self._their_window = max(self._their_window, self._packet)
        if is_congestion:
            self._recover = self._next - 1
            self._congestion.on_timeout()
        if self.connected and self._timeouts % 2 == 0:
            self.mtu.on_silence()
            self._end_probe()

    # -- the path's size ------------------------------------------------------------------------

    def probe(self, now: float) -> bytes | None:
        """A packet to be sent before the others and not to be cut (DF), if it is time for one.

        The owner calls `on_probe_refused` when the kernel says that it is too large.
        """
        plain, queue = self._packet, self._queue
        if len(queue) <= _BEHIND_PROBE * plain or self._lost or not self.connected:
            return None
        limit = min(self._congestion.window, self._their_window)
        fits = self._in_flight + plain <= limit > _BEHIND_PROBE * plain
        size = self.mtu.next_probe(now) if fits and len(self._flight) < MAX_IN_FLIGHT else 0
        if not size or self.error is not None:
            return None
        payload = bytes(memoryview(queue)[: plain - HEADER_BYTES])
        del queue[: len(payload)]
        self.mtu.on_sent(size)
        self._probe = self._next
        self._send(DATA, payload, now)
        head = bytearray(self._flight[self._probe].datagram[:HEADER_BYTES])
        head[1] = PADDING  # the first extension
        return bytes(head) + padding(size - plain) + payload

    def on_probe_refused(self, now: float) -> None:
        """The probe just given did not leave: its data goes out as an ordinary packet."""
        if self._probe is not None:
            sent = self._flight[self._probe]
            sent.lost, sent.times = True, 0
            self._lost += 1
            self._in_flight -= len(sent.datagram)
            self.mtu.on_refused(now)
            self._end_probe()

    def _end_probe(self) -> None:
        self._probe = None
        self._packet = self._congestion.packet = self.mtu.size

    # -- sending ------------------------------------------------------------------------------

    def datagrams(self, now: float) -> list[bytes]:
        """What is to be sent now, in order."""
        if self.error is not None:
            return []
        out: list[bytes] = []
        timestamp = micros(now)
        limit = min(self._congestion.window, self._their_window)
        if self._answer_due:  # whatever was sent since: it tells the dialler where to begin
            self._answer_due = False
            out.append(self._state(timestamp, self._first))
        if self._lost:
            self._resend(out, timestamp, limit, now)
        if self._queue and not self._lost and self.connected:
            self._send_queued(out, timestamp, limit, now)
        if self._closing and self._fin is None and not self._queue and self.connected:
            self._fin = self._next
            self._send(FIN, b"", now)
            out.append(self._flight[self._fin].datagram)
        if not self.connected and not self._ack_due and self._next == self._acked + 2:
            syn = self._flight.get(self._acked + 1)
            if syn is not None and syn.times == 0:
                syn.times = 1
                out.append(self._stamped(self._acked + 1, syn, timestamp))
        if self._ack_due and (not out or self.arrivals.ahead):
            out.append(self._state(timestamp, self._next))
        self._ack_due = False
        if out:
            self._sent_at = now
        if self._timer is None and (self._flight or (self._queue and self.connected)):
            self._timer = now + self.round_trip.timeout
        return out

    def _state(self, timestamp: int, seq: int) -> bytes:
        mask = self.arrivals.mask()
        return write_header(
            *(
                STATE,
                self.send_id,
                timestamp,
                self._delay,
                self._told(),
                seq,
                self.arrivals.ack,
                mask,
            )
        )

    def _told(self) -> int:
        self._told_window = self.arrivals.window
        return self._told_window

    def _resend(self, out: list[bytes], timestamp: int, limit: float, now: float) -> None:
        for seq, sent in self._flight.items():
            if not sent.lost:
                continue
            size = len(sent.datagram)
            if self._in_flight and self._in_flight + size > limit:
                break
            sent.lost = False
            sent.times += 1
            sent.at = now
            self._lost -= 1
            self._in_flight += size
            self.resends += sent.times > 1
            out.append(self._stamped(seq, sent, timestamp))
            if not self._lost:
                break

    def _stamped(self, seq: int, sent: _Sent, timestamp: int) -> bytes:
        """The datagram with a header of today."""
        identifier = self.receive_id if sent.kind == SYN else self.send_id
        head = write_header(
            *(sent.kind, identifier, timestamp, self._delay, self._told(), seq, self.arrivals.ack)
        )
        return head + sent.datagram[HEADER_BYTES:]

    def _send_queued(self, out: list[bytes], timestamp: int, limit: float, now: float) -> None:
        size = self._packet - HEADER_BYTES
        window = self._told()
        flight, at, pack = self._flight, 0, HEADER.pack
        identifier, delay, ack = self.send_id, self._delay, self.arrivals.ack & MASK16
        with memoryview(self._queue) as queue:
            end = len(queue)
            while at < end and len(flight) < MAX_IN_FLIGHT:
                length = min(size, end - at) + HEADER_BYTES
                if self._in_flight + length > limit and (self._in_flight or not limit):
                    break
                seq = self._next
                # write_header() in place: once for each packet of everything that is sent
                wrapped = seq & MASK16
                head = pack(_DATA_FIRST, 0, identifier, timestamp, delay, window, wrapped, ack)
                datagram = head + queue[at : at + size]
                flight[seq] = _Sent(DATA, datagram, now)
                out.append(datagram)
                self._in_flight += length
                self._next = seq + 1
                at += size
        del self._queue[:at]

    def _send(self, kind: int, payload: bytes, now: float) -> None:
        """Give a packet the next number. A SYN goes out by the first `datagrams()`."""
        identifier = self.receive_id if kind == SYN else self.send_id
        head = write_header(
            *(
                kind,
                identifier,
                micros(now),
                self._delay,
                self._told(),
                self._next,
                self.arrivals.ack,
            )
        )
        sent = _Sent(kind, head + payload, now)
        sent.times = 0 if kind == SYN else 1
        self._flight[self._next] = sent
        self._in_flight += len(sent.datagram)
        self._next += 1

    def __repr__(self) -> str:
        state = self.error or ("open" if self.connected else "connecting")
        return (
            f"<UtpConnection {state}, {len(self._flight)} in flight, "
            f"{self.readable} unread, {self._congestion!r}, {self.mtu!r}>"
        )
