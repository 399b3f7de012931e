"""`torrentfs status`: a running mount as a whole, once or as it goes."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from torrentfs.cli.client import client_for, json_option, mount_option
from torrentfs.cli.output import printable
from torrentfs.cli.tables import make_table, percent, print_json
from torrentfs.cli.torrents import COLUMNS, row_of
from torrentfs.daemon.quantities import format_rate, format_size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import RenderableType

    from torrentfs.cli.client import Client

SHOWN = 30
"""Torrents in the live view: those that do something first."""


@click.command(short_help="A running mount at a glance.")
@click.option("--watch", is_flag=True, help="Go on showing it; with --json one object a line.")
@mount_option
@json_option
def status(watch: bool, mountpoint: Path | None, as_json: bool) -> None:
    """Show rates, peers, the cache, and what does not work."""
    with client_for(mountpoint) as client:
        if watch:
            _watch(client, as_json)
            return
        now = client.get("/status")
    if as_json:
        print_json(now)
        return
    for name, value in lines_of(now):
        click.echo(f"{name:<12}{printable(value)}")


def lines_of(now: Any) -> Iterator[tuple[str, str]]:
    """What there is to say, as names and values."""
    yield "mount", f"{now['mountpoint']} (torrentfs {now['version']}, process {now['pid']})"
    states = ", ".join(f"{n} {state}" for state, n in sorted(now["torrents"].items()))
    yield "torrents", f"{sum(now['torrents'].values())}" + (f" ({states})" if states else "")
    share = now["have"] / now["size"] if now["size"] else 1.0
    yield "have", f"{percent(share)} of {format_size(now['size'])}"
    yield "rates", f"{format_rate(now['download_rate'])} down, {format_rate(now['upload_rate'])} up"
    received = ", ".join(
        f"{kind} {format_size(n)}" for kind, n in sorted(now["received"].items()) if n
    )
    yield "received", received or "nothing"
    yield "sent", format_size(now["uploaded"])
    yield "peers", f"{now['peers']}, port {now['port'] or 'none'}"
    if now["blocked_reads"]:
        yield "waiting", f"{now['blocked_reads']} reads"
    if now.get("webrtc"):
        yield "browsers", _browsers(now["webrtc"])
    cache = now["cache"]
    yield (
        "cache",
        f"{format_size(cache['used'])} of {format_size(cache['size'])} in {cache['directory']}, "
        f"{format_size(cache['memory'])} in memory",
    )
    limits = now["limits"]
    yield (
        "limits",
        f"{_limit(limits['download_limit'])} down, {_limit(limits['upload_limit'])} up, "
        f"{limits['max_active']} active",
    )
    if now["http"]:
        yield "http", now["http"]
    if now["proxy"]:
        yield "proxy", now["proxy"]
    if now["trouble"]:
        yield "trouble", now["trouble"]


def _limit(rate: int | None) -> str:
    return "no limit" if rate is None else format_rate(rate)


def _browsers(webrtc: Any) -> str:
    said, deaths = webrtc["signalling"], webrtc["restarts"]
    return (
        f"{webrtc['open']} connected, "
        f"{said['answers_received']} of {said['offers_sent']} offers were answered, "
        f"{said['answers_sent']} of {said['offers_received']} of theirs by us"
        + (f"; deaths of the worker: {deaths}" if deaths else "")
        + (f"; {webrtc['trouble']}" if webrtc["trouble"] else "")
    )


def _watch(client: Client, as_json: bool) -> None:
    with client.events() as events:
        if as_json or not sys.stdout.isatty():
            for name, data in events:
                value = json.loads(data)
                if as_json:
                    click.echo(json.dumps({"event": name, "time": round(time.time(), 1), **value}))
                else:
                    click.echo(
                        "\t".join(f"{k}: {printable(v)}" for k, v in lines_of(value["status"]))
                    )
            return
        from rich.live import Live

        torrents: dict[str, Any] = {}
        with Live(auto_refresh=False, screen=False) as live:
            for _, data in events:
                value = json.loads(data)
                torrents.update({torrent["key"]: torrent for torrent in value["torrents"]})
                for key in value.get("removed", ()):
                    torrents.pop(key, None)
                live.update(_view(value["status"], torrents), refresh=True)


def _view(now: Any, torrents: dict[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    def rank(torrent: Any) -> tuple[Any, ...]:
        busy = torrent["download_rate"] + torrent["upload_rate"]
        return (-torrent["blocked_reads"], -busy, -torrent["peers"], torrent["name"])

    head = [Text(f"{name:<12}{printable(value)}") for name, value in lines_of(now)]
    rows = [[printable(cell) for cell in row_of(t)] for t in sorted(torrents.values(), key=rank)]
    more = len(rows) - SHOWN
    tail = [Text(f"and {more} more")] if more > 0 else []
    return Group(*head, Text(), make_table(COLUMNS, rows[:SHOWN]), *tail)
