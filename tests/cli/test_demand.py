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


@pytest.mark.parametrize("command", ["why", "pin", "unpin", "prefetch", "evict"])
@pytest.mark.parametrize("path", ["/m", "/elsewhere", "/m/sample/nothing"])
def test_what_is_not_there(controlled: FakeMount, run: Run, command: str, path: str) -> None:
    result = run(command, path)
    assert result.exit_code == 1
    assert path.rpartition("/")[2] in result.stderr
