"""uTP streams: the contract of a stream, connecting, closing, strangers; in virtual time."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, check_one_way_stream, wait_all_tasks_blocked

from tests.swarm.network import inside, narrow_path
from tests.transports.test_base import AsTrioStream, receive_exactly
from torrentfs.errors import TransportError
from torrentfs.transports.base import Address, PeerStream
from torrentfs.transports.udp_port import UdpPort
from torrentfs.transports.utp import MAX_CONNECTIONS, Utp, UtpStream
from torrentfs.wire.utp import DATA, RESET, STATE, SYN, parse_packet, write_header

HERE, THERE = ("192.0.2.1", 6881), ("192.0.2.2", 6882)


class Net:
    """Ports in memory: what is sent arrives when the sender has a checkpoint, or is dropped."""

    def __init__(self) -> None:
        self.ports: dict[Address, FakePort] = {}
        self.moving: deque[tuple[Address, Address, bytes]] = deque()
        self.moved = trio.Event()
        self.seen: list[tuple[Address, Address, bytes]] = []
        self.cut = False

    async def run(self) -> None:
        while True:
            await self.moved.wait()
            self.moved = trio.Event()
            await trio.sleep(0.001)
            batch = list(self.moving)
            self.moving.clear()
            touched = set()
            for sender, target, datagram in batch:
                self.seen.append((sender, target, datagram))
                port = self.ports.get(target)
                if port is not None and not self.cut:
                    port.handler(memoryview(datagram), sender)
                    touched.add(port)
            for port in touched:
                if port.after is not None:
                    port.after()


class FakePort:
    """A `utp.Port` in a `Net`."""

    def __init__(self, net: Net, address: Address) -> None:
        self.net = net
        self.address = address
        self.congested = False
        self.interface = 1472
        self.whole: list[int] = []
        net.ports[address] = self

    def register(
        self,
        kind: str,
        handler: Callable[[memoryview, Address], None],
        after: Callable[[], None] | None = None,
        writable: Callable[[], None] | None = None,
    ) -> None:
        assert kind == "utp"
        self.handler, self.after, self.writable = handler, after, writable

    def send_run(self, datagrams: Sequence[bytes], address: Address) -> bool:
        lengths = [len(datagram) for datagram in datagrams]
        assert len(set(lengths[:-1])) <= 1  # what the kernel asks of a run
        assert lengths[-1] <= lengths[0]
        for datagram in datagrams:
            self.net.moving.append((self.address, address, datagram))
        self.net.moved.set()
        return True

    def send_whole(self, datagram: bytes, address: Address) -> bool:
        self.whole.append(len(datagram))
        return len(datagram) <= self.interface and self.send_run([datagram], address)

    def is_congested(self, address: Address) -> bool:
        return self.congested


class House:
    """Two sides that can connect; what comes in there is in `incoming`."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.net = Net()
        self.here = Utp(FakePort(self.net, HERE))
        self.there = Utp(FakePort(self.net, THERE), max_strangers=3)
        self.nursery = nursery
        self.sender, self.receiver = trio.open_memory_channel[PeerStream](100)

    async def take(self, stream: PeerStream) -> None:
        self.sender.send_nowait(stream)

    async def pair(self) -> tuple[UtpStream, PeerStream]:
        one = await self.here.connect(THERE)
        return one, await self.receiver.receive()


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    async with trio.open_nursery() as nursery:
        made = House(nursery)
        nursery.start_soon(made.net.run)
        await nursery.start(made.here.run)
        await nursery.start(made.there.run, made.take)
        yield made
        nursery.cancel_scope.cancel()


async def test_passes_the_suite_of_trio(autojump_clock: MockClock) -> None:
    class Sender(AsTrioStream):
        async def wait_send_all_might_not_block(self) -> None:
            """See test_base."""
            await self._mapped(lambda: self.stream.send_many([]))

        async def aclose(self) -> None:
            """The suite takes it for granted that the other end knows at once."""
            await super().aclose()
            await trio.sleep(0.01)

    async with house() as made:

        async def maker() -> tuple[trio.abc.SendStream, trio.abc.ReceiveStream]:
            one, other = await made.pair()
            return Sender(one), Sender(other)

        await check_one_way_stream(maker, None)


async def test_many_buffers_both_ways(autojump_clock: MockClock) -> None:
    async with house() as made:
        one, other = await made.pair()
        buffers: list[bytes | bytearray | memoryview] = []
        for number in range(1500):
            buffers += [number.to_bytes(4), b"", bytearray(number), memoryview(bytes(3000))]
        expected = b"".join(buffers)
        async with trio.open_nursery() as nursery:
            for ours, theirs in ((one, other), (other, one)):
                nursery.start_soon(ours.send_many, buffers)

                async def check(stream: PeerStream = theirs) -> None:
                    assert await receive_exactly(stream, len(expected)) == expected

                nursery.start_soon(check)
        assert one.kind == other.kind == "utp"
        assert (one.remote, other.remote) == (THERE, HERE)


