"""A password does not stay in the list of processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from torrentfs.cli.blotting import blot_out

PROGRAM = """
from torrentfs.cli.blotting import blot_out
blot_out(["me:s%40cret"])
print(open("/proc/self/cmdline").read(), flush=True)
"""


@pytest.mark.real
def test_it_is_not_in_the_command_line_any_more() -> None:
    arguments = ["--proxy", "socks5://me:s%40cret@h:1", "--proxy=http://me:s%40cret@h:1", "rest"]
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True
    )
    assert "cret@" not in told.stdout
    assert told.stdout.count("*" * 11 + "@h:1") == 2
    assert told.stdout.strip("\0\n").endswith("rest")


def test_where_it_cannot_be_nothing_happens(tmp_path: Path) -> None:
    blot_out(["secret"], tmp_path)
    (tmp_path / "stat").write_text("1 (a b) c) S 1 2")
    blot_out(["secret"], tmp_path)
    (tmp_path / "stat").write_text("1 (x) " + " ".join(["0"] * 50))
    blot_out([], tmp_path)
