"""The options about what a mount shows of torrents, and in which directories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from torrentfs.cli.options import SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torrentfs.vfs.views import View


def view_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--layout`, `--select`, `--exclude`, `--min-size`."""
    options = (
        click.option(
            "--layout",
            type=click.Choice(["name", "infohash", "flat"]),
            default="name",
            show_default=True,
            help="An entry per torrent, a directory per info-hash, or all files side by side.",
        ),
        click.option(
            "--select",
            metavar="GLOB",
            multiple=True,
            help="Show only files that match, like '*.mkv'. May be repeated.",
        ),
        click.option(
            "--exclude",
            metavar="GLOB",
            multiple=True,
            help="Do not show files that match, like 'sample*' or 'Extras/'. May be repeated.",
        ),
        click.option(
            "--min-size", type=SIZE, default="0", help="Show only files of at least this size."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def view_of(options: Mapping[str, Any]) -> View:
    """What these options say is shown."""
    from torrentfs.vfs.views import View

    return View(tuple(options["select"]), tuple(options["exclude"]), options["min_size"])
