"""Open files of the cache: few at a time, whatever number of files the torrents have.

One table serves all torrents of a `Cache`. A descriptor is borrowed for the time of one system
call (or a few), so the least recently used one that nobody has borrowed can always be closed.
Called from the trio thread and from worker threads: the lock is held for dictionary work only,
except that `close` of an unused descriptor happens at once, outside of it.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Key = tuple[int, int]
"""(number of the tree, file)."""


class _Open:
    __slots__ = ("fd", "users")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.users = 0


class Descriptors:
    """At most `limit` open files, plus those that are in use at the moment."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._open: OrderedDict[Key, _Open] = OrderedDict()
        self._doomed: set[_Open] = set()

    @contextmanager
    def borrow(self, key: Key, opener: Callable[[], int]) -> Iterator[int]:
        """The descriptor of a file, opened by `opener()` (whose `OSError` passes through)."""
        entry = self._take(key)
        if entry is None:
            fd = opener()
            with self._lock:
                entry = self._open.get(key)
                if entry is None:
                    entry = self._open[key] = _Open(fd)
                    fd = -1
                entry.users += 1
                surplus = self._surplus()
            _close_all([fd, *surplus] if fd >= 0 else surplus)
        try:
            yield entry.fd
        finally:
            self._give_back(entry)

    def borrow_open(self, key: Key) -> int | None:
        """The descriptor if the file is open already; to be given back by `give_back(key)`.

        Between the two the caller must not wait for anything, so that `discard` cannot come
        between them from its own thread.
        """
        entry = self._take(key)
        return None if entry is None else entry.fd

    def give_back(self, key: Key, fd: int) -> None:
        """End a `borrow_open`."""
        with self._lock:
            entry = self._open.get(key)
            if entry is None or entry.fd != fd:
                entry = next((e for e in self._doomed if e.fd == fd), None)
        if entry is not None:
            self._give_back(entry)

    def discard(self, key: Key) -> None:
        """Close a file; as soon as nobody uses it."""
        with self._lock:
            entry = self._open.pop(key, None)
            if entry is not None and entry.users:
                self._doomed.add(entry)
                entry = None
        if entry is not None:
            os.close(entry.fd)

    def discard_tree(self, number: int) -> None:
        """Close all files of one tree."""
        with self._lock:
            keys = [key for key in self._open if key[0] == number]
        for key in keys:
            self.discard(key)

    def close_unused(self) -> None:
        """Close all files that nobody uses at the moment: the process has no descriptor left."""
        with self._lock:
            unused = [key for key, entry in self._open.items() if not entry.users]
            closing = [self._open.pop(key).fd for key in unused]
        _close_all(closing)

    def _take(self, key: Key) -> _Open | None:
        with self._lock:
            entry = self._open.get(key)
            if entry is not None:
                self._open.move_to_end(key)
                entry.users += 1
            return entry

    def _give_back(self, entry: _Open) -> None:
        with self._lock:
            entry.users -= 1
            last = not entry.users and entry in self._doomed
            if last:
                self._doomed.discard(entry)
        if last:
            os.close(entry.fd)

    def _surplus(self) -> list[int]:
        closing: list[int] = []
        excess = len(self._open) - self.limit
        if excess > 0:
            for key in [key for key, entry in self._open.items() if not entry.users][:excess]:
                closing.append(self._open.pop(key).fd)
        return closing

    def __len__(self) -> int:
        return len(self._open)

    def __repr__(self) -> str:
        return f"<Descriptors {len(self)} open, limit {self.limit}>"


def _close_all(descriptors: list[int]) -> None:
    for fd in descriptors:
        os.close(fd)
