"""A child process that talks JSON lines: started, asked, and always ended, each within a bound.

A child prints one JSON object per line on stdout and takes one per line on stdin; it ends when
stdin closes, so it cannot outlive a test run that is killed.  Its stderr goes to a file beside
its other files.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class ChildFailed(Exception):
    """The child died, or said nothing within the bound; the text has the end of its stderr."""


class JsonChild:
    """`argv` as a process: `ask` sends an object and gives the answer, `wait_line` one line."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        stderr: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._stderr = stderr
        self._received = b""
        stderr.parent.mkdir(parents=True, exist_ok=True)
        with stderr.open("ab") as errors:
            self.process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                process_group=0,  # a Ctrl-C at the terminal is for the parent, which ends us
            )

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self.process.pid

    def wait_line(self, timeout: float = 20.0) -> dict[str, Any]:
        """The next JSON object the child prints; ChildFailed past `timeout` seconds."""
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        deadline = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while b"\n" not in self._received:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise ChildFailed(f"no answer in {timeout:g} s: {self.errors()}")
                if selector.select(left):
                    data = os.read(descriptor, 1 << 16)
                    if not data:
                        raise ChildFailed(f"ended early: {self.errors()}")
                    self._received += data
        line, self._received = self._received.split(b"\n", 1)
        answer = json.loads(line)
        if "error" in answer:
            raise ChildFailed(str(answer["error"]))
        return dict(answer)

    def ask(self, request: Mapping[str, Any], timeout: float = 20.0) -> dict[str, Any]:
        """Send one object, wait for one."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        return self.wait_line(timeout)

    def errors(self) -> str:
        """The end of what the child wrote to stderr."""
        try:
            return self._stderr.read_text(errors="replace")[-2000:].strip() or "(nothing on stderr)"
        except OSError as error:
            return str(error)

    def kill(self) -> None:
        """SIGKILL, as a crash would; `close` is still needed."""
        self.process.kill()
        self.process.wait(10)

    def close(self, timeout: float = 5.0) -> None:
        """End the child: close stdin, then SIGTERM, then SIGKILL; returns when it is gone."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(OSError):  # it died with something unread: nothing more to tell
            self.process.stdin.close()
        for end in (None, self.process.terminate, self.process.kill):
            if end is not None:
                end()
            try:
                self.process.wait(timeout)
                break
            except subprocess.TimeoutExpired:
                continue
        self.process.stdout.close()


def python_child(
    module: str, *arguments: str, stderr: Path, before: Sequence[str] = ()
) -> JsonChild:
    """`python -m module arguments` of this interpreter, from the repository's root.

    `before` is a command that runs it (`network.Home.before`).
    """
    return JsonChild([*before, sys.executable, "-m", module, *arguments], stderr=stderr)
