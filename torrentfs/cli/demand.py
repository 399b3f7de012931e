"""`torrentfs why`, `pin`, `unpin`, `pins`, `prefetch`, `evict`: what is here, and is to be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from torrentfs.cli.client import client_at, client_for, json_option, mount_option
from torrentfs.cli.output import printable
from torrentfs.cli.several import do_each, tell_of
from torrentfs.cli.tables import percent, print_json, print_table
from torrentfs.daemon.quantities import format_rate, format_size, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_OFFSET = re.compile(r"(.+):(\d+[KMGT]?)", re.IGNORECASE)

paths_argument = click.argument("paths", metavar="PATH...", nargs=-1, required=True)
range_option = click.option(
    "--range",
    "span",
    metavar="OFFSET[:LENGTH]",
    help="Only these bytes of each file, like 0:100M; without LENGTH up to its end.",
)


def _ask(path: str, mountpoint: Path | None, method: str, where: str, **settings: Any) -> Any:
    with client_at(path, mountpoint) as (client, text):
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
@mount_option
@json_option
def why(path: str, mountpoint: Path | None, as_json: bool) -> None:
    """Say why a read at OFFSET (0) of the file PATH waits, or would wait.

    Which piece it needs, who has it, who was asked for it and when, and the reason in plain words.
    Nobody is asked for anything.
    """
    offset = 0
    match = _OFFSET.fullmatch(path)
    if match is not None:
        path, offset = match[1], parse_size(match[2])
    found = _ask(path, mountpoint, "GET", "/why", offset=offset)
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
@mount_option
@json_option
def pin(paths: Sequence[str], span: str | None, mountpoint: Path | None, as_json: bool) -> None:
    """Fetch each PATH (a file, a directory, a torrent) in the background, and never evict it.

    Pins outlive the mount. Together they may take 7/8 of --cache-size.
    """
    settings = _span(span)
    _do(paths, lambda path: _ask(path, mountpoint, "POST", "/pins", **settings), _tell, as_json)


@click.command(short_help="The end of pin.")
@paths_argument
@range_option
@mount_option
@json_option
def unpin(paths: Sequence[str], span: str | None, mountpoint: Path | None, as_json: bool) -> None:
    """Do not keep each PATH any longer: it goes when its room is needed."""
    settings = _span(span)

    def one(path: str) -> Any:
        return _ask(path, mountpoint, "POST", "/pins/remove", **settings)

    _do(paths, one, None, as_json)


@click.command(short_help="Fetch files before they are read.")
@paths_argument
@range_option
@mount_option
@json_option
def prefetch(
    paths: Sequence[str], span: str | None, mountpoint: Path | None, as_json: bool
) -> None:
    """Fetch each PATH (a file, a directory, a torrent) in the background, below all that is read.

    It may be evicted again when its room is needed: see pin. To evict it ends it.
    """
    settings = _span(span)

    def one(path: str) -> Any:
        [found] = _ask(path, mountpoint, "POST", "/prefetches", **settings)["prefetches"]
        return found

    _do(paths, one, _tell, as_json)


@click.command(short_help="Drop files from the cache.")
@paths_argument
@click.option("--pinned", is_flag=True, help="Pinned files too: they are not pinned any more.")
@mount_option
@json_option
def evict(paths: Sequence[str], pinned: bool, mountpoint: Path | None, as_json: bool) -> None:
    """Drop what is cached of each PATH (a file, a directory, a torrent), at once."""

    def tell(path: str, found: Any) -> None:
        click.echo(f"{printable(path)}: freed {format_size(found['freed'])}")

    _do(
        paths,
        lambda path: _ask(path, mountpoint, "POST", "/evict", pinned=pinned),
        tell,
        as_json,
    )


@click.command(short_help="What is pinned or prefetched.")
@mount_option
@json_option
def pins(mountpoint: Path | None, as_json: bool) -> None:
    """List what is pinned, and the prefetches under way, with how much of each is here."""
    with client_for(mountpoint) as client:
        kept, fetched = client.get("/pins"), client.get("/prefetches")
    if as_json:
        print_json({**kept, **fetched})
        return
    rows = [_row("pinned", each) for each in kept["pins"]]
    rows += [_row("prefetched", each) for each in fetched["prefetches"]]
    columns = ("Path", "", "Bytes", ">Here", "Remark")
    print_table(columns, rows, "nothing is pinned or prefetched: torrentfs pin PATH")
    more = kept["total"] - len(kept["pins"])
    if more:
        click.echo(f"and {more} more pins")


def _row(what: str, each: Any) -> list[str]:
    offset, length = each["offset"], each["length"]
    end = "" if length is None else format_size(offset + length)
    span = f"{format_size(offset)} to {end or 'the end'}" if offset or end else ""
    return [each["path"], what, span, _share(each), each["trouble"]]


def _do(
    paths: Sequence[str],
    work: Callable[[str], Any],
    tell: Callable[[str, Any], None] | None,
    as_json: bool,
) -> None:
    """Do it to each path, and tell of each, or of all as JSON."""

    def one(path: str) -> Any:
        found = work(path)
        if tell is not None and not as_json:
            tell(path, found)
        return {**found, "path": path}

    done, failed = do_each(paths, one)
    if as_json:
        print_json({"paths": done})
    tell_of(failed)


def _tell(path: str, found: Any) -> None:
    """How far it is."""
    trouble = f" ({found['trouble']})" if found["trouble"] else ""
    click.echo(printable(f"{path}: {_share(found)} of it is here{trouble}"))


def _share(found: Any) -> str:
    have = found["pieces"] - found["missing"]
    return percent(have / found["pieces"] if found["pieces"] else 1.0)
