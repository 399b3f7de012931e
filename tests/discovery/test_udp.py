"""UDP trackers: the schedule of repetitions in virtual time, forged replies, and real sockets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from torrentfs.discovery.udp import UdpTrackers, open_udp_trackers
from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.wire import udp_tracker as wire
from torrentfs.wire.announce import AnnounceReply, AnnounceRequest, SwarmCounts

REQUEST = AnnounceRequest(info_hash=bytes(20), peer_id=bytes(20), port=6881)
PLACE = ("192.0.2.1", 6969)
URL = "udp://tracker.example:6969/announce?key=1"
PEERS = (("192.0.2.9", 1), ("2001:db8::9", 2))

Tracker = Callable[[bytes], "list[tuple[bytes, tuple[str, int]]]"]


class FakeSocket:
    """Datagrams to a scripted tracker, which answers with any from anywhere."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.sent: list[tuple[float, bytes]] = []
        self.closed = False
        self._send, self._receive = trio.open_memory_channel[Any](100)

    async def sendto(self, data: bytes, address: Any, /) -> int:
        await trio.lowlevel.checkpoint()
        self.sent.append((trio.current_time(), data))
        for reply in self.tracker(data):
            self._send.send_nowait(reply)
        return len(data)

    async def recvfrom(self, size: int, /) -> tuple[bytes, Any]:
        got: tuple[bytes, Any] = await self._receive.receive()
        return got

    def close(self) -> None:
        self.closed = True
        self._receive.close()


def answering(data: bytes) -> list[tuple[bytes, tuple[str, int]]]:
    """A tracker as it should be."""
    asked = wire.parse_request(data)
    if isinstance(asked, wire.ConnectRequest):
        return [(wire.connect_reply(asked.transaction, 77), PLACE)]
    assert asked.connection == 77
    assert isinstance(asked, wire.UdpAnnounce)
    assert asked.url_data == b"/announce?key=1"
    return [(wire.announce_reply(asked.transaction, AnnounceReply(peers=PEERS)), PLACE)]


async def announce(
    link: FakeSocket, *, times: int = 1, pause: float = 0.0, url: str = URL
) -> list[AnnounceReply]:
    async def open_socket(family: int) -> FakeSocket:
        return link

    async def resolve(host: str, port: int) -> list[tuple[int, Any]]:
        assert (host, port) == ("tracker.example", 6969)
        return [(trio.socket.AF_INET, PLACE), (trio.socket.AF_INET, ("192.0.2.2", 6969))]

    replies: list[AnnounceReply] = []
    failed: Exception | None = None
    async with open_udp_trackers(open_socket=open_socket, resolve=resolve) as udp:
        try:
            for _ in range(times):
                await udp.announce(url, REQUEST, replies.append)
                await trio.sleep(pause)
        except (TransportError, RemoteProtocolError) as error:
            failed = error  # raised below: not inside the nursery, which would wrap it
    if failed is not None:
        raise failed
    return replies


async def test_connects_then_announces(autojump_clock: MockClock) -> None:
    link = FakeSocket(answering)
    (reply,) = await announce(link)
    assert reply.peers == PEERS[:1]
    assert len(link.sent[0][1]) == 16


async def test_a_connection_id_is_used_for_a_minute(autojump_clock: MockClock) -> None:
    link = FakeSocket(answering)
    await announce(link, times=3, pause=25)
    assert len(link.sent) == 4
    link = FakeSocket(answering)
    await announce(link, times=2, pause=61)
    assert len(link.sent) == 4


async def test_repeats_at_15_and_45_and_gives_up_at_105(autojump_clock: MockClock) -> None:
    link = FakeSocket(lambda data: [])
    start = trio.current_time()
    with pytest.raises(TransportError, match="no answer within 105 s"):
        await announce(link)
    assert [at - start for at, _ in link.sent] == [0, 15, 45]
    assert len({data for _, data in link.sent}) == 1  # the same transaction: late replies count
    assert trio.current_time() - start == 105


async def test_a_lost_datagram_costs_one_repetition(autojump_clock: MockClock) -> None:
    lost = iter([True, False, True, False])
    link = FakeSocket(lambda data: [] if next(lost) else answering(data))
    assert len(await announce(link)) == 1
    assert [at for at, _ in link.sent] == [0, 15, 15, 30]


async def test_forged_and_broken_datagrams_are_ignored(autojump_clock: MockClock) -> None:
    def tracker(data: bytes) -> list[tuple[bytes, tuple[str, int]]]:
        transaction = wire.parse_request(data).transaction
        forged = wire.error_reply(transaction, "forged")
        return [
            (forged, ("192.0.2.66", 6969)),
            (forged, ("192.0.2.1", 6970)),
            (wire.error_reply(transaction ^ 1, "another"), PLACE),
            (b"", PLACE),
            (b"\0\0\0\7garbage", PLACE),
            *answering(data),
        ]

    assert len(await announce(FakeSocket(tracker))) == 1


async def test_a_refusal_is_said_in_its_words(autojump_clock: MockClock) -> None:
    def tracker(data: bytes) -> list[tuple[bytes, tuple[str, int]]]:
        asked = wire.parse_request(data)
        if isinstance(asked, wire.ConnectRequest):
            return answering(data)
        return [(wire.error_reply(asked.transaction, "not registered"), PLACE)]

    link = FakeSocket(tracker)
    with pytest.raises(RemoteProtocolError, match="not registered"):
        await announce(link)
    assert len(link.sent) == 2


