"""`torrentfs why`, `pin`, `unpin`, `prefetch`, `evict`: what of a mount is here, and is to be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from torrentfs.cli.client import client_at, json_option
from torrentfs.cli.output import printable
from torrentfs.cli.tables import percent, print_json, print_table
from torrentfs.daemon.quantities import format_rate, format_size, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_OFFSET = re.compile(r"(.+):(\d+[KMGT]?)", re.IGNORECASE)

paths_argument = click.argument("paths", metavar="PATH...", nargs=-1, required=True)
range_option = click.option(
    "--range",
    "span",
    metavar="OFFSET[:LENGTH]",
    help="Only these bytes of each file, like 0:100M; without LENGTH up to its end.",
)


def _ask(path: str, method: str, where: str, **settings: Any) -> Any:
    with client_at(path) as (client, text):
        if method == "GET":
            return client.ask("GET", where, params={"path": text, **settings})
        return client.ask(method, where, json={"path": text, **settings})


def _span(text: str | None) -> dict[str, int]:
    if text is None:
        return {}
    first, colon, rest = text.partition(":")
    span = {"offset": parse_size(first)}
    if colon:
        span["length"] = parse_size(rest)
    return span


@click.command(short_help="Why a byte is not here.")
@click.argument("path", metavar="PATH[:OFFSET]")
@json_option
def why(path: str, as_json: bool) -> None:
    """Say why a read at OFFSET (0) of the file PATH waits, or would wait.

    Which piece it needs, who has it, who was asked for it and when, and the reason in plain words.
    Nobody is asked for anything.
    """
    offset = 0
    match = _OFFSET.fullmatch(path)
    if match is not None:
        path, offset = match[1], parse_size(match[2])
    found = _ask(path, "GET", "/why", offset=offset)
    if as_json:
        print_json(found)
        return
    click.echo(printable(found["words"]))
    size = format_size(found["size"])
    line = f"piece {found['piece']}, {format_size(found['received'])} of {size} here"
    if found["waits"] is not None:
        line += f"; a read has waited for {found['waits']:.1f} s"
        line += f" and gives up in {max(0.0, found['deadline']):.0f} s"
    click.echo(line)
    if found["sources"]:
        columns = ("Who has it", "Kind", ">Asked for", ">Ago", ">Down", "")
        print_table(columns, map(_source_row, found["sources"]), "")


def _source_row(source: Any) -> list[str]:
    since = source["since"]
    return [
        source["name"],
        source["kind"],
        f"{source['asked']} blocks" if source["asked"] else "",
        "" if since is None else f"{since:.1f}s",
        format_rate(source["rate"]) if source["rate"] >= 1 else "",
        source["failure"] or ("choked" if source["choked"] else ""),
    ]


@click.command(short_help="Keep files in the cache for good.")
@paths_argument
@range_option
def pin(paths: Sequence[str], span: str | None) -> None:
    """Fetch each PATH (a file, a directory, a torrent) in the background, and never evict it.

    Pins outlive the mount. Together they may take 7/8 of --cache-size.
    """
    _each(paths, lambda path: _tell(path, _ask(path, "POST", "/pins", **_span(span))))


@click.command(short_help="The end of pin.")
@paths_argument
@range_option
def unpin(paths: Sequence[str], span: str | None) -> None:
    """Do not keep each PATH any longer: it goes when its room is needed."""
    _each(paths, lambda path: _ask(path, "POST", "/pins/remove", **_span(span)))


@click.command(short_help="Fetch files before they are read.")
@paths_argument
@range_option
def prefetch(paths: Sequence[str], span: str | None) -> None:
    """Fetch each PATH (a file, a directory, a torrent) in the background, below all that is read.

    It may be evicted again when its room is needed: see pin.
    """

    def one(path: str) -> None:
        [found] = _ask(path, "POST", "/prefetches", **_span(span))["prefetches"]
        _tell(path, found)

    _each(paths, one)


@click.command(short_help="Drop files from the cache.")
@paths_argument
@click.option("--pinned", is_flag=True, help="Pinned files too: they are not pinned any more.")
def evict(paths: Sequence[str], pinned: bool) -> None:
    """Drop what is cached of each PATH (a file, a directory, a torrent), at once."""

    def one(path: str) -> None:
        freed = _ask(path, "POST", "/evict", pinned=pinned)["freed"]
        click.echo(f"{printable(path)}: freed {format_size(freed)}")

    _each(paths, one)


def _each(paths: Sequence[str], work: Callable[[str], object]) -> None:
    for path in paths:
        work(path)


def _tell(path: str, found: Any) -> None:
    """How far it is."""
    have = found["pieces"] - found["missing"]
    share = percent(have / found["pieces"] if found["pieces"] else 1.0)
    trouble = f" ({found['trouble']})" if found["trouble"] else ""
    click.echo(printable(f"{path}: {share} of it is here{trouble}"))
