"""`add`, `remove`, `list`, `pause`, `resume` against a mount."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cli.controlled import controlled
from tests.daemon.control.fakes import MAGNET
from tests.metainfo.torrents import build
from torrentfs.daemon.publications import Publication
from torrentfs.metainfo.magnet import Publisher
from torrentfs.wire.krpc import Item

if TYPE_CHECKING:
    from tests.cli.conftest import Run
    from tests.daemon.control.fakes import FakeMount

__all__ = ["controlled"]


def test_torrents_of_all_kinds_are_added(controlled: FakeMount, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "t.torrent"
    path.write_bytes(build("v1"))
    result = run("add", str(path), MAGNET, "--to", "films/new")
    assert result.exit_code == 0, result.output
    assert result.stdout == ("/m/törrent\nwanted: its metadata is looked for (torrentfs list)\n")
    assert [call[0] for call in controlled.library.calls] == ["add_torrent", "add"]
    assert controlled.library.calls[0][2] == ("films", "new")
    assert controlled.library.calls[1][2:] == (("films", "new"), False)


def test_a_folder_may_be_a_path_of_the_mount(controlled: FakeMount, run: Run) -> None:
    assert run("add", MAGNET, "--to", "/m/films", "--paused").exit_code == 0
    assert controlled.library.calls[0][2:] == (("films",), True)
    result = run("add", MAGNET, "--to", "/elsewhere/films")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "not in a mount" in result.stderr


def test_a_file_added_paused_is_paused(controlled: FakeMount, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "t.torrent"
    path.write_bytes(build("v1"))
    result = run("add", "--json", "--paused", str(path))
    assert json.loads(result.stdout)["torrents"][0]["state"] == "paused"


def test_one_that_fails_does_not_keep_the_others_out(
    controlled: FakeMount, run: Run, tmp_path: Path
) -> None:
    result = run("add", str(tmp_path / "nothing.torrent"), MAGNET, "http://x.example/")
    assert result.exit_code == 1
    assert "wanted" in result.stdout
    assert len(result.stderr.splitlines()) == 2


def test_removing(controlled: FakeMount, run: Run) -> None:
    assert run("remove", "--evict", "/m/sample").exit_code == 0
    assert controlled.library.calls == [("remove", controlled.item.key, True)]
    result = run("remove", "sample")
    assert (result.exit_code, result.stderr) == (1, "torrentfs: no torrent is called 'sample'\n")


def test_pausing(controlled: FakeMount, run: Run) -> None:
    assert run("pause", "sample").exit_code == 0
    assert controlled.item.state == "paused"
    assert run("resume", controlled.item.key[:10]).exit_code == 0
    assert controlled.item.state == "asleep"


def test_the_list_tells_of_publishers(controlled: FakeMount, run: Run) -> None:
    one = Publication("magnet:?xs=urn:btpk:" + "ab" * 32, Publisher(b"\xab" * 32))
    controlled.item.published.append(one)

    def remark() -> str:
        return run("list").stdout.splitlines()[0].split("\t")[-1]

    assert remark() == "a publisher's link, not asked yet"
    one.said, one.asked = Item(b"1:x", sequence=7), time.time() - 720
    assert remark() == "edition 7, asked 12 min ago"
    one.coming = controlled.item  # type: ignore[assignment]
    one.trouble = "his line is dead"
    assert remark() == "newer edition 7, asked 12 min ago; his line is dead"
    controlled.item.trouble = "asking 3 peers"
    assert remark() == "newer edition 7, asked 12 min ago; asking 3 peers"
    [found] = json.loads(run("list", "--json").stdout)["torrents"]
    assert found["publications"][0]["sequence"] == 7


def test_the_list_has_a_line_for_each(controlled: FakeMount, run: Run) -> None:
    run("add", MAGNET)
    controlled.item.trouble = "bad \x1b[31m news"
    lines = [line.split("\t") for line in run("list").stdout.splitlines()]
    assert len(lines) == 2
    by_name = {line[0]: line for line in lines}
    assert by_name["sample"][1:4] == ["asleep", "205 KiB", "0%"]
    assert by_name["sample"][-1] == "bad \\x1b[31m news"
    assert by_name["wanted"][1:4] == ["metadata", "", ""]
    assert len(json.loads(run("list", "--json").stdout)["torrents"]) == 2
