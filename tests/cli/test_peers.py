"""`--encryption` and the switches for ways to peers."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner

from torrentfs.cli.peers import peer_options, peer_settings


def settings_of(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    @click.command()
    @peer_options
    def command(**options: Any) -> None:
        found.update(peer_settings(options))

    result = CliRunner().invoke(command, arguments)
    if result.exit_code:
        raise ValueError(result.output)
    return found


def test_all_is_on_by_default() -> None:
    on = {"utp": True, "pex": True, "lsd": True, "encryption": "prefer", "proxy": None}
    assert settings_of() == on


def test_each_can_be_switched_off() -> None:
    for name in ("utp", "pex", "lsd"):
        assert settings_of(f"--no-{name}")[name] is False
    for policy in ("prefer", "require", "off"):
        assert settings_of("--encryption", policy)["encryption"] == policy
    with pytest.raises(ValueError, match="maybe"):
        settings_of("--encryption", "maybe")


def test_a_proxy_and_no_word_of_its_password() -> None:
    proxy = settings_of("--proxy", "socks5h://me:secret@[::1]:1080")["proxy"]
    assert (str(proxy), proxy.password) == ("socks5://[::1]:1080", "secret")
    for wrong in ("socks5://me:secret@host", "ftp://me:secret@host:1", "socks5://secret@host:1"):
        with pytest.raises(ValueError, match="proxy") as caught:
            settings_of("--proxy", wrong)
        assert "secret" not in str(caught.value)
