"""What others announce is kept within bounds, and for a while."""

from __future__ import annotations

from random import Random

import pytest

from torrentfs.discovery.dht import storage
from torrentfs.discovery.dht.storage import LIFETIME, MAX_PEERS, MAX_PER_HOST, Storage

OWN = bytes(20)


def torrent(number: int) -> bytes:
    """The greater the number, the farther from our id."""
    return number.to_bytes(20)


def host(number: int) -> str:
    return f"8.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def test_peers_of_each_family() -> None:
    kept = Storage(Random(1))
    kept.add(torrent(1), ("8.8.8.8", 5), OWN, 0.0)
    kept.add(torrent(1), ("2a00::5", 6), OWN, 0.0)
    assert kept.sample(torrent(1), 9, ipv6=False, now=1.0) == (("8.8.8.8", 5),)
    assert kept.sample(torrent(1), 9, ipv6=True, now=1.0) == (("2a00::5", 6),)
    assert kept.sample(torrent(2), 9, ipv6=False, now=1.0) == ()
    assert (kept.peers, len(kept)) == (2, 1)


def test_a_sample_is_random_and_bounded() -> None:
    kept = Storage(Random(1))
    for n in range(100):
        kept.add(torrent(1), (host(n), 5), OWN, 0.0)
    one = kept.sample(torrent(1), 20, ipv6=False, now=1.0)
    other = kept.sample(torrent(1), 20, ipv6=False, now=1.0)
    assert len(set(one)) == len(set(other)) == 20
    assert set(one) != set(other)


def test_peers_expire_unless_announced_again() -> None:
    kept = Storage(Random(1))
    kept.add(torrent(1), (host(1), 5), OWN, 0.0)
    kept.add(torrent(1), (host(2), 5), OWN, 0.0)
    kept.add(torrent(1), (host(2), 5), OWN, 100.0)
    assert kept.peers == 2
    assert kept.sample(torrent(1), 9, ipv6=False, now=LIFETIME + 1) == ((host(2), 5),)
    kept.expire(LIFETIME + 1)
    assert kept.peers == 1
    kept.expire(LIFETIME + 101)
    assert (kept.peers, len(kept)) == (0, 0)
    assert not kept._per_host


def test_the_oldest_peer_of_a_torrent_makes_room() -> None:
    kept = Storage(Random(1))
    for n in range(MAX_PEERS):
        kept.add(torrent(1), (host(n), 5), OWN, float(n))
    kept.add(torrent(1), (host(0), 5), OWN, 600.0)  # so the second is the oldest now
    assert kept.add(torrent(1), (host(MAX_PEERS), 5), OWN, 601.0)
    peers = kept.sample(torrent(1), MAX_PEERS, ipv6=False, now=602.0)
    assert len(peers) == MAX_PEERS
    assert (host(0), 5) in peers
    assert (host(1), 5) not in peers


def test_one_host_has_its_limit() -> None:
    kept = Storage(Random(1))
    taken = [kept.add(torrent(n), ("8.8.8.8", 5), OWN, 0.0) for n in range(MAX_PER_HOST + 50)]
    assert sum(taken) == MAX_PER_HOST
    assert kept.add(torrent(1000), ("9.9.9.9", 5), OWN, 0.0)


def test_the_farthest_torrent_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "MAX_TORRENTS", 10)
    kept = Storage(Random(1))
    for n in range(1, 11):
        assert kept.add(torrent(10 * n), (host(n), 5), OWN, 0.0)
    assert not kept.add(torrent(1000), (host(20), 5), OWN, 0.0)
    assert kept.add(torrent(5), (host(20), 5), OWN, 0.0)
    assert kept.sample(torrent(100), 9, ipv6=False, now=0.0) == ()
    assert kept.sample(torrent(90), 9, ipv6=False, now=0.0)
    assert (kept.peers, len(kept)) == (10, 10)
    assert kept.add(torrent(1000), (host(20), 5), OWN, LIFETIME + 1)  # all others are too old
