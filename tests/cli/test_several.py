"""Each is tried, each that fails is told."""

from __future__ import annotations

import pytest

from torrentfs.cli.several import do_each, tell_of
from torrentfs.errors import ConfigError


def work(text: str) -> str:
    if text.startswith("bad"):
        raise ConfigError(f"{text} is bad")
    return text.upper()


def test_all_are_done_whatever_fails(capsys: pytest.CaptureFixture[str]) -> None:
    done, failed = do_each(["a", "bad 1", "b", "bad 2"], work)
    assert done == ["A", "B"]
    with pytest.raises(ConfigError, match="bad 2 is bad"):
        tell_of(failed)
    assert "bad 1 is bad" in capsys.readouterr().err
    tell_of([])
