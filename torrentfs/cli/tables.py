"""Results on stdout: a table on a terminal, tab-separated lines into a pipe, or JSON.

Everything that may have come from a torrent is made printable first.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from torrentfs.cli.output import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.table import Table


def print_json(value: Any) -> None:
    """Indented for a person, on one line for a pipe; only ASCII, so that any locale prints it."""
    click.echo(json.dumps(value, indent=2 if sys.stdout.isatty() else None))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], empty: str = "") -> None:
    """`columns` are headings, those that begin with `>` of numbers; `empty` is said on a terminal
    when there is no row."""
    cells = [[printable(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in cells:
            click.echo("\t".join(row))
    elif cells:
        from rich.console import Console

        Console(highlight=False).print(make_table(columns, cells))
    elif empty:
        click.echo(empty)


def make_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """The table for a terminal; cells are plain text, already printable."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        right = column.startswith(">")
        table.add_column(
            column.removeprefix(">"),
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def percent(share: float) -> str:
    """`12%`; 100 only when nothing is missing."""
    return f"{int(share * 100)}%"
