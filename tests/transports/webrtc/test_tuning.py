"""DTLS by lists: with another of its kind, with aiortc's own, and what goes past it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import aioice.ice
import aioice.turn
import pytest
from aiortc import RTCCertificate, RTCDtlsTransport
from aiortc.rtcdtlstransport import RTCDtlsParameters

from torrentfs.transports.webrtc import tuning
from torrentfs.transports.webrtc.datagrams import RECEIVE_BUFFER, BatchProtocol
from torrentfs.transports.webrtc.tuning import BatchDtlsTransport, BatchStunProtocol


class Ice:
    """As much of an ICE transport and its connection as DTLS needs, in memory."""

    def __init__(self, role: str, many: bool) -> None:
        self.role = role
        self.other: Ice | None = None
        self.closed = False
        self.dtls_sink: Any = None
        self.batches: list[int] = []
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self._connection = self
        self.transport: Any = self if many else SimpleNamespace(sendto=self.sendto)
        self._nominated = {1: SimpleNamespace(protocol=self, remote_addr=("192.0.2.1", 1))}

    def data_received(self, data: bytes, component: int) -> None:
        self._queue.put_nowait((data, component))

    async def _recv(self) -> bytes:
        item = await self._queue.get()
        if item is None:
            raise ConnectionError
        return bytes(item[0])

    async def _send(self, data: bytes) -> None:
        self.send_many([data], None)

    def sendto(self, data: bytes, address: Any) -> None:
        self.send_many([data], address)

    def send_many(self, datagrams: Sequence[bytes], address: Any) -> None:
        self.batches.append(len(datagrams))
        assert self.other is not None
        asyncio.get_running_loop().call_soon(self.other.arrive, list(datagrams))

    def arrive(self, datagrams: list[bytes]) -> None:
        if self.dtls_sink is not None:
            self.dtls_sink(datagrams)
        else:
            for datagram in datagrams:
                self.data_received(datagram, 1)


class Receiver:
    """An association, for DTLS."""

    def __init__(self, lists: bool) -> None:
        self.got: list[bytes] = []
        self.lists: list[int] = []
        if lists:
            self.packets_received = self._packets_received

    def _packets_received(self, packets: Sequence[bytes]) -> None:
        self.lists.append(len(packets))
        self.got += packets

    async def _handle_data(self, data: bytes) -> None:
        self.got.append(data)


async def until(fact: Any) -> None:
    async with asyncio.timeout(20):
        while not fact():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def connected(
    kinds: tuple[type[RTCDtlsTransport], type[RTCDtlsTransport]], many: bool = True
) -> tuple[list[Ice], list[Any]]:
    ices = [Ice("controlling", many), Ice("controlled", many)]
    ices[0].other, ices[1].other = ices[1], ices[0]
    certificates = [RTCCertificate.generateCertificate() for _ in range(2)]
    ends: list[Any] = [
        kind(ice, [certificate])  # type: ignore[arg-type]
        for kind, ice, certificate in zip(kinds, ices, certificates, strict=True)
    ]
    parameters = [RTCDtlsParameters(each.getFingerprints()) for each in certificates]
    await asyncio.gather(ends[0].start(parameters[1]), ends[1].start(parameters[0]))
    assert [end.state for end in ends] == ["connected", "connected"]
    return ices, ends


@pytest.mark.parametrize("many", [True, False])
@pytest.mark.parametrize("other", [BatchDtlsTransport, RTCDtlsTransport])
def test_packets_both_ways(other: type[RTCDtlsTransport], many: bool) -> None:
    async def scene() -> None:
        ices, (one, two) = await connected((BatchDtlsTransport, other), many)
        receivers = [Receiver(True), Receiver(True)]
        one._register_data_receiver(receivers[0])
        two._register_data_receiver(receivers[1])
        sent = [bytes([number]) * (1188 - number) for number in range(20)]
        ices[0].batches.clear()
        one.send_packets(sent)
        assert ices[0].batches == ([20] if many else [1] * 20)
        for packet in sent:
            await two._send_data(packet)
        await until(lambda: all(len(receiver.got) == 20 for receiver in receivers))
        assert receivers[0].got == receivers[1].got == sent
        if other is BatchDtlsTransport and many:
            assert 20 in receivers[1].lists
        # Garbage and repeated records are passed over.
        ices[0].arrive([b"\x17garbage", b"\x14" + bytes(60), b"\x16\xfe\xfd" + bytes(10)])
        await two._send_data(b"after")
        await until(lambda: receivers[0].got[-1] == b"after")
        await two.stop()
        await until(lambda: one.state == "closed")  # the peer said so
        with pytest.raises(ConnectionError):
            one.send_packets([b"too late"])
        await one.stop()

    asyncio.run(scene())


def test_an_association_of_the_old_way() -> None:
    async def scene() -> None:
        _, (one, two) = await connected((BatchDtlsTransport, BatchDtlsTransport))
        receiver = Receiver(False)
        two._register_data_receiver(receiver)
        one.send_packets([b"a", b"b", b"c"])
        await until(lambda: len(receiver.got) == 3)
        assert receiver.got == [b"a", b"b", b"c"]
        await one.stop()
        await two.stop()
        await until(lambda: one.state == two.state == "closed")

    asyncio.run(scene())


def test_without_a_pair() -> None:
    async def scene() -> None:
        ices, (one, two) = await connected((BatchDtlsTransport, BatchDtlsTransport))
        pair = ices[0]._nominated.pop(1)
        with pytest.raises(ConnectionError):
            one.send_packets([b"nowhere"])
        ices[0]._nominated[1] = pair
        await one.stop()
        await two.stop()
        await until(lambda: one.state == two.state == "closed")

    asyncio.run(scene())


def test_what_is_dtls_and_what_is_not() -> None:
    async def scene() -> None:
        sunk: list[list[bytes]] = []
        queued: list[bytes] = []
        connection = SimpleNamespace(
            dtls_sink=None, data_received=lambda data, component: queued.append(data)
        )
        protocol = BatchStunProtocol(connection)  # type: ignore[arg-type]
        assert isinstance(protocol, BatchProtocol)
        protocol.local_candidate = SimpleNamespace(component=1)  # type: ignore[assignment]
        place = ("192.0.2.1", 1)
        protocol.datagrams_received([(b"\x17first", place)])
        assert queued == [b"\x17first"]
        connection.dtls_sink = sunk.append
        binding = bytes.fromhex("00010000 2112a442") + bytes(12)
        protocol.datagrams_received(
            [(b"\x17a", place), (b"\x80rtp", place), (b"", place), (b"\x16b", place)]
        )
        protocol.datagram_received(b"\x17c", place)
        assert sunk == [[b"\x17a", b"\x16b"], [b"\x17c"]]
        assert queued == [b"\x17first", b"\x80rtp"]
        asked = []
        connection.request_received = lambda message, addr, protocol: asked.append(addr)
        protocol.datagrams_received([(binding, place)])
        assert asked == [place]

    asyncio.run(scene())


def test_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "StunProtocol", aioice.ice.StunProtocol)
    monkeypatch.setattr(aioice.turn, "UDP_SOCKET_BUFFER_SIZE", 1)
    tuning.apply()
    assert aioice.ice.StunProtocol is BatchStunProtocol
    assert aioice.turn.UDP_SOCKET_BUFFER_SIZE == RECEIVE_BUFFER
    monkeypatch.delattr(aioice.turn, "UDP_SOCKET_BUFFER_SIZE")
    tuning.apply()  # an aioice without it
