"""`torrentfs create`: a .torrent file from files, and nothing else.

All that can be refused is refused before anything is hashed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torrentfs.cli.interrupting import interruptible
from torrentfs.cli.making import (
    Making,
    check_writable,
    describe,
    places_of,
    tell,
    torrent_options,
    write_torrent,
)
from torrentfs.cli.options import PATH

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command(
    context_settings={"auto_envvar_prefix": "TORRENTFS", "show_default": False},
    short_help="Make a .torrent file.",
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=PATH)
@click.option(
    "-o",
    "--output",
    metavar="FILE|DIR",
    type=PATH,
    help="Where to write it.  [default: NAME.torrent in the current directory]",
)
@click.option("--force", is_flag=True, help="Overwrite it if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each torrent.")
@torrent_options
def create(
    paths: tuple[Path, ...], output: Path | None, force: bool, as_json: bool, **options: Any
) -> None:
    """Make a .torrent of each PATH, a file or a directory, and print its magnet link.

    No tracker is named unless you do. There is no date in it: the same files and options give the
    same torrent. Hidden files are left out, symbolic links are followed.
    """
    making = Making.of(options, paths)
    with interruptible("what was not finished is not written"):
        _create(paths, making, output, force=force, as_json=as_json)


def _create(
    paths: Sequence[Path], making: Making, output: Path | None, *, force: bool, as_json: bool
) -> None:
    from torrentfs.metainfo.magnet import magnet_of

    payloads = [making.list_payload(path) for path in paths]
    places = places_of(payloads, output, Path.cwd())
    for place in places:
        check_writable(place, force=force)
    for payload, place in zip(payloads, places, strict=True):
        made = making.make(payload)
        write_torrent(place, made.torrent, force=force)
        said = describe(made, place, magnet_of(made.metainfo).to_uri())
        if as_json:
            click.echo(json.dumps(said))
        else:
            for line in tell(said):
                click.echo(line)
