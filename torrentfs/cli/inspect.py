"""`torrentfs inspect`: what a torrent or magnet says, without mounting or asking any peer.

A .torrent file and a magnet are read offline; a URL is fetched. Everything shown comes from a
stranger and is printed with control characters escaped. `--json` is stable: keys are only added.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from torrentfs.cli.options import DURATION
from torrentfs.cli.output import printable
from torrentfs.cli.peers import bind_option, proxy_option
from torrentfs.cli.settings import ReadingCommand, config_option
from torrentfs.daemon.quantities import format_host_port, format_size
from torrentfs.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torrentfs.daemon.sources import UrlSource
    from torrentfs.metainfo.files import File
    from torrentfs.metainfo.magnet import Magnet
    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.transports.proxy import Proxy

TABLE_ROWS = 1000
"""Files up to which the list is drawn as a table; rich needs 1 ms for each row."""


@click.command(
    cls=ReadingCommand,
    reads=("metadata_timeout", "bind_interface", "proxy"),
    context_settings={"auto_envvar_prefix": "TORRENTFS"},
    short_help="Show what a torrent or magnet link says.",
)
@click.argument("source", metavar="SOURCE")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--metadata-timeout",
    type=DURATION,
    default="60s",
    show_default=True,
    help="Longest wait for a URL.",
)
@bind_option
@proxy_option
@config_option
def inspect(
    source: str,
    as_json: bool,
    metadata_timeout: float,
    bind_interface: str | None,
    proxy: Proxy | None,
) -> None:
    """Show what SOURCE (.torrent file, magnet link, http(s) URL or info-hash) says.

    No peer or tracker is asked: of a magnet link, only what is in the link itself is known.
    """
    from torrentfs.daemon.sources import (
        FileSource,
        MagnetSource,
        PublisherSource,
        parse_source,
        parse_torrent_of,
        read_torrent_file,
    )

    found = parse_source(source)
    if isinstance(found, PublisherSource):
        raise ConfigError(
            "the link names a publisher, who names his torrent in the DHT: only mount asks there"
        )
    if isinstance(found, MagnetSource):
        said = describe_magnet(found.magnet)
        files: Iterable[File] = ()
    else:
        if isinstance(found, FileSource):
            metainfo = parse_torrent_of(found, read_torrent_file(found))
        else:
            metainfo = _fetch(found, metadata_timeout, bind_interface, proxy)
        said = describe_torrent(metainfo)
        files = metainfo.files
    if as_json:
        if not isinstance(found, MagnetSource):
            said["files"] = [describe_file(file, said["name"]) for file in files]
        click.echo(json.dumps(said, indent=2))
        return
    for line in _lines(said):
        click.echo(line)
    if not isinstance(found, MagnetSource):
        _print_files([describe_file(file, said["name"]) for file in files])


def _fetch(
    source: UrlSource, timeout: float, interface: str | None, proxy: Proxy | None
) -> Metainfo:
    """Fetch and parse a .torrent URL."""
    import trio

    from torrentfs.daemon.interfaces import binding_of
    from torrentfs.daemon.sources import load
    from torrentfs.transports.http import HttpClient

    bind = binding_of(interface) if interface else None

    async def fetch() -> Metainfo:
        async with HttpClient(bind=bind, proxy=proxy) as client:
            return await load(source, client, timeout=timeout)

    return trio.run(fetch)


def describe_torrent(metainfo: Metainfo) -> dict[str, Any]:
    """Everything but the files, as JSON has it."""
    from torrentfs.metainfo.magnet import magnet_of

    hashes = metainfo.hashes
    return {
        "name": metainfo.name,
        "info_hash_v1": hashes.v1.hex() if hashes.v1 else None,
        "info_hash_v2": hashes.v2.hex() if hashes.v2 else None,
        "size": sum(file.length for file in metainfo.files if not file.pad),
        "piece_length": metainfo.geometry.piece_length,
        "pieces": metainfo.geometry.num_pieces,
        "file_count": sum(not file.pad for file in metainfo.files),
        "single_file": metainfo.is_single_file,
        "private": metainfo.private,
        "trackers": [list(tier) for tier in metainfo.trackers],
        "web_seeds": list(metainfo.web_seeds),
        "http_seeds": list(metainfo.http_seeds),
        "nodes": [format_host_port(*node) for node in metainfo.nodes],
        "creation_date": metainfo.creation_date,
        "created_by": metainfo.created_by,
        "comment": metainfo.comment,
        "magnet": magnet_of(metainfo).to_uri(),
    }


def describe_file(file: File, name: str) -> dict[str, Any]:
    """One file; of the marks (`pad`, `executable`, `symlink`) only those that it has."""
    said: dict[str, Any] = {"path": "/".join(file.path) or name, "length": file.length}
    if file.pad:
        said["pad"] = True
    if file.executable:
        said["executable"] = True
    if file.symlink is not None:
        said["symlink"] = "/".join(file.symlink)
    return said


def describe_magnet(magnet: Magnet) -> dict[str, Any]:
    """What the link says, as JSON has it."""
    return {
        "name": magnet.name,
        "info_hash_v1": magnet.hashes.v1.hex() if magnet.hashes.v1 else None,
        "info_hash_v2": magnet.hashes.v2.hex() if magnet.hashes.v2 else None,
        "trackers": [[url] for url in magnet.trackers],
        "web_seeds": list(magnet.web_seeds),
        "peers": [format_host_port(*peer) for peer in magnet.peers],
        "select": [[numbers.start, numbers.stop - 1] for numbers in magnet.select],
        "exact_source": list(magnet.exact_source),
        "magnet": magnet.to_uri(),
    }


_LABELS = {
    "name": "Name",
    "info_hash_v1": "Info-hash v1",
    "info_hash_v2": "Info-hash v2",
    "size": "Size",
    "pieces": "Pieces",
    "file_count": "Files",
    "private": "Private",
    "creation_date": "Created",
    "created_by": "Created by",
    "comment": "Comment",
    "trackers": "Trackers",
    "web_seeds": "Web seeds",
    "http_seeds": "HTTP seeds",
    "nodes": "DHT nodes",
    "peers": "Peers",
    "select": "Selected files",
    "exact_source": "Torrent at",
    "magnet": "Magnet",
}


def _lines(said: dict[str, Any]) -> Iterator[str]:
    """`Label:  value` for everything that is there, one value a line."""
    for key, label in _LABELS.items():
        values = list(_values(key, said))
        for index, value in enumerate(values):
            head = f"{label}:" if index == 0 else ""
            yield f"{head:<16}{printable(value)}"


def _values(key: str, said: dict[str, Any]) -> Iterator[str]:
    value = said.get(key)
    if value is None or value == []:
        return
    match key:
        case "size":
            yield f"{format_size(value)} ({value} bytes)"
        case "pieces":
            yield f"{value} of {format_size(said['piece_length'])}"
        case "private":
            yield "yes" if value else "no"
        case "creation_date":
            yield _date(value)
        case "trackers":
            tiers = len(value) > 1
            yield from (
                f"{f'{number}. ' if tiers else ''}{url}"
                for number, tier in enumerate(value, 1)
                for url in tier
            )
        case "select":
            yield ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in value)
        case _ if isinstance(value, list):
            yield from value
        case _:
            yield str(value)


def _date(timestamp: int) -> str:
    try:
        return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):  # any integer can be in a torrent
        return f"{timestamp} (no date)"


def _mark(file: dict[str, Any]) -> str:
    if "symlink" in file:
        return f"-> {file['symlink']}"
    return " ".join(name for name in ("pad", "executable") if name in file)


def _print_files(files: list[dict[str, Any]]) -> None:
    click.echo()
    if sys.stdout.isatty() and len(files) <= TABLE_ROWS:
        _print_table(files)
        return
    for file in files:
        mark = _mark(file)
        line = f"{format_size(file['length']):>10}  {file['path']}"
        click.echo(printable(f"{line}  ({mark})" if mark else line))


def _print_table(files: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Size", justify="right", no_wrap=True)
    table.add_column("Path", overflow="fold")
    if any(_mark(file) for file in files):
        table.add_column("")
    for file in files:
        cells = [
            Text(format_size(file["length"])),
            Text(printable(file["path"]), style="dim" if file.get("pad") else ""),
        ]
        if len(table.columns) > 2:
            cells.append(Text(printable(_mark(file)), style="cyan"))
        table.add_row(*cells)
    Console().print(table)
