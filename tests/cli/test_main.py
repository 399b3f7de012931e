"""The command as a whole: exit codes, one-line errors, what is imported when."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from torrentfs import __version__, errors
from torrentfs.cli import main

if TYPE_CHECKING:
    from tests.cli.conftest import Run


def test_no_arguments_is_a_usage_error_that_helps(run: Run) -> None:
    result = run()
    assert result.exit_code == 1
    assert "Usage: torrentfs [OPTIONS] COMMAND [ARGS]..." in result.stderr
    assert result.stdout == ""


def test_help_and_version(run: Run) -> None:
    assert run("--version").stdout == f"torrentfs {__version__}\n"
    result = run("-h")
    assert result.exit_code == 0
    for name in main.COMMANDS:
        assert f"\n  {name}" in result.stdout
        assert run(name, "--help").exit_code == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["fly"], "No such command"),
        (["mount"], "say what to mount and then where"),
        (["mount", "a", "b", "--fly"], "No such option"),
        (["mount", "--port", "x", "a", "b"], "Invalid value for '--port'"),
        (["umount"], "Missing argument 'MOUNTPOINT...'"),
    ],
)
def test_usage_errors_are_one_line_and_exit_1(run: Run, args: list[str], said: str) -> None:
    result = run(*args)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("torrentfs: ")
    assert said in line
    assert "--help" in line


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (errors.ConfigError("no\nsuch thing"), 1, "no such thing"),
        (errors.InvalidTorrent("bad"), 1, "bad"),
        (errors.MountError("no /dev/fuse"), 2, "no /dev/fuse"),
        (errors.MetadataTimeout("nobody answered"), 3, "nobody answered"),
        (ExceptionGroup("", [ValueError("x"), errors.MountError("busy")]), 2, "busy"),
        (OSError(28, "No space left on device", "/x"), 1, "/x: no space left on device"),
        (ZeroDivisionError("a\x1b[2Jb"), 1, "ZeroDivisionError: a [2Jb (this is a bug"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_every_error_has_its_code_and_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    def fail(*_args: object, **_settings: object) -> None:
        raise error

    monkeypatch.setattr("torrentfs.daemon.sources.parse_source", fail)
    result = run("inspect", "x")
    assert result.exit_code == code
    lines = [line for line in result.stderr.splitlines() if line]
    assert len(lines) == 1
    assert lines[0].startswith(f"torrentfs: {said}")


def test_a_traceback_only_when_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_text: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("torrentfs.daemon.sources.parse_source", fail)
    assert "Traceback" not in run("inspect", "x").stderr
    assert "Traceback" in run("inspect", "x", TORRENTFS_DEBUG="1").stderr


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from torrentfs.cli.main import cli\n"
        "try: cli.main(['--help'], prog_name='torrentfs')\n"
        "except SystemExit: pass\n"
        "heavy = {'trio', 'httpx', 'rich', 'pyfuse3', 'sqlite3', 'asyncio'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
