"""Log files: made where they are wanted, and told about when they cannot be."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import pytest

from torrentfs.daemon.logs import file_handler, start_logging
from torrentfs.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("torrentfs")
    before = list(root.handlers), root.level, ours.level
    yield
    root.handlers[:], level, our_level = before
    root.setLevel(level)
    ours.setLevel(our_level)


@pytest.mark.parametrize(
    ("verbosity", "kept"),
    [(0, ["ours info"]), (1, ["ours debug", "ours info"]), (2, ["ours debug", "ours info", "lib"])],
)
def test_verbosity(tmp_path: Path, verbosity: int, kept: list[str]) -> None:
    path = tmp_path / "new" / "log"
    handler = file_handler(path, rotate=False)
    start_logging(handler, verbosity)
    logging.getLogger("torrentfs.x").debug("ours debug")
    logging.getLogger("torrentfs.x").info("ours info")
    logging.getLogger("library").info("lib")
    handler.close()
    assert [line.partition(": ")[2] for line in path.read_text().splitlines()] == kept


def test_a_log_that_is_moved_away_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    handler = file_handler(path, rotate=False)
    handler.handle(logging.makeLogRecord({"msg": "one"}))
    path.rename(tmp_path / "log.1")
    handler.handle(logging.makeLogRecord({"msg": "two"}))
    handler.close()
    assert path.read_text() == "two\n"


def test_the_default_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torrentfs.daemon.logs.MAX_LOG_BYTES", 100)
    handler = file_handler(tmp_path / "log", rotate=True)
    for number in range(100):
        handler.handle(logging.makeLogRecord({"msg": f"line {number}"}))
    handler.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 200


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write the log file .*: is a directory"):
        file_handler(tmp_path, rotate=False)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot write the log file"):
        file_handler(tmp_path / "file" / "log", rotate=True)


@pytest.mark.expect_log
def test_json_lines_are_for_programs(tmp_path: Path) -> None:
    handler = file_handler(tmp_path / "log", rotate=False)
    start_logging(handler, 0, "json")
    log = logging.getLogger("torrentfs.x")
    log.warning("cannot read %s:\nno peers", "ä\x1b")
    try:
        raise ValueError("bad")
    except ValueError:
        log.exception("a bug")
    handler.close()
    first, second = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert first["message"] == "cannot read ä\x1b:\nno peers"
    assert (first["level"], first["logger"]) == ("warning", "torrentfs.x")
    assert first["time"].endswith("Z")
    assert "traceback" not in first
    assert "ValueError: bad" in second["traceback"]
