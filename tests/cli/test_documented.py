"""Every command that README and docs show is one that the command line takes as it is meant."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from torrentfs.cli.main import CONTEXT, cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^ *```(?:sh|bash|console)?\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(torrentfs [a-z]+(?: [^`]+)?)`")
PLACEHOLDER = re.compile(r"\.\.\.|…|[A-Z]{4,}|\||\[-|SUBCOMMAND")
"""What is no command but the form of one, or a name of several."""
TORRENT = re.compile(r"\.torrent$|^magnet:|^https?:|^[0-9a-f]{40}$|^\$|^/srv/ubuntu")


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command in code blocks, and inline, of a page."""
    text = page.read_text()
    lines = "\n".join(BLOCK.findall(text)).replace("\\\n", " ").splitlines()
    for line in [*lines, *INLINE.findall(BLOCK.sub("", text))]:
        line = re.split(r"\s\s+|;", line.strip().removeprefix("$ ").removeprefix("sudo "))[0]
        if not re.match("torrentfs [a-z]+( |$)", line) or PLACEHOLDER.search(line):
            continue
        words = shlex.split(line, comments=True)
        yield words[1 : next((n for n, w in enumerate(words) if w in (">", "&&", "&")), None)]


EXAMPLES = [
    pytest.param(words, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, words in enumerate(commands(page))
]


def test_they_are_found() -> None:
    assert len(EXAMPLES) > 40


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


def parse(words: list[str], group: click.Group = cli) -> click.Context:
    """The context of the command that `words` call, not run."""
    name, *rest = words
    parent = click.Context(group, info_name="torrentfs", **CONTEXT)
    command = group.get_command(parent, name)
    assert command is not None, f"there is no command {name!r}"
    if isinstance(command, click.Group) and rest:
        return parse(rest, command)
    return command.make_context(name, rest, parent=parent)


@pytest.mark.parametrize("words", EXAMPLES)
def test_it_means_what_is_meant(words: list[str]) -> None:
    if words[0].startswith("-") or words[-1] in ("-h", "--help"):
        return
    try:
        params = parse(words).params
    except click.MissingParameter:
        assert len(words) == 1 or words[1].startswith("-"), words  # the name of a command
        return
    except click.ClickException as error:
        pytest.fail(f"torrentfs {shlex.join(words)}: {error.format_message()}")
    if words[0] == "mount":
        assert not TORRENT.search(str(params["mountpoint"])), words
        assert all(TORRENT.search(source) for source in params["sources"]), words
