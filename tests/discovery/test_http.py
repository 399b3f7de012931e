"""HTTP trackers: families, refusals, and a real announce with all tiers above it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

import pytest
import trio

from torrentfs.discovery.http import HttpTrackers
from torrentfs.discovery.trackers import Totals, TrackerTiers
from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.transports.http import HttpClient, HttpError, HttpReply
from torrentfs.transports.outgoing import Outgoing
from torrentfs.transports.reach import Rule, of_scrape, of_tracker
from torrentfs.wire.announce import AnnounceReply, AnnounceRequest, SwarmCounts
from torrentfs.wire.http_tracker import encode_failure, encode_reply, encode_scrape, parse_query

REQUEST = AnnounceRequest(info_hash=bytes(range(20)), peer_id=b"%&? #" * 4, port=6881)
PEERS = (("192.0.2.9", 1), ("2001:db8::9", 2))


class FakeClient:
    """Answers by family."""

    outgoing = Outgoing()

    def __init__(self, addresses: list[str], **replies: tuple[int, bytes] | Exception) -> None:
        self.addresses = addresses
        self.replies = replies
        self.asked: list[tuple[str, str | None]] = []

    async def resolve(self, host: str) -> list[str]:
        return self.addresses

    async def get(
        self, url: str, *, max_bytes: int, timeout: float, family: str | None, rule: Rule
    ) -> HttpReply:
        assert rule is (of_scrape if "/scrape" in url else of_tracker)
        self.asked.append((url, family))
        reply = self.replies[family or "any"]
        if isinstance(reply, Exception):
            raise reply
        return HttpReply(reply[0], {}, reply[1], url)


async def announce(client: FakeClient) -> list[AnnounceReply]:
    replies: list[AnnounceReply] = []
    trackers = HttpTrackers(client)  # type: ignore[arg-type]
    await trackers.announce("http://t.example/announce?pass=1", REQUEST, replies.append)
    return replies


async def test_a_host_with_one_family_is_asked_once() -> None:
    client = FakeClient(["192.0.2.1", "192.0.2.2"], any=(200, encode_reply(AnnounceReply())))
    assert len(await announce(client)) == 1
    (url, family) = client.asked[0]
    assert family is None
    assert url.startswith("http://t.example/announce?pass=1&info_hash=%00%01%02")
    assert parse_query(url.partition("?")[2]).peer_id == REQUEST.peer_id


async def test_both_families_are_announced_and_one_may_fail() -> None:
    good = (200, encode_reply(AnnounceReply(peers=PEERS)))
    client = FakeClient(["192.0.2.1", "2001:db8::1"], ipv4=good, ipv6=HttpError("no route"))
    (reply,) = await announce(client)
    assert reply.peers == PEERS
    assert {family for _, family in client.asked} == {"ipv4", "ipv6"}
    client.outgoing = Outgoing("192.0.2.77")
    client.replies["any"] = good
    assert len(await announce(client)) == 1


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        ((200, encode_failure("not registered")), RemoteProtocolError, "not registered"),
        ((400, encode_failure("banned client")), RemoteProtocolError, "banned client"),
        ((404, b"<html>"), TransportError, "HTTP 404 not found"),
        ((299, b""), TransportError, "HTTP 299"),
        ((200, b"<html>"), RemoteProtocolError, "bencod"),
        (HttpError("cannot connect: refused"), TransportError, "refused"),
    ],
)
async def test_failures(
    reply: tuple[int, bytes] | Exception, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        await announce(FakeClient([], any=reply))


async def test_a_scrape_is_one_request() -> None:
    hashes = (b"1" * 20, b"2" * 20)
    told = {hashes[0]: SwarmCounts(1, 2, 3)}
    client = FakeClient(["192.0.2.1", "2001:db8::1"], any=(200, encode_scrape(told)))
    trackers = HttpTrackers(client)  # type: ignore[arg-type]
    assert await trackers.scrape("http://t.example/announce?pass=1", hashes) == told
    ((url, _),) = client.asked
    one, two = "1" * 20, "2" * 20
    assert url == f"http://t.example/scrape?pass=1&info_hash={one}&info_hash={two}"
    client.replies["any"] = (400, encode_failure("full scrapes are off"))
    with pytest.raises(RemoteProtocolError, match="full scrapes are off"):
        await trackers.scrape("http://t.example/announce", hashes)
    client.replies["any"] = (404, b"")
    with pytest.raises(TransportError, match="HTTP 404"):
        await trackers.scrape("http://t.example/announce", hashes)
    with pytest.raises(TransportError, match="no place for counts"):
        await trackers.scrape("http://t.example/tracker", hashes)
    assert len(client.asked) == 3


@pytest.mark.real
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_tiers_over_real_sockets(host: str) -> None:
    seen: list[AnnounceRequest] = []

    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            head = b""
            while b"\r\n\r\n" not in head:
                data = await stream.receive_some()
                if not data:
                    return
                head += data
            seen.append(parse_query(head.split()[1].decode().partition("?")[2]))
            body = encode_reply(AnnounceReply(peers=PEERS))
            await stream.send_all(
                b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
                % (len(body), body)
            )

    found: list[tuple[str, int]] = []
    got = trio.Event()

    def on_peers(peers: Sequence[tuple[str, int]], url: str) -> None:
        found.extend(peers)
        got.set()

    async with trio.open_nursery() as nursery:
        listen_on = None if host == "localhost" else host
        listeners = await nursery.start(partial(trio.serve_tcp, handle, 0, host=listen_on))
        port = listeners[0].socket.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        async with HttpClient() as client, trio.open_nursery() as running:
            tiers = TrackerTiers(
                [["http://127.0.0.1:9/announce"], [f"http://{shown}:{port}/announce"]],
                (bytes(range(20)),),
                b"-TF0100-abcdefghijkl",
                6881,
                client=client,
                totals=lambda: Totals(1, 2, 3),
                rng=random.Random(1),
                on_peers=on_peers,
            )
            running.start_soon(tiers.run)
            with trio.fail_after(10):
                await got.wait()
            running.cancel_scope.cancel()
        nursery.cancel_scope.cancel()
    assert set(found) == set(PEERS)
    assert [request.event for request in seen][-1] == "stopped"
    assert seen[0].info_hash == bytes(range(20))
    refused = tiers.statistics()[0]
    assert "refused" in str(refused.last_error)
