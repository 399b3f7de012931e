"""The limit of open files, raised in a process of its own."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from torrentfs.daemon import open_files

RAISE = """
import resource, subprocess, sys
from torrentfs.daemon.open_files import attainable, raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(attainable(), raise_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""
CHILD = """
sys.stdout.flush()
subprocess.run([sys.executable, "-c", "import resource; print(resource.getrlimit(7)[0])"])
"""


def raised(soft: int, hard: int, then: str = "") -> list[int]:
    words = [sys.executable, "-c", RAISE.format(soft=soft, hard=hard) + then]
    done = subprocess.run(words, capture_output=True, check=True, timeout=30, text=True)
    return [int(word) for word in done.stdout.split()]


def test_the_soft_limit_becomes_the_hard_one_also_for_children() -> None:
    assert resource.RLIMIT_NOFILE == 7
    assert raised(256, 2048, CHILD) == [2048, 2048, 2048, 2048, 2048]


def test_what_is_enough_already_stays() -> None:
    assert raised(2048, 2048) == [2048, 2048, 2048, 2048]


@pytest.mark.parametrize(
    ("limits", "attainable"),
    [
        ((1024, 2**30), open_files.ENOUGH),
        ((1024, resource.RLIM_INFINITY), open_files.ENOUGH),
        ((200_000, 2**30), 200_000),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), open_files.ENOUGH),
        ((1024, 4096), 4096),
    ],
)
def test_what_can_be_had(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], attainable: int
) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: told.append(both))
    assert open_files.attainable() == attainable
    open_files.raise_limit()
    assert told == ([] if limits[0] in (attainable, -1) else [(attainable, limits[1])])


def test_a_sandbox_that_forbids_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", forbid)
    assert open_files.raise_limit() == 1024
