"""Blots a password out of the command line that every user of the machine can read (`ps`).

Linux shows there what lies in this process's own memory, where it may write over it. It is shown
for the moment until then: who minds uses a variable (`TORRENTFS_PROXY`) or the config file, which
others cannot read.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_ARG_START, _ARG_END = 48, 49
"""Fields of proc_pid_stat(5), counted from 1."""
MAX_BYTES = 4 << 20
"""Longest command line looked at; the kernel takes 2 MiB by default."""


def blot_out(secrets: Iterable[str], process: Path = Path("/proc/self")) -> None:
    """Put `*` for each of `secrets` in our command line; where that cannot be, nothing happens."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        start, end = (int(fields[number - 3]) for number in (_ARG_START, _ARG_END))
        if not 0 < end - start <= MAX_BYTES:
            return
        with open(process / "mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            words = memory.read(end - start)
            for secret in map(str.encode, secrets):
                at = words.find(secret)
                while secret and at >= 0:
                    memory.seek(start + at)
                    memory.write(b"*" * len(secret))
                    at = words.find(secret, at + len(secret))
