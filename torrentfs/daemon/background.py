"""Leaving the terminal: fork first, tell the parent over a pipe, return when mounted.

The order matters. The fork comes before any thread, event loop or socket exists, since none of
them survives one. The child leaves the terminal's session (`setsid`: Ctrl-C and a closed
terminal no longer reach it), has `/dev/null` for stdin and stdout and the log file for stderr,
where libfuse and a crashing interpreter write, and reports to the parent as lines of JSON:

    {"progress": TEXT}*  ( {"ready": TEXT, "warning": TEXT} | {"error": TEXT, "code": N} )

The parent returns at the last one. When the pipe closes without it, the child died. A signal
to the waiting parent (Ctrl-C) is passed on as SIGTERM, and the parent stays until the child has
cleaned up: nothing is mounted behind the user's back.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from torrentfs.daemon.outcome import BAD_INPUT, CANNOT_MOUNT, DONE, Interrupted, exit_code, one_line
from torrentfs.daemon.service import GRACE
from torrentfs.daemon.unmissed import wait_readable

if TYPE_CHECKING:
    from collections.abc import Callable

    from torrentfs.daemon.report import Ready

log = logging.getLogger(__name__)

_MAX_TEXT = 600
"""Characters of one message: its line, at 6 bytes each, is written to a pipe in one go."""
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class PipeReport:
    """The child's side: a `Report` that writes to the waiting parent, if it still waits."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd
        os.set_blocking(fd, False)

    def on_progress(self, text: str) -> None:
        """Tell the parent, unless it is stopped and has not read for long."""
        self._send({"progress": text[:_MAX_TEXT]})

    def on_ready(self, mounted: Ready) -> None:
        """Tell the parent, which returns to the shell."""
        warning = mounted.warning[:_MAX_TEXT]
        self._send_last({"ready": str(mounted)[:_MAX_TEXT], "warning": warning})

    def on_error(self, text: str, code: int) -> None:
        """Tell the parent why there is no mount."""
        self._send_last({"error": text[:_MAX_TEXT], "code": code})

    async def follow(self, status: Callable[[], Any]) -> None:
        """Nobody looks: the log file tells what happens."""

    def close_others(self) -> None:
        """Close what was inherited beside stdio and the pipe: locks, sockets, pipes of others."""
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) != self._fd:
                with suppress(OSError):  # the directory's own descriptor is closed by now
                    os.close(int(name))

    def _send(self, message: dict[str, Any]) -> None:
        if self._fd is None:
            return
        try:
            os.write(self._fd, json.dumps(message).encode() + b"\n")
        except OSError:  # the parent is gone, or does not read: what it misses is in the log
            log.debug("nobody listens: %s", message)

    def _send_last(self, message: dict[str, Any]) -> None:
        if self._fd is None:
            return
        os.set_blocking(self._fd, True)
        self._send(message)
        os.close(self._fd)
        self._fd = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How the wait ended: the line to print, the exit code, and what to warn of."""

    text: str
    code: int
    warning: str = ""


def run_in_background(
    serve: Callable[[PipeReport], None],
    *,
    open_log: Callable[[], TextIO],
    on_progress: Callable[[str], None],
    left: str = "nothing is mounted",
) -> Ended:
    """Run `serve(report)` in a child process; return once it is ready or has failed.

    `left` is what a user who interrupts it is told of what is left behind.
    `open_log()` runs in the child and starts its logging; it returns the open log file,
    for stderr. The child never returns from here. For the process that does, there is no way back
    once the child is ready: it is about to end, and signals that would end it are ignored, lest
    it tell the shell that what is mounted was interrupted.
    """
    reader, writer = os.pipe()
    # a signal between the fork and setsid would reach both with the parent's handlers
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    child = os.fork()
    if child == 0:
        os.close(reader)
        _be_the_child(serve, open_log, PipeReport(writer), blocked)
    os.close(writer)
    before = _interrupt_on_signals(left)
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)  # what came meanwhile is raised here
        ended = _wait(reader, child, on_progress)
        for signum in _PASSED_ON:
            signal.signal(signum, signal.SIG_IGN)
    except Interrupted as exc:
        _end_child(child)
        for signum in _PASSED_ON:
            signal.signal(signum, before[signum])
        ended = Ended(str(exc), exit_code(exc))
    os.close(reader)
    return ended


def _be_the_child(
    serve: Callable[[PipeReport], None],
    open_log: Callable[[], TextIO],
    report: PipeReport,
    mask: set[int | signal.Signals],
) -> NoReturn:
    code = BAD_INPUT
    logging_to_file = False
    try:
        os.setsid()
        # until the service listens, nothing is mounted and a signal may simply kill
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.chdir("/")
        report.close_others()
        log_file = open_log()
        logging_to_file = True
        _redirect(log_file.fileno())
        serve(report)
        code = DONE
    except BaseException as exc:
        code = exit_code(exc)
        if logging_to_file and not isinstance(exc, Interrupted):
            log.error("%s", one_line(exc), exc_info=log.isEnabledFor(logging.DEBUG))
        report.on_error(one_line(exc), code)
    finally:
        logging.shutdown()
        os._exit(code)


def _redirect(log_fd: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(log_fd, 2)
    if null > 2:
        os.close(null)


def _interrupt_on_signals(left: str) -> dict[signal.Signals, Any]:
    """Turn the signals that end a program into `Interrupted`; the handlers that were there."""

    def interrupt(signum: int, _frame: object) -> None:
        raise Interrupted(signum, left)

    return {signum: signal.signal(signum, interrupt) for signum in _PASSED_ON}


def _wait(reader: int, child: int, on_progress: Callable[[str], None]) -> Ended:
    buffer = b""
    while True:
        wait_readable(reader)
        data = os.read(reader, 4096)
        if not data:
            return _died(child)
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "progress" in message:
                on_progress(message["progress"])
            elif "ready" in message:
                return Ended(message["ready"], DONE, message["warning"])
            else:
                os.waitpid(child, 0)
                return Ended(message["error"], message["code"])


def _died(child: int) -> Ended:
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return Ended(f"the background process died ({how}) before it was ready", CANNOT_MOUNT)


def _end_child(child: int) -> None:
    """SIGTERM, then wait; SIGKILL when it takes longer than any clean shutdown may."""
    os.kill(child, signal.SIGTERM)
    descriptor = os.pidfd_open(child)
    try:
        deadline = time.monotonic() + GRACE + 1
        ended, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not ended:
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    finally:
        os.close(descriptor)
