"""The options about WebRTC, and where the password of a relay comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from torrentfs.transports.webrtc.config import RtcConfig, TurnServer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run
    from torrentfs.daemon.config import MountConfig

SOURCE = "magnet:?xt=urn:btih:" + "a" * 40
TURN = "turn:relay.example:3478"
OTHER = "turns:other.example?transport=tcp"


def test_webrtc_is_on_and_asks_nobody(run: Run, home: Path, configs: list[MountConfig]) -> None:
    assert run("mount", SOURCE, str(home)).exit_code == 0
    assert configs[0].session.rtc == RtcConfig()
    assert RtcConfig().stun == RtcConfig().turn == ()


@pytest.mark.parametrize("args", [["--no-webrtc"], ["-o", "no-webrtc"]])
def test_webrtc_is_off(run: Run, home: Path, configs: list[MountConfig], args: list[str]) -> None:
    assert run("mount", SOURCE, str(home), *args).exit_code == 0
    assert configs[0].session.rtc is None


def test_servers(run: Run, home: Path, configs: list[MountConfig]) -> None:
    args = ["--stun", "stun:a.example", "--stun", "stun:b.example:1", "--turn", TURN]
    done = run("mount", SOURCE, str(home), *args, "--relay-only")
    assert done.exit_code == 0
    assert configs[0].session.rtc == RtcConfig(
        stun=("stun:a.example", "stun:b.example:1"), turn=(TurnServer(TURN),), relay_only=True
    )


def test_credentials_of_the_environment(run: Run, home: Path, configs: list[MountConfig]) -> None:
    variables = {"TORRENTFS_TURN_USERNAME": "me", "TORRENTFS_TURN_PASSWORD": "a:b c"}
    assert run("mount", SOURCE, str(home), "--turn", TURN, **variables).exit_code == 0
    assert configs[0].session.rtc == RtcConfig(turn=(TurnServer(TURN, "me", "a:b c"),))


def test_credentials_of_a_file(run: Run, home: Path, configs: list[MountConfig]) -> None:
    file = home / "secret"
    args = ["--turn", TURN, "--turn", OTHER, "--turn-credentials", str(file)]
    file.write_text("# for both\nme:a:b c\n\n")
    assert run("mount", SOURCE, str(home), *args).exit_code == 0
    file.write_text("me:1\nyou:2\n")
    assert run("mount", SOURCE, str(home), *args).exit_code == 0
    both, each = (config.session.rtc for config in configs)
    assert both == RtcConfig(
        turn=(TurnServer(TURN, "me", "a:b c"), TurnServer(OTHER, "me", "a:b c"))
    )
    assert each == RtcConfig(turn=(TurnServer(TURN, "me", "1"), TurnServer(OTHER, "you", "2")))


@pytest.mark.parametrize("text", [b"", b"sesame", b"a:1\nb:2\nc:3", b"\xff:\xfe"])
def test_credentials_that_are_none(
    run: Run, home: Path, configs: list[MountConfig], text: bytes
) -> None:
    file = home / "secret"
    file.write_bytes(text)
    args = ["--turn", TURN, "--turn", OTHER, "--turn-credentials", str(file)]
    done = run("mount", SOURCE, str(home), *args)
    assert done.exit_code == 1
    assert str(file) in done.stderr
    assert "sesame" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "args",
    [
        ["--stun", "https://a.example"],
        ["--stun", TURN],
        ["--turn", "turn:me:secret@relay.example"],
        ["--turn", "stun:a.example"],
        ["--relay-only"],
        ["--turn", TURN, "--turn-credentials", "/nonexistent/file"],
    ],
)
def test_what_makes_no_sense_is_refused(
    run: Run, home: Path, configs: list[MountConfig], args: list[str]
) -> None:
    done = run("mount", SOURCE, str(home), *args)
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == 1
    assert not configs
