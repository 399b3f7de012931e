"""The signals that end a program, as an exception of ours: where it does no harm.

A handler may raise between any two instructions, and the standard library does not stand that
everywhere: an exception while `threading.Thread.start` runs makes the new thread fail on stderr.
So while threads are at work a signal is held, and raised by whoever looks (`held`).
"""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

from torrentfs.daemon.outcome import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Handler:
    """Raises the first signal, at once or when it is looked for; the next ones say nothing new."""

    def __init__(self, left: str) -> None:
        self.holds = False
        self._left = left
        self._came: int | None = None

    def __call__(self, signum: int, _frame: object) -> None:
        if self._came is None:
            self._came = signum
            if not self.holds:
                self.look()

    def look(self) -> None:
        """Raise the signal that came, if one did."""
        if self._came is not None:
            raise Interrupted(self._came, self._left)


@contextlib.contextmanager
def interruptible(left: str) -> Iterator[None]:
    """Turn the signals that end a program into `Interrupted`, which says what is `left` then."""
    handler = _Handler(left)
    before = {signum: signal.signal(signum, handler) for signum in _SIGNALS}
    try:
        yield
    finally:
        for signum, former in before.items():
            signal.signal(signum, former)


@contextlib.contextmanager
def held() -> Iterator[Callable[[], None]]:
    """Inside `interruptible`, and from its thread: hold signals, for what starts threads.

    Yields what raises `Interrupted` if one came: to be called often. One that came too late for
    that is raised at the end. Elsewhere nothing is held.
    """
    handler = signal.getsignal(signal.SIGINT)
    if not isinstance(handler, _Handler):
        yield lambda: None
        return
    handler.holds = True
    try:
        yield handler.look
    finally:
        handler.holds = False
    handler.look()
