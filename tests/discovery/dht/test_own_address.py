"""Our own address: what most networks say."""

from __future__ import annotations

from torrentfs.discovery.dht.own_address import QUORUM, OwnAddress


def test_a_majority_of_networks_wins() -> None:
    own = OwnAddress()
    told = [own.on_told("9.9.9.9", (f"8.8.{n}.1", 5)) for n in range(QUORUM + 2)]
    assert told == [False] * (QUORUM - 1) + [True, False, False]
    assert own.host == "9.9.9.9"


def test_one_network_has_one_vote() -> None:
    own = OwnAddress()
    assert not any(own.on_told("9.9.9.9", (f"8.8.8.{n}", 5)) for n in range(1, 50))


def test_less_than_half_is_not_enough() -> None:
    own = OwnAddress()
    for n in range(12):
        own.on_told(f"9.9.9.{n % 3}", (f"8.8.{n}.1", 5))
    assert own.host is None


def test_we_move() -> None:
    own = OwnAddress()
    for n in range(8):
        own.on_told("9.9.9.9", (f"8.8.{n}.1", 5))
    for n in range(20):
        own.on_told("7.7.7.7", (f"8.9.{n}.1", 5))
    assert own.host == "7.7.7.7"


def test_local_addresses_tell_nothing() -> None:
    own = OwnAddress()
    for n in range(8):
        own.on_told("192.168.0.1", (f"8.8.{n}.1", 5))
        own.on_told("9.9.9.9", (f"10.0.{n}.1", 5))
    assert own.host is None
