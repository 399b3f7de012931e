"""`torrentfs set`: limits of a running mount."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from torrentfs.cli.client import client_for, json_option, mount_option
from torrentfs.cli.options import Parsed, WholeNumber
from torrentfs.cli.tables import print_json
from torrentfs.daemon.quantities import format_rate, parse_rate

if TYPE_CHECKING:
    from pathlib import Path

RATE = Parsed("rate", lambda text: parse_rate(text) or 0)
"""0 stands for no limit: absent means that nothing is asked for."""


@click.command("set", short_help="Change the limits of a running mount.")
@click.option("--download-limit", metavar="RATE", type=RATE, help="Bytes a second; 0: no limit.")
@click.option("--upload-limit", metavar="RATE", type=RATE, help="Bytes a second; 0: no limit.")
@click.option("--max-active", type=WholeNumber(1, 10_000), help="Torrents with traffic at once.")
@mount_option
@json_option
def set_limits(mountpoint: Path | None, as_json: bool, **limits: Any) -> None:
    """Change limits until the mount ends, and show them."""
    change = {name: value for name, value in limits.items() if value is not None}
    with client_for(mountpoint) as client:
        now = client.ask("PATCH", "/settings", json=change) if change else client.get("/settings")
    if as_json:
        print_json(now)
        return
    for name in ("download_limit", "upload_limit"):
        rate = now[name]
        click.echo(f"{name.replace('_', '-')}\t{'none' if rate is None else format_rate(rate)}")
    click.echo(f"max-active\t{now['max_active']}")
