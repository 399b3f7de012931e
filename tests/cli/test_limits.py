"""`set` against a mount."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.cli.controlled import controlled

if TYPE_CHECKING:
    from tests.cli.conftest import Run
    from tests.daemon.control.fakes import FakeMount

__all__ = ["controlled"]


def test_limits_are_shown_and_changed(controlled: FakeMount, run: Run) -> None:
    assert run("set").stdout == "download-limit\tnone\nupload-limit\t1 MiB/s\nmax-active\t32\n"
    result = run("set", "--download-limit", "5M", "--upload-limit", "0", "--max-active", "7")
    assert result.stdout == "download-limit\t5 MiB/s\nupload-limit\tnone\nmax-active\t7\n"
    assert json.loads(run("set", "--json").stdout)["max_active"] == 7


def test_wrong_limits_are_usage_errors(controlled: FakeMount, run: Run) -> None:
    for wrong in (("--download-limit", "fast"), ("--max-active", "0")):
        assert run("set", *wrong).exit_code == 1
