"""To wait without missing a signal, for the processes here that have no event loop.

A signal that comes just before a system call that blocks, after the interpreter's last look, does
not end that call, and its handler runs when the call is over: a Ctrl-C that does nothing. A
descriptor that the C handler writes to (`signal.set_wakeup_fd`) is still readable afterwards.
"""

from __future__ import annotations

import select
import signal
import socket


def wait_readable(descriptor: int) -> None:
    """Wait until `descriptor` can be read, a pidfd: until the process has ended.

    Handlers of signals run at once; what they raise is raised here. For the main thread alone.
    """
    asleep, waker = socket.socketpair()
    with asleep, waker:
        asleep.setblocking(False)
        waker.setblocking(False)
        former = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        try:
            while descriptor not in select.select([descriptor, asleep.fileno()], [], [])[0]:
                asleep.recv(4096)
        finally:
            signal.set_wakeup_fd(former)
