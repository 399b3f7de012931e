"""What a person, or a log collector, sees while torrents are shared."""

from __future__ import annotations

import io
import logging
from dataclasses import replace

import pytest
import trio
from rich.console import Console

from torrentfs.cli.sharing import MAX_PEERS, SAY_EVERY, TerminalReport, status_line, table
from torrentfs.daemon.sharing import Sharing
from torrentfs.engine.stats import PeerStatistics, SessionStatistics, TorrentStatistics

MIB = 1 << 20

PEER = PeerStatistics(
    address="192.0.2.1:7",
    kind="tcp",
    client="Some 1.0",
    progress=0.5,
    downloaded=0,
    uploaded=3 * MIB,
    download_rate=0,
    upload_rate=2 * MIB,
    flags="U",
)
TORRENT = TorrentStatistics(
    name="film",
    key="ab",
    state="complete",
    size=10 * MIB,
    pieces_have=10,
    pieces_total=10,
    download_rate=0,
    upload_rate=2 * MIB,
    downloaded=0,
    uploaded=3 * MIB,
    wasted=0,
    hash_failures=0,
    waiting_reads=0,
    peers=(PEER,),
)


def drawn(*torrents: TorrentStatistics) -> str:
    text = io.StringIO()
    Console(file=text, width=120).print(table(SessionStatistics(1, torrents)))
    return text.getvalue()


def test_the_status_line() -> None:
    assert status_line(TORRENT) == "1 peer · ↑ 2 MiB/s · 3 MiB sent"
    assert status_line(replace(TORRENT, peers=(), pieces_have=8)) == (
        "0 peers · ↑ 2 MiB/s · 3 MiB sent · 2 of 10 pieces changed or gone"
    )


def test_the_table_has_who_gets_most() -> None:
    peers = tuple(replace(PEER, address=f"192.0.2.{n}:7", upload_rate=n) for n in range(50))
    text = drawn(replace(TORRENT, peers=peers))
    assert "192.0.2.49:7 tcp Some 1.0" in text
    assert text.count("192.0.2.") == MAX_PEERS
    assert "50%" in text
    assert "and 5 more" in drawn(*[TORRENT] * 25)


def test_nothing_in_it_commands_the_terminal() -> None:
    evil = replace(PEER, client="\x1b[2J[red]x[/]")
    text = drawn(replace(TORRENT, name="\x1b[31m[bold]", peers=(evil,)))
    assert "\x1b" not in text
    assert "[red]x[/]" in text


async def test_on_a_terminal(autojump_clock: trio.testing.MockClock) -> None:
    text = io.StringIO()
    told: list[Sharing] = []
    report = TerminalReport(told.append, Console(file=text, force_terminal=True, width=120))
    report.on_ready(Sharing(1, 2))
    assert told == [Sharing(1, 2)]
    assert "Ctrl-C ends it" in text.getvalue()
    with trio.move_on_after(3):
        await report.follow(lambda: SessionStatistics(1, (TORRENT,)))
    assert "Some 1.0" in text.getvalue()


async def test_in_a_log_only_what_is_new_is_said(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "torrentfs")
    quiet = replace(TORRENT, peers=(), uploaded=0)
    states = iter([quiet, quiet, TORRENT, TORRENT, quiet])
    report = TerminalReport(lambda sharing: None, None)
    with trio.move_on_after(4.5 * SAY_EVERY):
        await report.follow(lambda: SessionStatistics(1, (next(states),)))
    assert [record.getMessage().split(" · ")[0] for record in caplog.records] == [
        "film: 1 peer",
        "film: 0 peers",
    ]
