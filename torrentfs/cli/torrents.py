"""`torrentfs add`, `remove`, `list`, `pause`, `resume`: the torrents of a running mount."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torrentfs.cli.client import (
    Client,
    client_for,
    in_url,
    json_option,
    mount_option,
    place_of,
    torrent_argument,
    torrent_of,
)
from torrentfs.cli.output import printable
from torrentfs.cli.several import do_each, tell_of
from torrentfs.cli.tables import percent, print_json, print_table
from torrentfs.daemon.quantities import format_rate, format_size
from torrentfs.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

TORRENT = "application/x-bittorrent"


@click.command(short_help="Add torrents to a running mount.")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option("--to", "folder", metavar="FOLDER", default="", help="Folder of the mount for them.")
@click.option("--paused", is_flag=True, help="Add them paused: nothing is fetched.")
@mount_option
@json_option
def add(
    sources: Sequence[str], folder: str, paused: bool, mountpoint: Path | None, as_json: bool
) -> None:
    """Add each SOURCE to a running mount: a .torrent file, a magnet link, a URL, an info-hash.

    They stay in the mount when it is mounted again, until they are removed. FOLDER is a path like
    films/new, or one inside the mount. A magnet link shows up when its metadata was found.
    """
    if folder.startswith(("/", "~", "./")):
        place = place_of(folder)
        if place is None:
            raise ConfigError(f"{folder} is not in a mount: name a folder like films/new")
        folder = place.text
        mountpoint = Path(place.mount.path)
    with client_for(mountpoint) as client:
        added, failed = do_each(sources, lambda source: _add(client, source, folder, paused))
    if as_json:
        print_json({"torrents": added})
    for torrent in [] if as_json else added:
        where = torrent["path"]
        if where is None and torrent["state"] in ("metadata", "failed"):
            words = f"{torrent['name']}: its metadata is looked for (torrentfs list)"
        elif where is None:
            words = f"{torrent['name']}: {torrent['trouble'] or 'it is not listed'}"
        else:
            words = f"{client.mount.path}/{where}"
        click.echo(printable(words))
    tell_of(failed)


def _add(client: Client, text: str, folder: str, paused: bool) -> Any:
    from torrentfs.daemon.sources import FileSource, parse_source, read_torrent_file

    source = parse_source(text)
    if not isinstance(source, FileSource):
        body = {"source": text, "folder": folder, "paused": paused}
        return client.ask("POST", "/torrents", json=body)
    torrent = client.ask(
        "POST",
        "/torrents",
        params={"folder": folder},
        content=read_torrent_file(source),
        headers={"content-type": TORRENT},
    )
    return _set_paused(client, torrent, True) if paused else torrent


def _set_paused(client: Client, torrent: Any, paused: bool) -> Any:
    return client.ask("PATCH", f"/torrents/{in_url(torrent['key'])}", json={"paused": paused})


@click.command(short_help="Take torrents out of a running mount.")
@torrent_argument(nargs=-1)
@click.option("--evict", is_flag=True, help="Take their pieces out of the cache, too.")
@mount_option
def remove(torrents: Sequence[str], evict: bool, mountpoint: Path | None) -> None:
    """Take each TORRENT out of the mount: an info-hash, its first digits, a name or a path.

    What has been fetched stays in the cache, unless --evict.
    """

    def one(text: str) -> None:
        with torrent_of(text, mountpoint) as (client, torrent):
            query = {"evict": "true"} if evict else {}
            client.ask("DELETE", f"/torrents/{in_url(torrent['key'])}", params=query)

    tell_of(do_each(torrents, one)[1])


@click.command(short_help="Pause torrents.")
@torrent_argument(nargs=-1)
@mount_option
def pause(torrents: Sequence[str], mountpoint: Path | None) -> None:
    """Let each TORRENT have no traffic: what is in the cache can be read, other reads fail."""
    tell_of(do_each(torrents, lambda text: _change(text, mountpoint, True))[1])


@click.command(short_help="Go on with paused torrents.")
@torrent_argument(nargs=-1)
@mount_option
def resume(torrents: Sequence[str], mountpoint: Path | None) -> None:
    """Go on with each TORRENT that was paused."""
    tell_of(do_each(torrents, lambda text: _change(text, mountpoint, False))[1])


def _change(text: str, mountpoint: Path | None, paused: bool) -> None:
    with torrent_of(text, mountpoint) as (client, torrent):
        _set_paused(client, torrent, paused)


COLUMNS = ("Name", "State", ">Size", ">Have", ">Down", ">Up", ">Peers", "Info-hash", "Remark")


@click.command("list", short_help="The torrents of a running mount.")
@mount_option
@json_option
def list_torrents(mountpoint: Path | None, as_json: bool) -> None:
    """List the torrents of the mount, those whose metadata is looked for too."""
    with client_for(mountpoint) as client:
        found = client.get("/torrents")
    if as_json:
        print_json(found)
        return
    print_table(COLUMNS, map(row_of, found["torrents"]), "no torrents: torrentfs add SOURCE")


def row_of(torrent: Any) -> list[str]:
    """A line of the list."""
    remarks = [*map(_edition, torrent.get("publications", ())), torrent["trouble"]]
    known = torrent["state"] not in ("metadata", "failed")
    return [
        torrent["path"] or torrent["name"],
        torrent["state"],
        format_size(torrent["size"]) if known else "",
        percent(torrent["progress"]) if known else "",
        format_rate(torrent["download_rate"]) if torrent["download_rate"] >= 1 else "",
        format_rate(torrent["upload_rate"]) if torrent["upload_rate"] >= 1 else "",
        str(torrent["peers"]) if torrent["peers"] else "",
        torrent["key"][:10],
        "; ".join(filter(None, remarks)),
    ]


def _edition(publication: Any) -> str:
    """What there is to say of a publisher's link that a torrent is an edition of."""
    number = publication["sequence"]
    words = "newer edition" if publication["is_coming"] else "edition"
    words = "a publisher's link" if number is None else f"{words} {number}"
    if publication["asked"] is None:
        return f"{words}, not asked yet"
    return f"{words}, asked {max(time.time() - publication['asked'], 0) / 60:.0f} min ago"
