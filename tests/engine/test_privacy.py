"""A private torrent uses its trackers alone."""

from __future__ import annotations

import logging
from dataclasses import fields

import pytest

from torrentfs.engine.config import SessionConfig
from torrentfs.engine.privacy import (
    OFF_BEHIND_PROXY,
    Ways,
    behind_proxy,
    is_private,
    proxy_words,
    trackers_of,
    ways,
)
from torrentfs.transports.proxy import Proxy


@pytest.mark.parametrize("user", [False, True])
def test_what_the_metadata_says_counts(user: bool) -> None:
    config = SessionConfig(private=user, lsd=True, utp=True)
    assert ways(config, True) == Ways(False, False, False, False)
    assert ways(config, False) == Ways(True, True, True, True)


def test_before_it_is_known_the_user_decides() -> None:
    assert is_private(SessionConfig(private=True), None)
    assert not is_private(SessionConfig(), None)
    assert not ways(SessionConfig(private=True), None).dht


def test_what_is_off_is_off() -> None:
    config = SessionConfig(dht=None, pex=False, lsd=False)
    assert ways(config, False) == Ways(False, False, False, False)


def test_hole_punching_needs_utp_and_peer_exchange_and_no_proxy() -> None:
    assert ways(SessionConfig(utp=True), False).hole_punching
    assert not ways(SessionConfig(utp=False), False).hole_punching
    assert not ways(SessionConfig(utp=True, pex=False), False).hole_punching
    proxy = Proxy("socks5", "192.0.2.1", 1080, "me", "secret")
    assert not ways(SessionConfig(utp=True, proxy=proxy), False).hole_punching


def test_a_private_torrent_announces_to_those_of_who_knows_it_best() -> None:
    torrent, magnet, mount = ["t1", "t2"], ["m"], ["all"]
    assert trackers_of(False, torrent, magnet, mount) == ["t1", "t2", "m", "all"]
    assert trackers_of(True, torrent, magnet, mount) == ["t1", "t2"]
    assert trackers_of(True, [], magnet, mount) == ["m"]
    assert trackers_of(True, [], [], mount) == ["all"]
    assert trackers_of(True, [], []) == []


# What every setting of a session is to somebody behind a proxy: off, or harmless, and why.
HARMLESS = {
    "where data is kept": "cache_dir cache_size memory_limit min_free",
    "how much and how long": "readahead read_timeout download_limit upload_limit"
    " max_connections max_peers max_half_open max_active idle_timeout",
    "TCP, which goes through it": "tcp pex encryption web_seeds upload",
    "used by what is off": "port",
    "what holds with a proxy, too": "bind proxy private ip_filter allow_local",
}


def test_each_setting_is_decided_for_a_proxy() -> None:
    """A new one must be added here or to what is off: does it send a packet beside the proxy?"""
    harmless = {name for names in HARMLESS.values() for name in names.split()}
    assert harmless.isdisjoint(OFF_BEHIND_PROXY)
    assert harmless | set(OFF_BEHIND_PROXY) == {field.name for field in fields(SessionConfig)}


def test_behind_a_proxy_what_cannot_go_through_is_off(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    proxy = Proxy("socks5", "192.0.2.1", 1080, "me", "secret")
    everything = SessionConfig(utp=True, lsd=True, port_mapping=True, proxy=proxy)
    left = behind_proxy(everything)
    assert {name: getattr(left, name) for name in OFF_BEHIND_PROXY} == OFF_BEHIND_PROXY
    assert (left.tcp, left.proxy, left.web_seeds) == (True, proxy, True)
    (record,) = caplog.records
    assert record.getMessage() == proxy_words(left)
    assert "socks5://192.0.2.1:1080; off" in proxy_words(left)
    assert "secret" not in repr(left) + caplog.text
    direct = SessionConfig(utp=True)
    assert behind_proxy(direct) is direct
    assert proxy_words(direct) == ""
