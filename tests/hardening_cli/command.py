"""The command line as a shell runs it, and what every failure of it must keep to."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.swarm.mounted import TORRENTFS, is_mounted
from tests.swarm.quiet import quiet_environment

TORRENT = b"d4:infod6:lengthi5e4:name1:x12:piece lengthi16384e6:pieces20:" + b"h" * 20 + b"ee"
"""One file `x` of five bytes that nobody has."""

NOBODY = 65534


def environment(home: Path, **more: str) -> dict[str, str]:
    """Ours, without what a user may have set, and with a home of the test's own."""
    kept = quiet_environment(without=("TORRENTFS_", "XDG_"))
    return {**kept, "HOME": str(home), **more}


def torrentfs(
    *args: str | Path, home: Path, before: Sequence[str] = (), **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run it to its end, within 30 s; `before` is a command that runs it (setpriv, unshare)."""
    return subprocess.run(
        [*before, str(TORRENTFS), *map(str, args)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
        check=False,
        env=environment(home, **variables),
    )


def check_refused(
    done: subprocess.CompletedProcess[str], code: int, said: str, mountpoint: Path
) -> None:
    """One line that says `said`, the right code, nothing mounted (processes: see conftest)."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("torrentfs: ")
    assert said in line
    assert not is_mounted(mountpoint)
