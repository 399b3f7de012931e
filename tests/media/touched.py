"""What programs touch of the files in a mount: their own reads, as ``strace`` saw them.

The kernel's read-ahead and ours are not in it: only bytes that a system call handed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

CALLS = "read,pread64,readv,preadv,lseek,openat,dup,dup2,dup3,mmap"
"""To be traced, with ``-f -y``: descriptors are shown with their paths."""

_CALL = re.compile(r"^(\d+) +(\w+)\((.*)$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")
_FILE = re.compile(r"^(\d+)<(.*?)(?<!\\)>")


class Touched(NamedTuple):
    """`length` bytes at `offset` of the file `path` were read."""

    path: str
    offset: int
    length: int


def strace(log: Path) -> list[str]:
    """The words to put before a command whose reads are to be known."""
    return ["strace", "-f", "-qq", "-y", "-s", "0", "-e", f"trace={CALLS}", "-o", str(log)]


def touched(log: Path, root: Path) -> Iterator[Touched]:
    """The reads of files below `root` in a log of `strace`.

    Places are followed per descriptor and path, whichever thread reads: no program here has one
    number for two open files of one name. A mapping of a file counts as all that was mapped.
    """
    places: dict[tuple[str, str], int] = {}
    unfinished: dict[str, tuple[str, str]] = {}
    for line in log.read_text(errors="replace").splitlines():
        if found := _RESUMED.match(line):
            process, name, rest = found.groups()
            begun = unfinished.pop(process, None)
            if begun is None:
                continue
            rest = begun[1] + rest
        elif found := _CALL.match(line):
            process, name, rest = found.groups()
            if rest.endswith("<unfinished ...>"):
                unfinished[process] = name, rest.removesuffix("<unfinished ...>")
                continue
        else:
            continue
        result = rest.rpartition(" = ")[2]
        if name == "openat":
            if opened := _FILE.match(result):
                places[opened[1], opened[2]] = 0
            continue
        if name == "mmap":
            mapped = re.search(r", (\d+)<([^>]*)>, (\w+)\) = 0x", rest)
            if mapped and mapped[2].startswith(f"{root}/"):
                yield Touched(mapped[2], int(mapped[3], 0), int(rest.split(", ")[1]))
            continue
        file = _FILE.match(rest)
        if file is None or not file[2].startswith(f"{root}/"):
            continue
        count = re.match(r"-?\d+", result)
        assert count is not None, line
        amount, key = int(count[0]), (file[1], file[2])
        assert not name.startswith("dup"), f"a descriptor of the mount is shared: {line}"
        if amount < 0:
            continue
        if name == "lseek":
            places[key] = amount
        elif name in ("pread64", "preadv"):
            offset = int(rest.rpartition(") = ")[0].rpartition(", ")[2])
            yield Touched(file[2], offset, amount)
        else:
            yield Touched(file[2], places.get(key, 0), amount)
            places[key] = places.get(key, 0) + amount
