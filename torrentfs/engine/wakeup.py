"""A flag that one task sleeps on: many `set()` before a `wait()` are one wake-up.

`trio.Event` can fire once only; a condition would want a lock. Here setting is synchronous and
costs an attribute when nobody waits, which is what a facts-in, tasks-out engine needs.
"""

from __future__ import annotations

import trio


class Wakeup:
    """Level-triggered signal with any number of setters and one waiter at a time."""

    __slots__ = ("_event", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._event: trio.Event | None = None

    def set(self) -> None:
        """Wake the waiter, now or when it next waits."""
        self._is_set = True
        if self._event is not None:
            self._event.set()

    async def wait(self) -> None:
        """Return once `set()` was called since the last `wait()` returned."""
        if not self._is_set:
            self._event = trio.Event()
            try:
                await self._event.wait()
            finally:
                self._event = None
        self._is_set = False
