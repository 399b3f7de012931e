"""The end of a process that a test has started."""

from __future__ import annotations

import subprocess
from typing import Any


def end(process: subprocess.Popen[Any]) -> None:
    """SIGTERM, and SIGKILL for one that is still there after 5 s."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)
