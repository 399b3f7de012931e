"""Exit codes and the one line that goes with them."""

from __future__ import annotations

import signal

import pytest

from torrentfs.daemon.outcome import Interrupted, cause_of, exit_code, one_line
from torrentfs.errors import MetadataTimeout, MountError


def test_the_cause_in_a_group() -> None:
    declared = MountError("busy")
    group = BaseExceptionGroup(
        "", [KeyError("a"), ExceptionGroup("", [ValueError("b"), declared]), MetadataTimeout("c")]
    )
    assert cause_of(group) is declared
    assert exit_code(group) == 2
    undeclared = ExceptionGroup("", [KeyError("a"), ValueError("b")])
    assert isinstance(cause_of(undeclared), KeyError)
    assert exit_code(undeclared) == 1


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signals(signum: signal.Signals) -> None:
    assert exit_code(Interrupted(signum)) == 128 + signum
    assert one_line(Interrupted(signum)) == f"interrupted by {signum.name}; nothing is mounted"


def test_lines() -> None:
    assert one_line(MountError("a\n\tb\x00c")) == "a b c"
    assert one_line(PermissionError(13, "Permission denied", "/x")) == "/x: permission denied"
    assert one_line(KeyboardInterrupt()) == "interrupted"
    assert "this is a bug" in one_line(KeyError("x"))
