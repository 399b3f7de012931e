"""`torrentfs cache du|prune|verify`: what a running mount keeps on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from torrentfs.cli.client import client_for, json_option, mount_option, torrent_of
from torrentfs.cli.options import SIZE
from torrentfs.cli.output import ProgressLine
from torrentfs.cli.tables import print_json, print_table
from torrentfs.daemon.quantities import format_size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DAMAGED = 1
"""The exit code of `verify` when something was damaged."""


@click.group(short_help="The cache of a running mount: du, prune, verify.")
def cache() -> None:
    """What is kept on disk. The cache is shared by all mounts of its directory."""


@cache.command(short_help="What takes how much.")
@mount_option
@json_option
def du(mountpoint: Path | None, as_json: bool) -> None:
    """Show how much each torrent takes on disk, the largest first."""
    with client_for(mountpoint) as client:
        found = client.get("/cache")
    if as_json:
        print_json(found)
        return
    print_table((">On disk", "Torrent", "Info-hash", ""), map(_row, found["torrents"]), "empty")


def _row(torrent: Any) -> list[str]:
    remark = "" if torrent["listed"] else "in use by another mount" if torrent["open"] else "idle"
    return [format_size(torrent["used"]), torrent["name"] or "?", torrent["key"][:10], remark]


@cache.command(short_help="Shrink it.")
@click.option("--to", "size", metavar="SIZE", type=SIZE, required=True, help="What to leave of it.")
@mount_option
def prune(size: int, mountpoint: Path | None) -> None:
    """Give up what was used least recently until SIZE is left, like 2G; 0 leaves nothing.

    It may grow to --cache-size again. What is pinned, and what other mounts have open, stays.
    """
    with client_for(mountpoint) as client:
        freed = client.ask("POST", "/cache/prune", json={"size": size})["freed"]
    click.echo(f"freed {format_size(freed)}")


@cache.command(short_help="Check it against the torrents' hashes.")
@click.argument("torrents", metavar="[TORRENT...]", nargs=-1)
@mount_option
@json_option
def verify(torrents: Sequence[str], mountpoint: Path | None, as_json: bool) -> int:
    """Read what is on disk of each TORRENT, or of all, and check it.

    What is damaged is forgotten, and fetched anew when it is read. Exit code 1 if there was any.
    """
    total = {"pieces": 0, "bytes": 0, "bad": 0}
    progress = ProgressLine()
    with client_for(mountpoint) as client:
        if torrents:
            wanted = []
            for text in torrents:
                with torrent_of(text, mountpoint) as (_, torrent):
                    wanted.append(torrent)
        else:
            wanted = client.get("/torrents")["torrents"]
        try:
            for torrent in wanted:
                progress.show(f"verifying {torrent['name']}")
                body = {"torrent": torrent["key"]}
                done = client.ask("POST", "/cache/verify", json=body, timeout=None)
                total = {name: total[name] + done[name] for name in total}
        finally:
            progress.clear()
    if as_json:
        print_json(total)
    else:
        click.echo(
            f"{total['pieces']} pieces ({format_size(total['bytes'])}), {total['bad']} damaged"
        )
    return DAMAGED if total["bad"] else 0