async def test_a_forgotten_connection_id_is_renewed_once(autojump_clock: MockClock) -> None:
    valid = 1

    def tracker(data: bytes) -> list[tuple[bytes, tuple[str, int]]]:
        nonlocal valid
        asked = wire.parse_request(data)
        if isinstance(asked, wire.ConnectRequest):
            return [(wire.connect_reply(asked.transaction, valid), PLACE)]
        if asked.connection != valid:
            return [(wire.error_reply(asked.transaction, "bad connection id"), PLACE)]
        valid += 1  # the tracker restarts after each announce
        return [(wire.announce_reply(asked.transaction, AnnounceReply()), PLACE)]

    link = FakeSocket(tracker)
    assert len(await announce(link, times=2)) == 2
    assert len(link.sent) == 5


async def test_a_scrape_of_both_families(autojump_clock: MockClock) -> None:
    """Each family may count peers of its own: the greater number is told."""
    hashes = (b"1" * 20, b"2" * 20, b"3" * 20)
    places = {trio.socket.AF_INET: PLACE, trio.socket.AF_INET6: ("2001:db8::1", 6969)}

    def tracker(ipv6: bool, data: bytes) -> list[tuple[bytes, tuple[str, int]]]:
        place = places[trio.socket.AF_INET6 if ipv6 else trio.socket.AF_INET]
        asked = wire.parse_request(data)
        if isinstance(asked, wire.ConnectRequest):
            return [(wire.connect_reply(asked.transaction, 77), place)]
        assert isinstance(asked, wire.UdpScrape)
        assert asked.info_hashes == hashes
        counts = [SwarmCounts(1, 8, 3), SwarmCounts(4, 5, 6)][: 1 if ipv6 else 2]
        if ipv6:
            counts = [SwarmCounts(7, 2, 3)]
        return [(wire.scrape_reply(asked.transaction, counts), place)]

    async def open_socket(family: int) -> FakeSocket:
        return FakeSocket(partial(tracker, family == trio.socket.AF_INET6))

    async def resolve(host: str, port: int) -> list[tuple[int, Any]]:
        return list(places.items())

    async with open_udp_trackers(open_socket=open_socket, resolve=resolve) as udp:
        found = await udp.scrape(URL, hashes)
    assert found == {hashes[0]: SwarmCounts(7, 8, 3), hashes[1]: SwarmCounts(4, 5, 6)}
    closed: TransportError | None = None
    try:
        await udp.scrape(URL, hashes)  # somebody looks while the torrent goes
    except TransportError as error:
        closed = error
    assert "closed by us" in str(closed)


@pytest.mark.parametrize(
    "url", ["udp://tracker.example/", "udp://:80", "udp://a:99999", "udp://[bad:1/", "udp:"]
)
async def test_bad_urls(url: str) -> None:
    with pytest.raises(TransportError):
        await announce(FakeSocket(answering), url=url)


@pytest.mark.real
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_over_real_sockets(host: str) -> None:
    ipv6 = ":" in host
    family = trio.socket.AF_INET6 if ipv6 else trio.socket.AF_INET
    seen: list[AnnounceRequest] = []

    async def serve(link: trio.socket.SocketType) -> None:
        while True:
            data, sender = await link.recvfrom(2048)
            asked = wire.parse_request(data)
            if isinstance(asked, wire.ConnectRequest):
                await link.sendto(wire.connect_reply(asked.transaction, 5), sender)
                continue
            seen.append(asked.request)
            reply = AnnounceReply(interval=120, seeders=1, leechers=2, peers=PEERS)
            await link.sendto(wire.announce_reply(asked.transaction, reply, ipv6=ipv6), sender)

    with trio.socket.socket(family, trio.socket.SOCK_DGRAM) as link:
        await link.bind((host, 0))
        shown = f"[{host}]" if ipv6 else host
        url = f"udp://{shown}:{link.getsockname()[1]}/announce"
        replies: list[AnnounceReply] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, link)
            async with open_udp_trackers() as udp:
                with trio.fail_after(5):
                    await udp.announce(url, REQUEST, replies.append)
            async with open_udp_trackers(bind="::1" if not ipv6 else "127.0.0.1") as udp:
                with pytest.raises(TransportError, match="cannot be reached from"):
                    await udp.announce(url, REQUEST, replies.append)
            nursery.cancel_scope.cancel()
    assert [reply.peers for reply in replies] == [PEERS[1:] if ipv6 else PEERS[:1]]
    assert seen == [REQUEST]


async def test_sockets_are_opened_anew_where_we_stand_now(autojump_clock: MockClock) -> None:
    stands, links = ["the first"], [FakeSocket(lambda data: []), FakeSocket(answering)]
    opened: list[FakeSocket] = []

    async def open_socket(family: int) -> FakeSocket:
        await trio.lowlevel.checkpoint()
        opened.append(links[len(opened)])
        return opened[-1]

    async def resolve(host: str, port: int) -> list[tuple[int, Any]]:
        await trio.lowlevel.checkpoint()
        return [(trio.socket.AF_INET, PLACE)]

    async with trio.open_nursery() as nursery:
        udp = UdpTrackers(nursery, open_socket, resolve, lambda: stands[-1])
        found: list[AnnounceReply] = []
        nursery.start_soon(udp.announce, URL, REQUEST, found.append)
        await trio.sleep(1)
        stands.append("the second")  # the next repetition goes from there
        await trio.sleep(20)
        assert len(found) == 1
        assert opened[0].closed
        udp.close()