async def test_contract_of_the_end_and_of_misuse(autojump_clock: MockClock) -> None:
    async with house() as made:
        one, other = await made.pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.receive_into, memoryview(bytearray(1)))
            nursery.start_soon(one.send_all, bytes(64 << 20))
            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await one.receive_into(memoryview(bytearray(1)))
            with pytest.raises(trio.BusyResourceError):
                await one.send_all(b"x")
            nursery.cancel_scope.cancel()
        one, other = await made.pair()
        await one.send_all(b"last words")
        await one.aclose()
        assert await receive_exactly(other, 10) == b"last words"
        for _ in range(3):
            assert await other.receive_into(memoryview(bytearray(8))) == 0
        await trio.sleep(0.1)
        assert len(made.here) == 1  # the closed one is forgotten: all it said has arrived


async def test_abort_is_told_to_both_sides(autojump_clock: MockClock) -> None:
    async def expect(words: str, call: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(TransportError, match=words):
            await call()

    async with house() as made:
        one, other = await made.pair()
        async with trio.open_nursery() as nursery:
            room = memoryview(bytearray(1))
            nursery.start_soon(expect, "closed by us", lambda: one.receive_into(room))
            nursery.start_soon(expect, "closed by us", lambda: one.send_all(bytes(64 << 20)))
            await wait_all_tasks_blocked()
            one.abort()
        await trio.sleep(0.1)
        await expect("closed by us", lambda: one.send_all(b"x"))
        await expect("reset by peer", lambda: other.send_all(b"x"))
        one.abort()
        await one.aclose()
        assert len(made.here) == 0


async def test_nobody_there(autojump_clock: MockClock) -> None:
    async with house() as made:
        made.there._handler = None
        for address in (THERE, ("192.0.2.9", 1)):
            started = trio.current_time()
            with pytest.raises(TransportError, match="by uTP: timed out"):
                await made.here.connect(address, timeout=3)
            assert trio.current_time() - started == pytest.approx(3)
        assert len(made.here) == 0
        with trio.move_on_after(1):
            await made.here.connect(THERE)
        assert len(made.here) == 0


async def test_what_is_lost_comes_again(autojump_clock: MockClock) -> None:
    async with house() as made:
        one, other = await made.pair()
        made.net.cut = True
        await one.send_all(b"x" * 5000)
        await trio.sleep(0.1)
        made.net.cut = False
        assert await receive_exactly(other, 5000) == b"x" * 5000


async def test_a_peer_that_vanished(autojump_clock: MockClock) -> None:
    async with house() as made:
        one, _ = await made.pair()
        made.net.cut = True
        await one.send_all(b"hello?")
        with pytest.raises(TransportError, match="timed out"):
            await one.receive_into(memoryview(bytearray(1)))
        await one.aclose()
        assert len(made.here) == 0
        assert "timed out" in repr(one)


async def test_a_closed_stream_does_not_linger_for_ever(autojump_clock: MockClock) -> None:
    async with house() as made:
        one, _ = await made.pair()
        await one.send_all(bytes(400_000))
        await one.aclose()  # the other side never reads all of it, and keeps its window closed
        made.net.cut = True
        await trio.sleep(31)
        assert len(made.here) == 0


async def test_a_congested_port_is_waited_for(autojump_clock: MockClock) -> None:
    async with house() as made:
        one, other = await made.pair()
        port = made.net.ports[HERE]
        port.congested = True
        await one.send_all(b"later")
        with trio.move_on_after(1) as scope:
            await receive_exactly(other, 5)
        assert scope.cancelled_caught
        port.congested = False
        assert port.writable is not None
        port.writable()
        assert await receive_exactly(other, 5) == b"later"


@pytest.mark.parametrize("interface", [1472, 1400, 1252])
async def test_packets_become_as_large_as_the_path_carries(
    autojump_clock: MockClock, interface: int
) -> None:
    """What the kernel refuses is no packet lost: it goes out again, small."""
    async with house() as made:
        one, other = await made.pair()
        port = made.net.ports[HERE]
        port.interface = interface
        data = bytes(range(256)) * 1600
        async with trio.open_nursery() as both:
            both.start_soon(one.send_all, data)
            assert await receive_exactly(other, len(data)) == data
        assert port.whole[0] == 1472
        assert interface - 16 < max(len(datagram) for _, _, datagram in made.net.seen) <= interface
        assert one.connection.mtu.size > interface - 16
        assert one.connection.resends == 0


def last_to(net: Net, target: Address) -> int:
    return next(
        parse_packet(memoryview(data)).kind for _, to, data in reversed(net.seen) if to == target
    )


async def test_strangers(autojump_clock: MockClock) -> None:
    """Packets of no connection, forged resets, and more SYNs than anybody should send."""
    async with house() as made:
        evil: Address = ("192.0.2.66", 6)
        port = FakePort(made.net, evil)
        port.register("utp", lambda data, sender: None)
        port.send_run([write_header(DATA, 5, 0, 0, 0, 9, 9)], THERE)
        await trio.sleep(0.01)
        assert last_to(made.net, evil) == RESET
        for number in range(200):
            port.send_run([write_header(STATE, number, 0, 0, 0, 9, 9)], THERE)
        port.send_run([b"\x01nonsense"], THERE)
        port.send_run([write_header(RESET, 7, 0, 0, 0, 9, 9)], THERE)
        made.net.seen.clear()
        await trio.sleep(0.01)
        assert sum(to == evil for _, to, _ in made.net.seen) < 60

        async def silent(stream: PeerStream) -> None:
            await stream.receive_into(memoryview(bytearray(1)))

        made.there._handler = silent
        for number in range(20):
            port.send_run([write_header(SYN, number, 0, 0, 0, 9, 0)], THERE)
            port.send_run([write_header(SYN, number, 0, 0, 0, 9, 0)], THERE)  # again
        await trio.sleep(0.01)
        assert len(made.there) == 3
        assert made.there.accepted == 20
        assert "3 strangers" in repr(made.there)


async def test_who_is_blocked_gets_no_answer(autojump_clock: MockClock) -> None:
    async with house() as made:
        evil: Address = ("192.0.2.66", 6)
        made.there.blocks = lambda host: host == evil[0]
        port = FakePort(made.net, evil)
        port.register("utp", lambda data, sender: None)
        for kind in (SYN, DATA, STATE, SYN):
            port.send_run([write_header(kind, 5, 0, 0, 0, 9, 9)], THERE)
        await trio.sleep(1)
        assert [to for _, to, _ in made.net.seen if to == evil] == []
        assert (made.there.accepted, len(made.there)) == (0, 0)
        await made.pair()


async def test_too_many(autojump_clock: MockClock) -> None:
    async with house() as made:
        made.here._streams = {("x", 1, n): None for n in range(MAX_CONNECTIONS)}  # type: ignore[misc]
        with pytest.raises(TransportError, match="too many"):
            await made.here.connect(THERE)
        made.here._streams = {}


@pytest.mark.real
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("link", [1500, 1400, 1280])
async def test_the_size_of_a_real_path(link: int, family: str) -> None:
    """One side is refused by its own interface, the other's packets vanish in the middle."""
    part = bytes(range(256)) * 512
    fits = link - (28 if family == "ipv4" else 48)

    async def echo(stream: PeerStream) -> None:
        streams.append(stream)
        while True:
            await stream.send_all(await receive_exactly(stream, len(part)))

    with narrow_path(link) as path:
        ports = []
        for namespace, address in zip(
            (path.wide, path.narrow), path.addresses[family], strict=True
        ):
            with inside(namespace):
                ports.append(UdpPort(bind=address))
        here, there = map(Utp, ports)
        streams: list[PeerStream] = []
        async with trio.open_nursery() as nursery:
            for port in ports:
                await nursery.start(port.serve)
            await nursery.start(here.run)
            await nursery.start(there.run, echo)
            with trio.fail_after(60):
                stream = await here.connect((path.addresses[family][1], ports[1].port))
                for _ in range(40):  # each search takes some round trips
                    await stream.send_all(part)
                    assert await receive_exactly(stream, len(part)) == part
                for side in (stream, *streams):
                    assert isinstance(side, UtpStream)
                    assert fits - 16 < side.connection.mtu.size <= fits
            nursery.cancel_scope.cancel()


@pytest.mark.real
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_over_real_sockets(host: str) -> None:
    one, other = UdpPort(bind=host), UdpPort(bind=host)
    data = bytes(range(256)) * (1 << 14)

    async def echo(stream: PeerStream) -> None:
        room = memoryview(bytearray(1 << 16))
        while count := await stream.receive_into(room):
            await stream.send_all(room[:count])
        await stream.aclose()

    here, there = Utp(one), Utp(other)
    async with trio.open_nursery() as nursery:
        for port in (one, other):
            await nursery.start(port.serve)
        await nursery.start(here.run)
        await nursery.start(there.run, echo)
        with trio.fail_after(30):
            stream = await here.connect((host, other.port))
            async with trio.open_nursery() as both:
                both.start_soon(stream.send_all, data)
                assert await receive_exactly(stream, len(data)) == data
            await stream.aclose()
        nursery.cancel_scope.cancel()
