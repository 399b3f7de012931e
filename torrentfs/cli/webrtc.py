"""The options about WebRTC, shared by the commands that meet peers.

A TURN server wants a name and a password. They are read from a file or from the environment
(`TORRENTFS_TURN_USERNAME`, `TORRENTFS_TURN_PASSWORD`), never from the command line, which every
user of the machine can read.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from torrentfs.cli.options import ENVVAR_PREFIX, PATH
from torrentfs.errors import ConfigError
from torrentfs.transports.webrtc.config import RtcConfig, TurnServer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

MAX_CREDENTIALS = 64 * 1024
"""Bytes read of a file with credentials."""


def rtc_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--no-webrtc`, `--stun`, `--turn`, `--turn-credentials`, `--relay-only`."""
    options = (
        click.option("--no-webrtc", is_flag=True, default=False, help="Use no browser peers."),
        click.option(
            "--stun",
            metavar="URL",
            multiple=True,
            help="Ask this STUN server for our address, for browsers behind another NAT "
            "(stun:HOST[:PORT]). May be repeated: the next one when one fails.",
        ),
        click.option(
            "--turn",
            metavar="URL",
            multiple=True,
            help="Let browsers reach us through this TURN relay "
            "(turn:HOST[:PORT][?transport=tcp]). May be repeated: the next one when one fails.",
        ),
        click.option(
            "--turn-credentials",
            metavar="FILE",
            type=PATH,
            help="A file with NAME:PASSWORD for the relay: one line for all of them, or one for "
            "each --turn.  [default: $TORRENTFS_TURN_USERNAME and $TORRENTFS_TURN_PASSWORD]",
        ),
        click.option(
            "--relay-only",
            is_flag=True,
            default=False,
            help="Tell browsers no address but the relay's.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def rtc_config(
    options: Mapping[str, Any], environment: Mapping[str, str] = os.environ
) -> RtcConfig | None:
    """What these options say, None for no WebRTC at all; ConfigError."""
    if options["no_webrtc"]:
        return None
    urls = options["turn"]
    return RtcConfig(
        stun=tuple(options["stun"]),
        turn=tuple(
            TurnServer(url, *pair)
            for url, pair in zip(
                urls, _credentials(len(urls), options["turn_credentials"], environment), strict=True
            )
        ),
        relay_only=options["relay_only"],
    )


def _credentials(
    count: int, file: Path | None, environment: Mapping[str, str]
) -> Sequence[tuple[str, str]]:
    """A name and a password for each of `count` servers."""
    if not count:
        return ()
    if file is None:
        name = environment.get(f"{ENVVAR_PREFIX}_TURN_USERNAME", "")
        return [(name, environment.get(f"{ENVVAR_PREFIX}_TURN_PASSWORD", ""))] * count
    pairs = _read(file)
    if len(pairs) not in (1, count):
        raise ConfigError(f"{file}: there must be one line NAME:PASSWORD, or one for each --turn")
    return pairs * (count // len(pairs))


def _read(file: Path) -> list[tuple[str, str]]:
    try:
        with open(file, "rb") as stream:
            text = stream.read(MAX_CREDENTIALS).decode()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"cannot read the credentials in {file}: {reason}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the credentials in {file} are not UTF-8 text") from error
    lines = [line.strip() for line in text.splitlines()]
    pairs = []
    for line in lines:
        if not line or line.startswith("#"):
            continue
        name, colon, password = line.partition(":")
        if not colon:  # and what the line says stays secret
            raise ConfigError(f"{file}: a line is not NAME:PASSWORD")
        pairs.append((name, password))
    return pairs
