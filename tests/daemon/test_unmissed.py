from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from torrentfs.daemon.unmissed import wait_readable


class Came(Exception):
    """The signal's handler ran."""


@pytest.fixture
def usr1() -> Iterator[None]:
    def handle(_signum: int, _frame: FrameType | None) -> None:
        raise Came

    before = signal.signal(signal.SIGUSR1, handle)
    yield
    signal.signal(signal.SIGUSR1, before)


def taken_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread takes the signal once this one is about to block.

    As one that comes just too early, it ends no system call of this thread.
    """
    blocking = threading.Event()
    real = select.select

    def take() -> None:
        blocking.wait()
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    def announced(*descriptors: list[int]) -> object:
        blocking.set()
        return real(*descriptors)

    threading.Thread(target=take).start()
    monkeypatch.setattr(select, "select", announced)


@pytest.mark.usefixtures("usr1")
def test_a_signal_that_ends_no_system_call_is_handled_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, writer = os.pipe()
    taken_elsewhere(monkeypatch)
    with open(reader, "rb"), open(writer, "wb"), pytest.raises(Came):
        wait_readable(reader)
    assert signal.set_wakeup_fd(-1) == -1


def test_what_can_be_read_ends_the_wait() -> None:
    reader, writer = os.pipe()
    with open(reader, "rb"), open(writer, "wb", buffering=0) as end:
        end.write(b"x")
        wait_readable(reader)


def test_a_handler_that_raises_nothing_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    seen: list[int] = []

    def handle(signum: int, _frame: FrameType | None) -> None:
        seen.append(signum)
        os.write(writer, b"x")

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        taken_elsewhere(monkeypatch)
        wait_readable(reader)
    finally:
        signal.signal(signal.SIGUSR1, before)
        os.close(reader)
        os.close(writer)
    assert seen == [signal.SIGUSR1]


def test_a_process_that_ends_is_waited_for() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    descriptor = os.pidfd_open(child)
    try:
        wait_readable(descriptor)
        assert os.waitpid(child, os.WNOHANG)[0] == child
    finally:
        os.close(descriptor)
