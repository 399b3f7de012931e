"""Words on the terminal."""

from __future__ import annotations

import io

import pytest

from torrentfs.cli.foreground import TerminalHandler, TerminalReport, status_line
from torrentfs.cli.output import ProgressLine, complain, printable
from torrentfs.daemon.report import MountStatus

MIB = 1024**2


def test_printable() -> None:
    assert printable("Ünïcode 日本") == "Ünïcode 日本"
    assert printable("a\x1b[2J\nb\u202e\udcff") == "a\\x1b[2J\\nb\\u202e\\udcff"


def test_complaints_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    complain("a\nb")
    assert capsys.readouterr().err == "torrentfs: a\\nb\n"


def test_no_progress_into_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    line = ProgressLine()
    line.show("asking 3 peers")
    line.clear()
    assert capsys.readouterr().err == ""


def test_status_line() -> None:
    idle = MountStatus(1, 4 * 1024 * MIB, 0, 0.0, 0.0, 1, 0)
    assert status_line(idle) == "have 0% of 4 GiB · ↓ 0 B/s · 1 source"
    busy = MountStatus(
        2, 100 * MIB, 50 * MIB, 3.2 * MIB, MIB, 7, 2, {"tcp": 40 * MIB, "web seed": 0}, "stalled"
    )
    assert status_line(busy) == (
        "have 50% of 100 MiB · ↓ 3.2 MiB/s · ↑ 1 MiB/s · 7 sources · tcp 40 MiB · 2 wait (stalled)"
    )
    assert status_line(MountStatus(1, 0, 0, 0, 0, 0, 1)).startswith("have 100% of 0 B")


async def test_the_live_line_is_drawn_again_and_again(autojump_clock: object) -> None:
    import logging

    import trio
    from rich.console import Console

    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    have = 0

    def status() -> MountStatus:
        nonlocal have
        have += 10
        return MountStatus(1, 100, have, 0, 0, 0, 0)

    with trio.move_on_after(2.1):
        await TerminalReport(console).follow(status)
    handler = TerminalHandler(console)
    handler.emit(logging.LogRecord("x", logging.WARNING, "", 0, "evil \x1b[2J [red]", (), None))
    drawn = screen.getvalue()
    for share in (10, 20, 30, 40):
        assert f"have {share}%" in drawn
    assert "evil \\x1b[2J [red]" in drawn
