"""What a running mount tells the outside: progress, readiness, and a status to look at.

The service calls a `Report` and does not know whether a terminal, a pipe to a waiting parent
process, or a test is behind it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class MountStatus:
    """A mount at one moment, over all its torrents; sizes in bytes, rates in bytes a second."""

    torrents: int
    total: int
    have: int
    """Verified bytes at hand, of `total`."""
    download_rate: float
    upload_rate: float
    peers: int
    blocked_reads: int
    """Reads that wait for bytes just now."""
    received: Mapping[str, int] = field(default_factory=dict)
    """Bytes of payload by kind of source (`tcp`, `web seed`, ...)."""
    note: str = ""
    """Why nothing comes, in words, when reads wait and nothing does."""


@dataclass(frozen=True, slots=True)
class Mounted:
    """The mount is there: its entries can be listed."""

    mountpoint: Path
    names: tuple[str, ...]
    port: int
    """Where peers can reach us, 0 if nowhere."""
    warning: str = ""
    """What does not work as asked, in words; empty when everything does."""
    missing: int = 0
    """Torrents of the library that cannot be listed yet."""

    def __str__(self) -> str:
        what = self.names[0] if len(self.names) == 1 else f"{len(self.names)} torrents"
        later = f" ({self.missing} more are looked for)" if self.missing else ""
        return f"mounted {what} on {self.mountpoint}{later}"


class Ready(Protocol):
    """What a waiting parent is told at last: a text (`str`), and what to warn of."""

    @property
    def warning(self) -> str:
        """What does not work as asked; empty when everything does."""


class Report(Protocol):
    """Who is told."""

    def on_progress(self, text: str) -> None:
        """Something happened on the way to the mount; `text` replaces what was said before."""

    def on_ready(self, mounted: Mounted) -> None:
        """The mount is there."""

    async def follow(self, status: Callable[[], MountStatus]) -> None:
        """Runs while the mount is there, and is cancelled when it goes; may return early."""
