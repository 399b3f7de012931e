"""The options about fetching: one table for all commands, checked where they become settings."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click
import pytest

from torrentfs.cli.fetching import fetch_options, session_config
from torrentfs.cli.mount import mount
from torrentfs.engine.config import SessionConfig
from torrentfs.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def parse(*args: str) -> dict[str, Any]:
    @click.command()
    @fetch_options
    def command(**options: Any) -> None: ...

    return command.make_context("command", list(args)).params


def test_what_is_not_said_is_the_engines_own() -> None:
    made = session_config(parse())
    ours = {"utp", "lsd", "encryption", "dht"}  # on for who is at a terminal
    for field in fields(SessionConfig):
        if field.name not in ours:
            assert getattr(made, field.name) == getattr(SessionConfig(), field.name), field.name


def test_each_setting_arrives(tmp_path: Path) -> None:
    (tmp_path / "filter").write_text("192.0.2.0/24\nno range\n")
    made = session_config(
        parse(
            *("--cache-dir", str(tmp_path), "--cache-size", "1G", "--memory-limit", "1M"),
            *("--min-free-space", "2M", "--readahead", "3M", "--read-timeout", "5s"),
            *("--port", "7", "--bind-interface", "127.0.0.1", "--no-tcp"),
            *("--no-dht", "--no-webrtc", "--no-utp", "--no-lsd", "--no-pex", "--no-web-seeds"),
            *("--private", "--no-upload", "--allow-local", "--encryption", "off"),
            *("--download-limit", "4M", "--upload-limit", "5M"),
            *("--ip-filter", str(tmp_path / "filter"), "--proxy", "socks5://127.0.0.1:1080"),
        )
    )
    plain = SessionConfig()
    same = {"rtc", "dht"}
    for field in fields(SessionConfig):
        if field.name not in same and field.name not in ("utp", "lsd", "port_mapping", "listen"):
            different = getattr(made, field.name) != getattr(plain, field.name)
            assert different or field.name in ENGINE_ONLY, field.name
    assert (made.rtc, made.dht, made.utp, made.lsd, made.port_mapping) == (None, None) + (
        False,
    ) * 3
    assert made.ip_filter is not None
    assert made.ip_filter.blocks("192.0.2.7")


ENGINE_ONLY = {
    *("max_connections", "max_peers", "max_half_open", "encryption"),
    *("max_active", "idle_timeout"),  # options of mount alone
}
"""Fields that no option sets, or that the options above set to the engine's default."""


def test_mount_has_them_all() -> None:
    names = {param.name for param in mount.params}
    assert set(parse()) <= names


def test_an_interface_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="no network interface 'nowhere0'"):
        session_config(parse("--bind-interface", "nowhere0"))
