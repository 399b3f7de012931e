"""The manual pages, made of the commands' own help: `python -m scripts.man` writes them anew.

They are kept in contrib/man, so that a package can be built without click-man; a test tells when
they are behind the commands.
"""

from __future__ import annotations

import os
from pathlib import Path

import click
from click_man.core import generate_man_page

from torrentfs import __version__
from torrentfs.cli.main import COMMANDS, cli

PAGES = Path(__file__).parents[1] / "contrib" / "man"

MADE_BY_HAND = {"mount.torrentfs.8"}


def pages() -> dict[str, str]:
    """Every page by its file name."""
    os.environ["TERMINAL_WIDTH"] = "80"
    top = click.Context(cli, info_name="torrentfs")
    made = {"torrentfs.1": page(top)}
    for name in COMMANDS:
        command = cli.get_command(top, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=top)
        made[f"torrentfs-{name}.1"] = page(context)
        if isinstance(command, click.Group):
            for inner in command.list_commands(context):
                found = command.get_command(context, inner)
                assert found is not None
                below = click.Context(found, info_name=inner, parent=context)
                made[f"torrentfs-{name}-{inner}.1"] = page(below)
    return made


def page(context: click.Context) -> str:
    """One page. What click would not wrap (a line of `\\b` before it) is set as it is."""
    text: str = generate_man_page(context, version=__version__, date=" ")
    lines: list[str] = []
    literal = False
    for line in text.splitlines():
        if line == "\b":
            literal = True
            lines.append(".nf")
            continue
        if literal and line.startswith("."):
            literal = False
            lines.append(".fi")
        lines.append(rf"\&{line}" if line.startswith("'") else line)
    command = context.command
    if isinstance(command, click.Group):
        lines += [".SH COMMANDS"]
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            full = f"{context.command_path} {name}".replace(" ", r"\-")
            assert found is not None
            lines += [".TP", rf"\fB{full}\fP(1)", found.get_short_help_str(200)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write all pages, and remove those of commands that are no more."""
    PAGES.mkdir(exist_ok=True)
    made = pages()
    for path in PAGES.iterdir():
        if path.name not in made and path.name not in MADE_BY_HAND:
            path.unlink()
    for name, text in made.items():
        (PAGES / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
