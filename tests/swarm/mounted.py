"""The real command, ``torrentfs mount ... -f``, as a process that is always ended and unmounted.

Whether something is mounted is read from ``/proc/self/mountinfo``, never by touching the mount:
a `stat` on a mount whose process is stuck would take the test with it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.swarm.quiet import quiet_environment

TORRENTFS = Path(sys.executable).parent / "torrentfs"


class MountFailed(Exception):
    """The command ended, or did not mount in time; the text has its output and log."""


def mounts_below(prefix: Path | str = "/") -> list[str]:
    """Mount points of FUSE file systems at or below `prefix`."""
    prefix = os.path.realpath(prefix)
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            fields = line.split()
            kind = fields[fields.index("-") + 1]
            point = fields[4].encode(errors="surrogateescape").decode("unicode_escape")
            point = point.encode("latin-1").decode(errors="surrogateescape")
            if kind.startswith("fuse") and (point + "/").startswith(prefix.rstrip("/") + "/"):
                found.append(point)
    return found


def is_mounted(mountpoint: Path) -> bool:
    """Whether a FUSE file system is mounted exactly there."""
    return os.path.realpath(mountpoint) in mounts_below(mountpoint)


def unmount(mountpoint: Path, *, lazy: bool = False) -> subprocess.CompletedProcess[str]:
    """``fusermount3 -u`` (``-z`` if lazy), bounded to 10 s."""
    flags = ["-u", "-z"] if lazy else ["-u"]
    return subprocess.run(
        ["fusermount3", *flags, str(mountpoint)],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )


class Mounted:
    """A running mount; `path` is the mount point."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        path: Path,
        cache: Path,
        log: Path,
        output: Path,
        environment: Mapping[str, str],
    ) -> None:
        self.process = process
        self.path = path
        self.cache = cache
        self._log = log
        self._output = output
        self._environment = environment

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def pid(self) -> int:
        """The id of the foreground process."""
        return self.process.pid

    def log(self) -> str:
        """What it wrote to its log file and its terminal so far."""
        texts = [
            file.read_text(errors="replace") for file in (self._log, self._output) if file.exists()
        ]
        return "".join(texts)

    def end(self, timeout: float = 10.0) -> int:
        """SIGTERM and wait; the exit code. TimeoutExpired past `timeout` seconds."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def kill(self) -> None:
        """``kill -9``, as a crash; the stale mount point is left as the kernel leaves it."""
        self.process.kill()
        self.process.wait(10)

    def wait_log(self, text: str, timeout: float = 10.0) -> None:
        """Wait until `text` is in the log; MountFailed past `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while text not in self.log():
            if time.monotonic() > deadline:
                raise MountFailed(f"{text!r} not in the log within {timeout:g} s:\n{self.log()}")
            time.sleep(0.02)

    def status(self) -> dict[str, Any]:
        """What ``torrentfs status --json`` says of it."""
        done = subprocess.run(
            [str(TORRENTFS), "status", "--json", "--mount", str(self.path)],
            env=dict(self._environment),
            capture_output=True,
            timeout=20,
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def cpu_seconds(self) -> float:
        """User and system CPU seconds of the process and its children so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def mounted(
    sources: Sequence[str | Path] | str | Path,
    work: Path,
    *options: str,
    mountpoint: Path | None = None,
    cache: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float = 30.0,
    name: str = "mount",
    before: Sequence[str] = (),
) -> Iterator[Mounted]:
    """Mount `sources` with ``torrentfs mount ... -f`` and wait until they can be listed.

    Everything lives below `work`: the mount point ``<name>``, the cache ``cache`` (shared by later
    mounts of the same `work`, unless `cache` says otherwise), the logs.  `options` are more
    command-line arguments, `before` is a command that runs it (`network.Home.before`).  At the
    end the process gets SIGTERM, is killed after 10 s, and whatever is still mounted is unmounted.
    """
    if isinstance(sources, (str, Path)):
        sources = [sources]
    mountpoint = mountpoint or work / name
    if not is_mounted(mountpoint):  # or what a crash left there would be asked, in vain
        mountpoint.mkdir(parents=True, exist_ok=True)
    cache = cache or work / "cache"
    log = work / f"{name}.log"
    output = work / f"{name}.out"
    argv = [
        *before,
        str(TORRENTFS),
        "mount",
        "-f",
        "--cache-dir",
        str(cache),
        "--log-file",
        str(log),
    ]
    argv += [*options, *map(str, sources), str(mountpoint)]
    kept = quiet_environment()
    kept["XDG_CONFIG_HOME"] = str(work / "config")
    kept["XDG_RUNTIME_DIR"] = str(work / "run")
    (work / "run").mkdir(mode=0o700, exist_ok=True)
    kept["XDG_STATE_HOME"] = str(work / "state")
    kept.update(environment or {})
    with output.open("ab") as terminal:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=terminal,
            env=kept,
            process_group=0,  # a Ctrl-C at the terminal is for us, and we end it
        )
    mount = Mounted(process, mountpoint, cache, log, output, kept)
    try:
        _wait_listed(mount, len(sources), timeout)
        yield mount
    finally:
        try:
            mount.end()
        except subprocess.TimeoutExpired:
            mount.kill()
        if is_mounted(mountpoint):
            unmount(mountpoint, lazy=True)


def _listed(path: Path) -> int:
    """How many entries are there; none while the mount of a crashed process is in the way."""
    try:
        return len(os.listdir(path))
    except OSError:
        return 0


def _wait_listed(mount: Mounted, entries: int, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not is_mounted(mount.path) or _listed(mount.path) < entries:
        code = mount.process.poll()
        if code is not None:
            raise MountFailed(f"torrentfs mount ended with {code}:\n{mount.log()}")
        if time.monotonic() > deadline:
            raise MountFailed(f"not mounted in {timeout:g} s:\n{mount.log()}")
        time.sleep(0.01)
