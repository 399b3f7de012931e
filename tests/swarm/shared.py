"""The real command, ``torrentfs share --json ...``, as a process that is always ended."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.swarm.mounted import TORRENTFS
from tests.swarm.quiet import quiet_environment


class ShareFailed(Exception):
    """The command ended, or told nothing in time; the text has its log."""


class Share:
    """A running share of one PATH; `told` is the JSON object that it printed."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log
        self.told: dict[str, Any] = {}

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self.process.pid

    @property
    def magnet(self) -> str:
        """The magnet link; without a tracker it has `address` in it."""
        return str(self.told["magnet"])

    @property
    def torrent(self) -> Path:
        """The .torrent file."""
        return Path(self.told["torrent"])

    @property
    def address(self) -> str:
        """HOST:PORT, as `--peer` takes it."""
        return str(self.told["peers"][0])

    @property
    def peer(self) -> tuple[str, int]:
        """The same, as `seeder.download` takes it."""
        host, _, port = self.address.rpartition(":")
        return host.strip("[]"), int(port)

    def log(self) -> str:
        """What it wrote to stderr so far."""
        return self._log.read_text(errors="replace")

    def wait_log(self, text: str, timeout: float = 20.0) -> None:
        """Wait until `text` is in the log."""
        deadline = time.monotonic() + timeout
        while text not in self.log():
            if time.monotonic() > deadline:
                raise ShareFailed(f"{text!r} not in the log within {timeout:g} s:\n{self.log()}")
            time.sleep(0.02)

    def end(self, signum: int = signal.SIGINT, timeout: float = 10.0) -> int:
        """Send a signal and wait; the exit code. TimeoutExpired past `timeout` seconds."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
        return self.process.wait(timeout)

    def kill(self) -> None:
        """``kill -9``, as a crash."""
        self.process.kill()
        self.process.wait(10)


def environment(work: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, without what a user may have set, and with a home in `work`."""
    kept = quiet_environment(without=("TORRENTFS_", "XDG_"))
    return {**kept, "HOME": str(work / "home"), **(more or {})}


@contextmanager
def shared(
    path: Path,
    work: Path,
    *options: str,
    bind: str | None = "127.0.0.1",
    timeout: float = 60.0,
    name: str = "share",
    before: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> Iterator[Share]:
    """Share `path` on loopback and wait until peers may come; logs and home are below `work`.

    `bind` None is for every address: only where `before` leads into a namespace of our own.
    `before` is a command that runs it (setpriv, `network.Home.before`), `variables` are for its
    environment.
    """
    log = work / f"{name}.log"
    argv = [
        *before,
        str(TORRENTFS),
        "share",
        "--json",
        *(("--bind-interface", bind) if bind is not None else ()),
        *options,
        str(path),
    ]
    with log.open("ab") as errors:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment(work, variables),
            process_group=0,  # a Ctrl-C at the terminal is for us, and we end it
        )
    share = Share(process, log)
    try:
        share.told = json.loads(_line(share, timeout))
        yield share
    finally:
        try:
            share.end()
        except subprocess.TimeoutExpired:
            share.kill()
        assert process.stdout is not None
        process.stdout.close()


def _line(share: Share, timeout: float) -> bytes:
    assert share.process.stdout is not None
    descriptor = share.process.stdout.fileno()
    deadline = time.monotonic() + timeout
    received = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while b"\n" not in received:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ShareFailed(f"not shared in {timeout:g} s:\n{share.log()}")
            if selector.select(left):
                data = os.read(descriptor, 1 << 16)
                if not data:
                    code = share.process.wait(10)
                    raise ShareFailed(f"torrentfs share ended with {code}:\n{share.log()}")
                received += data
    return received.split(b"\n", 1)[0]
