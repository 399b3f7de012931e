"""Addresses to listen on."""

from __future__ import annotations

import pytest

from torrentfs.daemon.control.config import ControlConfig, parse_http, parse_name
from torrentfs.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8080", ("127.0.0.1", 8080)),
        (":8080", ("127.0.0.1", 8080)),
        ("localhost:1", ("127.0.0.1", 1)),
        ("127.0.0.2:0", ("127.0.0.2", 0)),
        ("[::1]:80", ("::1", 80)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_http(text) == address


@pytest.mark.parametrize(
    "text",
    ["", "x", "localhost", "nas.local:80", "1:2:3", "[::1", "::1:80", "127.0.0.1:65536",
     "127.0.0.1:-1", "http://127.0.0.1:1"],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_http(text)


def test_names() -> None:
    assert parse_name("Films.Example.") == "films.example"
    for wrong in ("", "a b", "http://a", "a:80", "-a"):
        with pytest.raises(ConfigError):
            parse_name(wrong)


def test_other_machines_must_be_meant() -> None:
    assert ControlConfig(("127.0.0.9", 1)).http
    assert ControlConfig(("::1", 1)).http
    assert ControlConfig(("0.0.0.0", 1), allow_remote=True).http
    with pytest.raises(ConfigError, match="--http-allow-remote"):
        ControlConfig(("0.0.0.0", 1))
    with pytest.raises(ConfigError, match="need --http"):
        ControlConfig(names=("a",))
