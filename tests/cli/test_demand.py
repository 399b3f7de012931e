"""`why`, `pin`, `unpin`, `prefetch`, `evict` against a mount."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.cli.controlled import controlled
from torrentfs.engine.errands import Pin

if TYPE_CHECKING:
    from tests.cli.conftest import Run
    from tests.daemon.control.fakes import FakeMount

__all__ = ["controlled"]

TWO = "/m/sample/two.bin"


@pytest.mark.parametrize("place", ["", ":0", ":1K"])
def test_why(controlled: FakeMount, run: Run, place: str) -> None:
    lines = run("why", TWO + place).stdout.splitlines()
    assert lines[0].startswith("asked")
    assert lines[1] == (
        "piece 2, 16 KiB of 32 KiB here; a read has waited for 4.5 s and gives up in 116 s"
    )
    assert lines[2].startswith("10.0.0.1:7\ttcp\t3 blocks\t4.2s\t")
    assert json.loads(run("why", TWO, "--json").stdout)["piece"] == 2


def test_pin_and_unpin(controlled: FakeMount, run: Run) -> None:
    assert run("pin", TWO).stdout == f"{TWO}: 0% of it is here\n"
    run("pin", "/m/sample/a/one.bin", "--range", "1K:2K")
    assert controlled.volume.pins == (Pin(1, 1024, 2048), Pin(2))
    run("unpin", "/m/sample/a")
    assert controlled.volume.pins == (Pin(2),)
    result = run("pin", "/m/sample")
    assert result.exit_code == 1
    assert "no room to pin" in result.stderr


def test_prefetch(controlled: FakeMount, run: Run) -> None:
    assert run("prefetch", "/m/sample").stdout == "/m/sample: 0% of it is here\n"
    assert len(controlled.volume.errands.prefetches) == 1


def test_evict(controlled: FakeMount, run: Run) -> None:
    assert run("evict", TWO).stdout == f"{TWO}: freed 1 KiB\n"
    assert controlled.library.calls == [("evict", controlled.item.key, 2, False)]


@pytest.mark.parametrize("command", ["pin", "unpin", "prefetch", "evict"])
def test_each_path_is_tried_and_each_that_fails_is_told(
    controlled: FakeMount, run: Run, command: str
) -> None:
    controlled.volume.errands.keep(controlled.volume.errands.with_pins([Pin(1)]))
    result = run(command, "/m/sample/nothing", TWO, "/elsewhere", "/m/sample/a/one.bin")
    assert result.exit_code == 1
    assert "nothing" in result.stderr
    assert "/elsewhere" in result.stderr
    if command != "unpin":
        assert [line.split(":")[0] for line in result.stdout.splitlines()] == [
            TWO,
            "/m/sample/a/one.bin",
        ]
    if command == "pin":
        assert controlled.volume.pins == (Pin(1), Pin(2))
    elif command == "unpin":
        assert controlled.volume.pins == ()
    told = json.loads(run(command, "/m/sample/nothing", TWO, "--json").stdout)
    assert [each["path"] for each in told["paths"]] == [TWO]


def test_paths_of_the_mount_that_is_named(controlled: FakeMount, run: Run) -> None:
    assert run("pin", "--mount", "/m", "sample/two.bin").exit_code == 0
    assert controlled.volume.pins == (Pin(2),)
    assert run("why", "--mount", "/m", "sample/two.bin:5").stdout.startswith("asked")
    for path in ("/elsewhere/two.bin", "."):
        result = run("pin", "--mount", "/m", path)
        assert result.exit_code == 1
        assert path in result.stderr


def test_the_list_of_pins_and_prefetches(controlled: FakeMount, run: Run) -> None:
    assert run("pins").stdout == ""
    run("pin", TWO)
    run("pin", "/m/sample/a/one.bin", "--range", "1K:2K")
    run("prefetch", "/m/sample/a")
    assert run("pins").stdout.splitlines() == [
        "sample/a/one.bin\tpinned\t1 KiB to 3 KiB\t0%\t",
        "sample/two.bin\tpinned\t\t0%\t",
        "sample/a\tprefetched\t\t0%\t",
    ]
    told = json.loads(run("pins", "--mount", "/m", "--json").stdout)
    assert (told["total"], len(told["pins"]), len(told["prefetches"])) == (2, 2, 1)


@pytest.mark.parametrize("command", ["why", "pin", "unpin", "prefetch", "evict"])
@pytest.mark.parametrize("path", ["/m", "/elsewhere", "/m/sample/nothing"])
def test_what_is_not_there(controlled: FakeMount, run: Run, command: str, path: str) -> None:
    result = run(command, path)
    assert result.exit_code == 1
    assert path.rpartition("/")[2] in result.stderr


def test_all_of_a_torrent_by_its_info_hash(controlled: FakeMount, run: Run) -> None:
    key = controlled.item.key
    assert run("evict", key).stdout == f"{key}: freed 1 KiB\n"
    assert ("evict", key, None, False) in controlled.library.calls
    assert run("evict", key.upper()).stdout == f"{key.upper()}: freed 1 KiB\n"
