"""One active life of a torrent that otherwise sleeps, for who starts it and who waits for it."""

from __future__ import annotations

import trio


class Life:
    """One active life: what ends it, when it is under way, and when it has ended."""

    __slots__ = ("began", "ended", "scope")

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.began = trio.Event()
        """Set by the end as well: it may never begin."""
        self.ended = trio.Event()

    def started(self, value: None = None) -> None:
        """As a `trio.TaskStatus`."""
        self.began.set()
