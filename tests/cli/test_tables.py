"""What goes to a terminal, and what into a pipe."""

from __future__ import annotations

import io

import click
import pytest
from rich.console import Console

from torrentfs.cli.tables import make_table, percent, print_json, print_table


def test_into_a_pipe_go_lines_with_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("Name", ">Size"), [["a\x1b[31m b", "1"], ["c", ""]], "nothing")
    print_table(("Name", ">Size"), [], "nothing")
    assert capsys.readouterr().out == "a\\x1b[31m b\t1\nc\t\n"


def test_on_a_terminal_columns_are_aligned() -> None:
    sink = io.StringIO()
    table = make_table(("Name", ">Size"), [["[bold]x[/]", "1"], ["longer", "100"]])
    Console(file=sink, width=40).print(table)
    lines = [line.rstrip() for line in sink.getvalue().splitlines()]
    assert lines == ["Name        Size", "[bold]x[/]     1", "longer       100"]


def test_json_into_a_pipe_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": ["ä"]})
    assert capsys.readouterr().out == '{"a": ["\\u00e4"]}\n'
    assert click.unstyle("") == ""


@pytest.mark.parametrize(("share", "text"), [(0.0, "0%"), (0.999, "99%"), (1.0, "100%")])
def test_only_all_of_it_is_100_percent(share: float, text: str) -> None:
    assert percent(share) == text
