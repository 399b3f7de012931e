"""Tracker replies and announces, over HTTP and UDP: a value, or `RemoteProtocolError`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.errors import RemoteProtocolError
from torrentfs.metainfo.bencoding import encode
from torrentfs.wire import http_tracker, udp_tracker
from torrentfs.wire.announce import AnnounceReply, AnnounceRequest, SwarmCounts

if TYPE_CHECKING:
    from collections.abc import Iterable

MODULES = [
    "torrentfs.wire.announce",
    "torrentfs.wire.http_tracker",
    "torrentfs.wire.text",
    "torrentfs.wire.udp_tracker",
]

_KINDS = 7


def seeds() -> Iterable[bytes]:
    """One of each datagram, reply and query; the first byte chooses the reader."""
    peers = (("192.0.2.1", 6881), ("2001:db8::1", 51413))
    reply = AnnounceReply(1800, 60, 5, 6, peers, "slow down", b"id", "192.0.2.7")
    counts = {b"h" * 20: SwarmCounts(1, 2, 3), b"\xff" * 20: SwarmCounts(4)}
    request = AnnounceRequest(b"h" * 20, b"-TF0100-abcdefghijkl", 6881, 1, 2, 3, "started", 50, 7)
    yield b"\0" + http_tracker.encode_reply(reply)
    yield b"\0" + http_tracker.encode_reply(reply, compact=False)
    yield b"\0" + http_tracker.encode_failure("not registered")
    yield b"\0" + http_tracker.encode_failure("not now", 5)
    yield b"\0" + http_tracker.encode_failure("not here", "never")
    yield b"\5" + http_tracker.encode_scrape(counts)
    scrape = http_tracker.scrape_url("http://t/announce", list(counts))
    assert scrape is not None
    yield b"\6" + scrape.partition("?")[2].encode()
    yield b"\2" + udp_tracker.scrape_reply(9, list(counts.values()))
    yield b"\4" + udp_tracker.scrape_request(1, 9, list(counts))
    yield b"\0" + encode({"interval": 5, "peers": [{"ip": "a.example", "port": 1}], "peers6": b""})
    yield b"\1" + http_tracker.announce_url("http://t/a", request).partition("?")[2].encode()
    for kind, ipv6 in ((2, False), (3, True)):
        yield bytes([kind]) + udp_tracker.announce_reply(9, reply, ipv6=ipv6)
    yield b"\2" + udp_tracker.connect_reply(9, 1 << 60)
    yield b"\2" + udp_tracker.error_reply(9, "go away")
    yield b"\4" + udp_tracker.connect_request(9)
    yield b"\4" + udp_tracker.announce_request(1, 2, request, b"/announce?key=" + b"k" * 300)


def one_input(data: bytes) -> None:
    """Read it; what came out must go round."""
    kind, body = (data[:1] or b"\0")[0] % _KINDS, data[1:]
    try:
        if kind == 0:
            _check_reply(http_tracker.parse_reply(body))
        elif kind == 1:
            request = http_tracker.parse_query(body.decode("latin-1"))
            url = http_tracker.announce_url("http://t/a", request)
            assert http_tracker.parse_query(url.partition("?")[2]) == request
        elif kind == 5:
            counts = http_tracker.parse_scrape(body)
            assert len(counts) <= http_tracker.MAX_SCRAPED
            assert http_tracker.parse_scrape(http_tracker.encode_scrape(counts)) == counts
        elif kind == 6:
            hashes = http_tracker.parse_scrape_query(body.decode("latin-1"))
            url = http_tracker.scrape_url("http://t/announce", hashes)
            assert url is not None
            assert http_tracker.parse_scrape_query(url.partition("?")[2]) == hashes
        elif kind == 4:
            _check_request(udp_tracker.parse_request(body))
        else:
            answer = udp_tracker.parse_reply(body, ipv6=kind == 3)
            if isinstance(answer, udp_tracker.Announced):
                _check_reply(answer.reply)
            elif isinstance(answer, udp_tracker.Scraped):
                assert len(answer.counts) <= udp_tracker.SCRAPED_AT_ONCE
    except RemoteProtocolError as refused:
        reason = str(refused)
    else:
        return
    assert reason.isprintable()


def _check_reply(reply: AnnounceReply) -> None:
    again = http_tracker.parse_reply(http_tracker.encode_reply(reply, compact=False))
    assert again.peers == reply.peers
    assert (again.interval, again.seeders, again.leechers, again.external_ip) == (
        reply.interval,
        reply.seeders,
        reply.leechers,
        reply.external_ip,
    )


def _check_request(
    request: udp_tracker.ConnectRequest | udp_tracker.UdpAnnounce | udp_tracker.UdpScrape,
) -> None:
    if isinstance(request, udp_tracker.UdpScrape):
        hashes = request.info_hashes
        data = udp_tracker.scrape_request(request.connection, request.transaction, hashes)
        assert udp_tracker.parse_request(data) == request
    if isinstance(request, udp_tracker.UdpAnnounce):
        data = udp_tracker.announce_request(
            request.connection, request.transaction, request.request, request.url_data
        )
        assert udp_tracker.parse_request(data) == request
