"""The end of a process that a test has started."""

from __future__ import annotations

import subprocess
from typing import Any


def end(process: subprocess.Popen[Any], patience: float = 5.0) -> None:
    """SIGTERM, and SIGKILL for one that is still there after `patience` seconds."""
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(patience)
