"""Shell completion: the scripts, and what they are answered."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from torrentfs.cli.completion import SHELLS

if TYPE_CHECKING:
    from tests.cli.conftest import Run


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts(run: Run, shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert f"_TORRENTFS_COMPLETE={shell}_complete" in result.stdout
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n"], input=result.stdout, text=True, check=False)
        assert checked.returncode == 0


def test_unknown_shell(run: Run) -> None:
    assert run("completion", "tcsh").exit_code == 1


@pytest.mark.parametrize(
    ("words", "index", "offered"),
    [
        ("torrentfs mo", "1", "plain,mount"),
        ("torrentfs mount --cache-", "2", "plain,--cache-size"),
        ("torrentfs mount --mtime cr", "3", "plain,created"),
        ("torrentfs mount -o ro x.torrent --no-w", "5", "plain,--no-web-seeds"),
    ],
)
def test_answers(run: Run, words: str, index: str, offered: str) -> None:
    env = {"_TORRENTFS_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": index}
    assert offered in run(**env).stdout.splitlines()
