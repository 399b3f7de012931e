"""A DHT node under fire: any datagrams, answers to its questions among them, and nothing breaks.

The input is cut into datagrams by their lengths. The first byte of each says who sends it, and
whether it gets the transaction of a question that waits, so that it is taken for the answer.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from torrentfs.discovery.dht.protocol import Dht
from torrentfs.wire.krpc import (
    AnnouncePeer,
    Contact,
    FindNode,
    GetPeers,
    Ping,
    Query,
    Response,
    SampleInfohashes,
    encode_message,
    parse_message,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torrentfs.wire.krpc import Address, Message

MODULES = [
    "torrentfs.discovery.dht.answers",
    "torrentfs.discovery.dht.calls",
    "torrentfs.discovery.dht.lookup",
    "torrentfs.discovery.dht.protocol",
    "torrentfs.discovery.dht.routing",
    "torrentfs.discovery.dht.sampling",
    "torrentfs.discovery.dht.search",
    "torrentfs.discovery.dht.storage",
    "torrentfs.wire.krpc",
]

_HASH, _ME = b"h" * 20, b"m" * 20
_ROUTERS = (("8.8.8.8", 1), ("2a00::8", 2))
_SENDERS = (*_ROUTERS, ("8.8.4.4", 3), ("10.0.0.1", 4), ("127.0.0.1", 5), ("::1", 6))
_WAITING = b"TTTT"
"""In a datagram that is an answer: to be replaced by the transaction of a question."""
_MAX_DATAGRAM = 1400


def _cut(messages: Iterable[tuple[int, Message]]) -> bytes:
    out = bytearray()
    for sender, message in messages:
        data = encode_message(message)
        out += bytes([sender]) + len(data).to_bytes(2) + data
    return bytes(out)


def seeds() -> Iterable[bytes]:
    """A search as it should be, and questions of others."""
    nodes = tuple(Contact(bytes([n]) * 20, (f"9.9.{n}.1", n)) for n in range(1, 9))
    nodes6 = tuple(Contact(bytes([n]) * 20, (f"2a00:{n}::1", n)) for n in range(1, 9))
    named = Response(_WAITING, _ME, nodes=nodes, nodes6=nodes6, token=b"tok")
    found = Response(_WAITING, _ME, peers=(("7.7.7.7", 7), ("2a00::7", 7)), token=b"tok")
    yield _cut([(0, named), (1, named), (0, found), (1, found), (0, found)])
    yield _cut([(n, Query(b"q", _ME, Ping())) for n in range(6)])
    yield _cut(
        [
            (2, Query(b"q", _ME, FindNode(_HASH, ("n4", "n6")))),
            (2, Query(b"q", _ME, GetPeers(_HASH))),
            (2, Query(b"q", _ME, AnnouncePeer(_HASH, None, b"token"))),
            (0, named),
            (2, Query(b"q", _ME, SampleInfohashes(_HASH, ("n4", "n6")))),
            (3, Query(b"q", _ME, GetPeers(_HASH), read_only=True)),
        ]
    )


def _datagrams(data: bytes) -> Iterable[tuple[Address, bytes]]:
    at = 0
    while at + 3 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 3])
        yield _SENDERS[data[at] % len(_SENDERS)], data[at + 3 : at + 3 + size]
        at += 3 + size


def one_input(data: bytes) -> None:
    """Let it all arrive while a search runs, and look at what it does."""
    now = 100.0
    dht = Dht(rng=Random(1), now=now)
    dht.add_routers(_ROUTERS, now)
    told: list[Address] = []
    dht.search(_HASH, told.extend, now, announce_port=7000)
    waiting: dict[Address, list[bytes]] = {}
    for sender, datagram in _datagrams(data):
        _look(dht, waiting)
        queue = waiting.get(sender)
        if queue and _WAITING in datagram:
            datagram = datagram.replace(_WAITING, queue.pop(0), 1)
        dht.receive(datagram, sender, now)
        now += 0.1
        if dht.next_time() <= now:
            dht.on_time(now)
    _look(dht, waiting)
    for _ in range(30):
        now = max(now, dht.next_time())
        dht.on_time(now)
    assert dht.searching <= 4
    assert all(address[1] for address in told)


def _look(dht: Dht, waiting: dict[Address, list[bytes]]) -> None:
    """Everything that is sent can be read, fits into a packet, and goes to a possible address."""
    for datagram, address in dht.take_datagrams():
        assert len(datagram) < _MAX_DATAGRAM
        assert 0 < address[1] < 65536
        message = parse_message(datagram)
        if isinstance(message, Query):
            waiting.setdefault(address, []).append(message.transaction)
