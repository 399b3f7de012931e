"""What the user may say about WebRTC, and what is refused."""

from __future__ import annotations

import pytest

from torrentfs.errors import ConfigError
from torrentfs.transports.webrtc.config import RtcConfig, ServerPlace, TurnServer, server_place


def test_no_server_is_called_by_default() -> None:
    assert RtcConfig().stun == ()
    assert RtcConfig().turn == ()


@pytest.mark.parametrize(
    "url", ["stun:stun.example", "stun:192.0.2.1:3478", "stun:[2001:db8::1]:19302"]
)
def test_stun_servers(url: str) -> None:
    assert RtcConfig(stun=(url,)).stun == (url,)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "stun.example",
        "stun:",
        "http://stun.example",
        "turn:turn.example",
        "stun:a:0",
        "stun:a:70000",
        "stun:[zz]",
        "stun:a?transport=udp",
        "stun:a b",
    ],
)
def test_what_is_no_stun_server(url: str) -> None:
    with pytest.raises(ConfigError):
        RtcConfig(stun=(url,))


def test_turn_servers() -> None:
    for url in ("turn:a", "turn:a:3478?transport=tcp", "turns:a:5349", "turns:a?transport=tcp"):
        RtcConfig(turn=(TurnServer(url, "user", "secret"),))
    for url in ("stun:a", "turns:a?transport=udp", "turn:a?transport=sctp"):
        with pytest.raises(ConfigError):
            RtcConfig(turn=(TurnServer(url),))


def test_where_a_server_is() -> None:
    assert server_place("stun:a") == ServerPlace("a", 3478, "udp", False)
    assert server_place("turn:[::1]:99") == ServerPlace("::1", 99, "udp", False)
    assert server_place("turn:a?transport=tcp") == ServerPlace("a", 3478, "tcp", False)
    assert server_place("turns:a") == ServerPlace("a", 5349, "tcp", True)
    with pytest.raises(ConfigError):
        server_place("http://a")


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(RtcConfig(turn=(TurnServer("turn:a", "user", "secret"),)))


def test_relay_only_needs_a_relay() -> None:
    with pytest.raises(ConfigError, match="--turn"):
        RtcConfig(relay_only=True)
    RtcConfig(relay_only=True, turn=(TurnServer("turn:a"),))


def test_limits_start_at_one() -> None:
    with pytest.raises(ConfigError):
        RtcConfig(max_connections=0)
    with pytest.raises(ConfigError):
        RtcConfig(max_offers=0)
