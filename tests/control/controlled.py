"""A real mount with a real seeder, the commands of a shell, and its HTTP address."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.swarm.mounted import TORRENTFS, Mounted, mounted
from tests.swarm.payload import write_tree
from tests.swarm.quiet import quiet_environment
from tests.swarm.seeder import LibtorrentPeer, seed
from tests.swarm.torrents import MadeTorrent, make_torrent


class Controlled(NamedTuple):
    """What a test has to do with."""

    mount: Mounted
    seeder: LibtorrentPeer
    made: MadeTorrent
    work: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a user's shell."""
        return {**quiet_environment(), **of_user(self.work)}

    def run(self, *args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """`torrentfs ARGS...`, as that user."""
        return subprocess.run(
            [str(TORRENTFS), *args],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=self.environment,
            cwd=cwd,
        )

    def ask(self, *args: str) -> subprocess.CompletedProcess[str]:
        """The same about this mount: tests of other mounts may run beside ours."""
        return self.run(*args, "--mount", str(self.mount.path))

    def json(self, *args: str) -> Any:
        """The JSON that a command prints; it succeeds."""
        done = self.ask(*args, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT` of `--http`."""
        return str(self.json("status")["http"]).partition("/ ")[0]

    @property
    def token(self) -> str:
        """The token of `--http`."""
        return (self.work / "state" / "torrentfs" / "http-token").read_text().strip()

    def curl(self, *args: str) -> subprocess.CompletedProcess[bytes]:
        """`curl ARGS...` with the token."""
        command = ["curl", "-sS", "-m", "30", "--oauth2-bearer", self.token, *args]
        return subprocess.run(command, capture_output=True, timeout=60, check=False)


def of_user(work: Path) -> dict[str, str]:
    """A user whose directories are below `work`."""
    (work / "run").mkdir(mode=0o700, exist_ok=True)
    return {
        "XDG_RUNTIME_DIR": str(work / "run"),
        "XDG_STATE_HOME": str(work / "state"),
        "XDG_CONFIG_HOME": str(work / "config"),
        "HOME": str(work),
    }


@contextmanager
def controlled(work: Path, *options: str) -> Iterator[Controlled]:
    """A tree of odd files, seeded and mounted with `--http`."""
    tree = write_tree(work / "payload" / "tree")
    made = make_torrent(tree, work / "t.torrent", version="hybrid", piece_length=64 * 1024)
    state = str(work / "state" / "torrentfs")
    with (
        seed(made.torrent, tree, work) as seeder,
        mounted(
            made.torrent, work, "--http", "127.0.0.1:0", "--peer", seeder.address,
            "--state-dir", state, *options, environment=of_user(work),
        ) as mount,
    ):  # fmt: skip
        yield Controlled(mount, seeder, made, work)


def sockets_of(work: Path) -> list[str]:
    """The control sockets that are there."""
    directory = work / "run" / "torrentfs"
    return sorted(os.listdir(directory)) if directory.exists() else []
