"""What a media server knows a file by: its path, inode, size and date."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

from tests.daemon.libraries import metainfo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Listing = dict[str, tuple[str, ...]]


def find(mount: Path) -> Listing:
    """`find -printf` of everything: inode, size, date, mode and links by path below the mount."""
    done = subprocess.run(
        ["find", str(mount), "-printf", r"%P\0%i %s %T@ %C@ %m %n\0"],
        capture_output=True,
        timeout=60,
        check=False,  # what goes while it looks is none of its fault
    )
    fields = done.stdout.decode(errors="surrogateescape").split("\0")[:-1]
    return {
        path: tuple(about.split()) for path, about in zip(fields[::2], fields[1::2], strict=True)
    }


def torrents(listing: Listing) -> Listing:
    """A listing without the directories of the mount, whose dates may move."""
    return {path: about for path, about in listing.items() if path and about[5] != "dir"}


def put(path: Path, name: str, seed: int = 1) -> Path:
    """Write the .torrent of a small torrent, whole at once as careful programs do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}")
    part.write_bytes(metainfo(name, seed).to_torrent())
    part.rename(path)
    return path


def until(check: Callable[[], object], timeout: float = 30.0) -> None:
    """Wait for something that must become true."""
    deadline = time.monotonic() + timeout
    while not check():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
