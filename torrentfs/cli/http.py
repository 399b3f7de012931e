"""The options about the HTTP server of a mount."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from torrentfs.cli.options import Parsed
from torrentfs.daemon.control.config import ControlConfig, parse_http, parse_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def http_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--http`, `--http-name`, `--http-allow-remote`."""
    options = (
        click.option(
            "--http",
            metavar="[ADDRESS:]PORT",
            type=Parsed("address", parse_http),
            help="Serve page, API, files and metrics over HTTP here too, with a token.",
        ),
        click.option(
            "--http-name",
            metavar="NAME",
            type=Parsed("name", parse_name),
            multiple=True,
            help="A host name by which --http is asked. May be repeated.",
        ),
        click.option(
            "--http-allow-remote",
            is_flag=True,
            default=False,
            help="Let --http listen where other machines reach it. It is plain HTTP.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def control_config(options: Mapping[str, Any]) -> ControlConfig:
    """What these options say."""
    return ControlConfig(
        http=options["http"],
        names=tuple(options["http_name"]),
        allow_remote=options["http_allow_remote"],
    )
