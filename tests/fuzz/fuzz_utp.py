"""uTP: any datagrams at any times, to a connection that is dialling, open or being closed.

The first byte says how far it got. Then come datagrams, each with a byte for its length and one for
the time since the last (in hundredths of a second); what came out is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.errors import RemoteProtocolError
from torrentfs.wire.utp import DATA, FIN, RESET, STATE, SYN, parse_packet, write_header
from torrentfs.wire.utp_arrivals import MAX_AHEAD, RECEIVE_CAPACITY
from torrentfs.wire.utp_connection import SEND_CAPACITY, UtpConnection

if TYPE_CHECKING:
    from collections.abc import Iterable

MODULES = [
    "torrentfs.wire.utp",
    "torrentfs.wire.utp_arrivals",
    "torrentfs.wire.utp_connection",
    "torrentfs.wire.utp_ledbat",
    "torrentfs.wire.utp_mtu",
    "torrentfs.wire.utp_round_trip",
]

_ID, _OURS, _THEIRS = 10, 100, 200


def _record(datagram: bytes, later: int = 1) -> bytes:
    return bytes((len(datagram), later)) + datagram


def seeds() -> Iterable[bytes]:
    """A conversation with everything in it, and single packets."""
    talk = [
        write_header(STATE, _ID, 1, 2, 1 << 20, _THEIRS, _OURS),
        write_header(DATA, _ID, 5, 6, 1 << 20, _THEIRS, _OURS) + b"hello",
        write_header(DATA, _ID, 5, 6, 0, _THEIRS + 2, _OURS + 1) + b"ahead",
        write_header(STATE, _ID, 7, 8, 1 << 20, _THEIRS, _OURS, b"\x0f\0\0\0"),
        write_header(STATE, _ID, 9, 8, 5000, _THEIRS, _OURS + 10),
        write_header(FIN, _ID, 9, 8, 5000, _THEIRS + 3, _OURS + 10),
    ]
    for stage in range(4):
        yield bytes([stage]) + b"".join(map(_record, talk))
        yield bytes([stage]) + b"".join(_record(packet, 255) for packet in talk[::-1])
    yield b"\1" + _record(write_header(RESET, _ID, 0, 0, 0, 0, _OURS))
    yield b"\2" + _record(write_header(SYN, _ID - 1, 0, 0, 0, 5, 0))
    yield b"\1" + _record(b"\x21\x07" + bytes(18) + b"\x01\x02ab\0\x04\1\2\3\4")


def _prepared(stage: int, now: float) -> UtpConnection:
    if stage & 2:
        syn = parse_packet(memoryview(write_header(SYN, _ID, 0, 0, 9000, _THEIRS, 0)))
        made = UtpConnection.answer(syn, _OURS, now)
    else:
        made = UtpConnection.dial(_ID, _OURS, now)
    made.queue(bytes(30_000))
    made.datagrams(now)
    if stage & 4:
        made.close()
    return made


def one_input(data: bytes) -> None:
    """Nothing but the declared error; the books stay right and memory within bounds."""
    now = 50.0
    connection = _prepared((data[:1] or b"\0")[0], now)
    at = 1
    for _ in range(500):
        if at + 2 > len(data):
            break
        size, later = data[at], data[at + 1]
        datagram = data[at + 2 : at + 2 + size]
        at += 2 + size
        now += later / 100
        if connection.next_timeout() <= now:
            connection.on_timeout(now)
        try:
            packet = parse_packet(memoryview(datagram))
        except RemoteProtocolError:
            continue
        connection.receive(packet, now)
        probe = connection.probe(now)
        if probe is not None and later & 2:
            connection.on_probe_refused(now)
            probe = None
        sent = connection.datagrams(now)
        for out in [probe, *sent] if probe is not None else sent:
            parse_packet(memoryview(out))
        flight = connection._flight.values()
        assert connection._lost == sum(sent.lost for sent in flight)
        assert connection._in_flight == sum(len(s.datagram) for s in flight if not s.lost)
        assert len(connection.arrivals._ahead) <= MAX_AHEAD
        assert connection.readable + connection.arrivals._ahead_bytes <= RECEIVE_CAPACITY
        assert 0 <= connection.room <= SEND_CAPACITY
        if later & 1:
            connection.read_into(memoryview(bytearray(100)))
