"""`mount -f`: what a person at the terminal, or a log collector, sees."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest
import trio
from rich.console import Console

from torrentfs.cli.foreground import (
    REFRESH,
    TerminalHandler,
    TerminalReport,
    run_in_foreground,
    status_line,
)
from torrentfs.daemon.config import MountConfig
from torrentfs.daemon.report import Mounted, MountStatus, Report
from torrentfs.daemon.sources import FileSource

MIB = 1024 * 1024


def status(**facts: object) -> MountStatus:
    usual: dict[str, object] = {
        "torrents": 1,
        "total": 100 * MIB,
        "have": 12 * MIB,
        "download_rate": 0.0,
        "upload_rate": 0.0,
        "peers": 0,
        "blocked_reads": 0,
    }
    return MountStatus(**{**usual, **facts})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "wanted"),
    [
        ({}, "have 12% of 100 MiB · ↓ 0 B/s · 0 sources"),
        ({"total": 0, "have": 0}, "have 100% of"),
        ({"have": 100 * MIB - 1}, "have 99% of"),
        ({"peers": 1}, "· 1 source"),
        ({"upload_rate": 2.0 * MIB}, "↑ 2 MiB/s"),
        ({"received": {"tcp": MIB, "web seed": 0}}, "· tcp 1 MiB"),
        ({"blocked_reads": 1}, "· 1 read waits"),
        ({"blocked_reads": 3, "note": "stalled"}, "· 3 wait (stalled)"),
    ],
)
def test_the_status_line(facts: dict[str, object], wanted: str) -> None:
    assert wanted in status_line(status(**facts))


def test_nothing_in_the_status_line_commands_the_terminal() -> None:
    assert "\x1b" not in status_line(status(received={"\x1b[2J": 5}))


def terminal() -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, force_terminal=True, width=200, highlight=False), text


def test_log_lines_are_text_whatever_is_in_them() -> None:
    console, text = terminal()
    handler = TerminalHandler(console)
    record = logging.LogRecord(
        "torrentfs", logging.WARNING, "", 0, "name %s [red]x[/] \x07", ("\x1b[31mevil",), None
    )
    handler.emit(record)
    shown = text.getvalue()
    assert "\\x1b[31mevil [red]x[/] \\x07" in shown
    assert "\x1b[31m" not in shown
    assert "\x07" not in shown


async def test_the_line_is_drawn_again_and_taken_away(
    autojump_clock: trio.testing.MockClock,
) -> None:
    console, text = terminal()
    report = TerminalReport(console)
    report.on_ready(Mounted(Path("/m"), ("a",), 0))
    assert "Ctrl-C unmounts /m" in text.getvalue()
    looks: list[float] = []

    def look() -> MountStatus:
        looks.append(trio.current_time())
        return status(have=len(looks) * MIB)

    with trio.move_on_after(5.2 * REFRESH):
        await report.follow(look)
    assert len(looks) == 6
    assert "have 6%" in text.getvalue()
    assert text.getvalue().endswith("\x1b[?25h\r\x1b[1A\x1b[2K") or "\x1b[2K" in text.getvalue()


async def test_no_terminal_no_line() -> None:
    def never() -> MountStatus:
        raise AssertionError("nobody looks")

    report = TerminalReport(None)
    report.on_ready(Mounted(Path("/m"), ("a",), 0))
    await report.follow(never)


def test_into_a_pipe_go_log_lines_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = logging.getLogger()
    before = list(root.handlers), root.level, logging.getLogger("torrentfs").level

    def serve(config: MountConfig, report: Report) -> None:
        report.on_progress("looking for \x1b[2J")
        logging.getLogger("torrentfs.test").info("mounted %s", config.mountpoint)

    monkeypatch.setattr("torrentfs.cli.mount.serve_forever", serve)
    try:
        config = MountConfig((FileSource("x", tmp_path / "x"),), tmp_path, foreground=True)
        assert run_in_foreground(config) == 0
    finally:
        for handler in set(root.handlers) - set(before[0]):
            root.removeHandler(handler)
        root.setLevel(before[1])
        logging.getLogger("torrentfs").setLevel(before[2])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].endswith("looking for \\x1b[2J")
    assert lines[1].endswith(f"mounted {tmp_path}")
