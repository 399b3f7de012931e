"""`files`, `peers`, `trackers` against a mount."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.cli.controlled import controlled
from torrentfs.cli import details
from torrentfs.cli.details import _tracker_row
from torrentfs.engine.stats import PeerStatistics

if TYPE_CHECKING:
    from tests.cli.conftest import Run
    from tests.daemon.control.fakes import FakeMount

__all__ = ["controlled"]


@pytest.mark.parametrize("part", [1, 3, 100])
def test_all_files_are_listed(
    controlled: FakeMount, run: Run, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    monkeypatch.setattr(details, "PART", part)
    lines = [line.split("\t") for line in run("files", "/m/sample").stdout.splitlines()]
    assert [line[2] for line in lines] == [
        "sample/a/empty", "sample/a/one.bin", "sample/two.bin", "sample/z/three.bin",
    ]  # fmt: skip
    assert lines[1][0] == "68.4 KiB"
    assert len(json.loads(run("files", "sample", "--json").stdout)["files"]) == 4


def test_peers(controlled: FakeMount, run: Run) -> None:
    assert run("peers", "sample").stdout == ""
    peer = PeerStatistics("192.0.2.1:5", "tcp", "libt\x1b", 1.0, 2048, 0, 1024.0, 0.0, "D")
    controlled.volume.peers = (peer,)
    assert run("peers", "sample").stdout == (
        "192.0.2.1:5\ttcp\t100%\t1 KiB/s\t\t2 KiB\t0 B\tD\tlibt\\x1b\n"
    )
    assert json.loads(run("peers", "sample", "--json").stdout)["peers"][0]["kind"] == "tcp"


def test_trackers(controlled: FakeMount, run: Run) -> None:
    assert run("trackers", "sample").stdout == ""
    row = _tracker_row(
        {
            "tier": 0, "url": "http://t/announce", "peers": 5, "seeders": None, "leechers": 2,
            "next_announce": 12.4, "error": "", "warning": "slow down", "downloaded": 7,
            "counted": 3.0, "scrape_error": "",
        }
    )  # fmt: skip
    assert row == ["0", "http://t/announce", "5", "", "2", "7", "12s", "slow down"]
