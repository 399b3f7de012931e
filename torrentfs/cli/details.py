"""`torrentfs files`, `peers`, `trackers`: one torrent of a running mount in detail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from torrentfs.cli.client import (
    in_url,
    json_option,
    mount_option,
    torrent_argument,
    torrent_of,
)
from torrentfs.cli.tables import percent, print_json, print_table
from torrentfs.daemon.quantities import format_rate, format_size

if TYPE_CHECKING:
    from pathlib import Path

PART = 5000
"""Files asked for at a time."""


@click.command(short_help="The files of a torrent.")
@torrent_argument()
@mount_option
@json_option
def files(torrent: str, mountpoint: Path | None, as_json: bool) -> None:
    """List the files of TORRENT, and how much of each is here."""
    found: list[Any] = []
    with torrent_of(torrent, mountpoint) as (client, about):
        while True:
            path = f"/torrents/{in_url(about['key'])}/files"
            part = client.get(path, offset=len(found), limit=PART)
            found += part["files"]
            if not part["files"] or len(found) >= part["total"]:
                break
    if as_json:
        print_json({"files": found})
        return
    print_table((">Size", ">Have", "Path"), map(_file_row, found), "no files are known yet")


def _file_row(file: Any) -> list[str]:
    have, size = file["have"], file["size"]
    share = "" if have is None else percent(have / size if size else 1.0)
    return [format_size(size), share, file["path"]]


@click.command(short_help="The peers of a torrent.")
@torrent_argument()
@mount_option
@json_option
def peers(torrent: str, mountpoint: Path | None, as_json: bool) -> None:
    """List the peers and web seeds of TORRENT that are connected.

    Flags: D we may ask them, d they choke us; U we serve them, u we choke them.
    """
    with torrent_of(torrent, mountpoint) as (client, about):
        found = client.get(f"/torrents/{in_url(about['key'])}/peers")
    if as_json:
        print_json(found)
        return
    columns = ("Address", "Kind", ">Has", ">Down", ">Up", ">Received", ">Sent", "Flags", "Client")
    print_table(columns, map(_peer_row, found["peers"]), "nobody is connected")


def _peer_row(peer: Any) -> list[str]:
    return [
        peer["address"],
        peer["kind"],
        percent(peer["progress"]),
        format_rate(peer["download_rate"]) if peer["download_rate"] >= 1 else "",
        format_rate(peer["upload_rate"]) if peer["upload_rate"] >= 1 else "",
        format_size(peer["downloaded"]),
        format_size(peer["uploaded"]),
        peer["flags"],
        peer["client"],
    ]


@click.command(short_help="The trackers of a torrent.")
@torrent_argument()
@mount_option
@json_option
def trackers(torrent: str, mountpoint: Path | None, as_json: bool) -> None:
    """List the trackers of TORRENT, what they said, and how many peers they know.

    They are asked for these counts, every five minutes at most; none is while TORRENT sleeps.
    """
    with torrent_of(torrent, mountpoint) as (client, about):
        found = client.get(f"/torrents/{in_url(about['key'])}/trackers", scrape="true")
    if as_json:
        print_json(found)
        return
    columns = (">Tier", "URL", ">Peers", ">Seeders", ">Leechers", ">Finished", ">Next", "Said")
    print_table(columns, map(_tracker_row, found["trackers"]), "no tracker is asked now")


def _tracker_row(tracker: Any) -> list[str]:
    def number(value: int | None) -> str:
        return "" if value is None else str(value)

    waits = tracker["next_announce"]
    return [
        str(tracker["tier"]),
        tracker["url"],
        str(tracker["peers"]),
        number(tracker["seeders"]),
        number(tracker["leechers"]),
        number(tracker["downloaded"]),
        "" if waits is None else f"{waits:.0f}s",
        tracker["error"] or tracker["warning"] or tracker["scrape_error"],
    ]
