"""What a stranger's URL may make us ask."""

from __future__ import annotations

import pytest

from torrentfs.transports.reach import (
    Reach,
    anywhere,
    is_loopback,
    is_own_name,
    is_public,
    of_scrape,
    of_socket_tracker,
    of_tracker,
    of_web_seed,
)


@pytest.mark.parametrize(
    ("address", "public", "loopback"),
    [
        ("93.184.216.34", True, False),
        ("2606:2800:220:1::1", True, False),
        ("127.0.0.1", False, True),
        ("127.255.0.1", False, True),
        ("0.0.0.0", False, True),
        ("::", False, True),
        ("::1", False, True),
        ("::ffff:127.0.0.1", False, True),
        ("::ffff:93.184.216.34", True, False),
        ("::127.0.0.1", False, True),
        ("2002:7f00:1::1", False, True),
        ("64:ff9b::127.0.0.1", False, True),
        ("64:ff9b::10.0.0.1", False, False),
        ("64:ff9b::93.184.216.34", True, False),
        ("10.0.0.1", False, False),
        ("100.64.0.1", False, False),
        ("169.254.169.254", False, False),
        ("224.0.0.1", False, False),
        ("fe80::1%eth0", False, False),
        ("fd00::1", False, False),
        ("nonsense", False, True),
    ],
)
def test_addresses(address: str, public: bool, loopback: bool) -> None:
    assert is_public(address) is public
    assert is_loopback(address) is loopback
    assert Reach.ANYWHERE.includes(address)
    assert Reach.PUBLIC.includes(address) is public
    assert Reach.BEYOND_LOOPBACK.includes(address) is not loopback


@pytest.mark.parametrize(
    ("target", "reach"),
    [
        ("/announce", Reach.ANYWHERE),
        ("/announce?info_hash=x", Reach.ANYWHERE),
        ("/announce.php?passkey=1", Reach.ANYWHERE),
        ("/announce/passkey", Reach.ANYWHERE),
        ("/", Reach.BEYOND_LOOPBACK),
        ("/admin?do=reset&x=/announce", Reach.BEYOND_LOOPBACK),
        ("/announce/../admin", Reach.BEYOND_LOOPBACK),
        ("/announce/%2e%2e/admin", Reach.BEYOND_LOOPBACK),
        ("/Announce", Reach.BEYOND_LOOPBACK),
        ("?/announce", Reach.BEYOND_LOOPBACK),
    ],
)
def test_trackers(target: str, reach: Reach) -> None:
    assert of_tracker(target) is reach


def test_websocket_trackers_may_be_at_the_root() -> None:
    assert of_socket_tracker("/") is Reach.ANYWHERE
    assert of_socket_tracker("/announce") is Reach.ANYWHERE
    assert of_socket_tracker("/?x") is Reach.BEYOND_LOOPBACK
    assert of_socket_tracker("/x") is Reach.BEYOND_LOOPBACK


@pytest.mark.parametrize(
    ("target", "reach"),
    [
        ("/film.mkv", Reach.ANYWHERE),
        ("/what%3Fdo=reset", Reach.ANYWHERE),
        ("/seed?info_hash=%01%02&piece=3&ranges=0-16383", Reach.ANYWHERE),
        ("/seed?do=reset&info_hash=%01%02&piece=3&ranges=0-16383", Reach.PUBLIC),
        ("/seed?info_hash=%01?&piece=3&ranges=0-16383", Reach.PUBLIC),
        ("/seed?info_hash=%01&piece=3&ranges=0-1&x=/film", Reach.PUBLIC),
        ("/cgi?do=reset&x=/film.mkv", Reach.PUBLIC),
        ("/cgi?", Reach.PUBLIC),
    ],
)
def test_web_seeds(target: str, reach: Reach) -> None:
    assert of_web_seed(target) is reach


def test_the_user_is_believed() -> None:
    assert anywhere("/cgi?do=reset") is Reach.ANYWHERE


def test_the_stricter_is_the_greater() -> None:
    assert max(Reach.ANYWHERE, Reach.PUBLIC, Reach.BEYOND_LOOPBACK) is Reach.PUBLIC
    assert {reach.refusal for reach in Reach if reach}.isdisjoint({""})


def test_names_of_this_host() -> None:
    assert all(map(is_own_name, ("localhost", "LOCALHOST.", "a.localhost", "localhost..")))
    assert not any(map(is_own_name, ("localhost.example", "mylocalhost", "")))


@pytest.mark.parametrize(
    ("target", "reach"),
    [
        ("/scrape?info_hash=x", Reach.ANYWHERE),
        ("/scrape.php?passkey=1", Reach.ANYWHERE),
        ("/announce?info_hash=x", Reach.BEYOND_LOOPBACK),
        ("/scrape/../admin", Reach.BEYOND_LOOPBACK),
        ("/x/scrape", Reach.BEYOND_LOOPBACK),
    ],
)
def test_scrapes(target: str, reach: Reach) -> None:
    assert of_scrape(target) is reach
