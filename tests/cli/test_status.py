"""`status` against a mount."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.cli.controlled import controlled
from tests.daemon.control.fakes import BROWSERS

if TYPE_CHECKING:
    from tests.cli.conftest import Run
    from tests.daemon.control.fakes import FakeMount

__all__ = ["controlled"]


def test_the_status_is_told_line_by_line(controlled: FakeMount, run: Run) -> None:
    controlled.volume.downloaded = 2048
    controlled.session.trouble = "nothing is kept"
    result = run("status")
    assert result.exit_code == 0
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert lines["torrents"] == "1 (1 asleep)"
    assert lines["have"] == "0% of 205 KiB"
    assert lines["received"] == "tcp 2 KiB"
    assert lines["limits"] == "no limit down, 1 MiB/s up, 32 active"
    assert lines["trouble"] == "nothing is kept"


def test_browsers_are_counted_once_there_may_be_any(controlled: FakeMount, run: Run) -> None:
    assert "browsers" not in run("status").stdout
    controlled.session.webrtc = BROWSERS
    (line,) = [line for line in run("status").stdout.splitlines() if line.startswith("browsers")]
    assert line == (
        "browsers    3 connected, 4 of 20 offers were answered, 5 of 6 of theirs by us; "
        "deaths of the worker: 1; turn:relay refuses the credentials (401)"
    )
    assert json.loads(run("status", "--json").stdout)["webrtc"]["workers"] == [42]


def test_as_json(controlled: FakeMount, run: Run) -> None:
    assert json.loads(run("status", "--json").stdout)["mountpoint"] == "/m"


def test_the_live_view_shows_busy_torrents_first() -> None:
    from io import StringIO

    from rich.console import Console

    from tests.daemon.control.fakes import fake_mount
    from tests.storage.torrents import make
    from torrentfs.cli.status import SHOWN, _view
    from torrentfs.daemon.control import describe

    mount = fake_mount()
    for number in range(SHOWN + 5):
        mount.library.put(make(5, name=f"t{number}"))
    known = describe.torrents(mount.subject)
    status = describe.status(mount.subject, known).model_dump()
    torrents = {torrent.key: torrent.model_dump() for torrent in known}
    torrents[mount.item.key]["download_rate"] = 5e6
    sink = StringIO()
    Console(file=sink, width=160).print(_view(status, torrents))
    lines = sink.getvalue().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("Name"))
    assert lines[first + 1].startswith("sample")
    assert lines[-1] == "and 6 more"
