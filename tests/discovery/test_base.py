"""Which addresses from outside are believed."""

from __future__ import annotations

import pytest

from torrentfs.discovery.base import MAX_PEERS, ask_all, clean_peers
from torrentfs.errors import RemoteProtocolError, TransportError


def test_drops_what_cannot_be_a_peer() -> None:
    good = [("192.0.2.1", 1), ("2001:db8::1", 65535), ("127.0.0.1", 7)]
    bad = [
        ("192.0.2.1", 0),
        ("192.0.2.1", 65536),
        ("192.0.2.1", -1),
        ("224.0.0.1", 5),
        ("ff02::1", 5),
        ("0.0.0.0", 5),
        ("::", 5),
        ("255.255.255.255", 5),
        ("peer.example", 5),
        ("", 5),
    ]
    assert clean_peers(good + bad) == good


def test_drops_ourselves_and_repetitions() -> None:
    peers = [
        ("127.0.0.1", 6881),
        ("::1", 6881),
        ("::ffff:192.0.2.1", 5),
        ("192.0.2.1", 5),
    ]
    found = clean_peers(peers, own_port=6881)
    assert found == [("192.0.2.1", 5)]


def test_takes_at_most_so_many() -> None:
    assert len(clean_peers((f"10.0.{n >> 8}.{n & 255}", 1) for n in range(60_000))) == MAX_PEERS


async def test_ask_all_tells_each_answer_and_fails_only_if_all_do() -> None:
    async def fail() -> str:
        raise TransportError("no route")

    async def refuse() -> str:
        raise RemoteProtocolError("not registered")

    async def answer() -> str:
        return "yes"

    got: list[str] = []
    await ask_all([fail, answer, refuse, answer], got.append)
    assert got == ["yes", "yes"]
    with pytest.raises(RemoteProtocolError, match="not registered"):
        await ask_all([fail, refuse], got.append)
    with pytest.raises(TransportError, match="no route"):
        await ask_all([fail], got.append)
