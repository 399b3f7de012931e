"""One run of the worker process, seen from trio: start, messages both ways, end.

The control socket exists before the process does, so requests can be made at once; they wait in
the kernel. When `run` is cancelled the socket is closed, and the worker has `END_TIME` to end by
itself before it is killed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import trio

from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.transports.webrtc.protocol import MAX_MESSAGE, Configure, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torrentfs.transports.webrtc.config import RtcConfig
    from torrentfs.transports.webrtc.protocol import Message, ToWorker

log = logging.getLogger(__name__)

END_TIME = 3.0
"""Seconds that the worker has to end; it takes at most one to say good-bye to peers."""
MAX_UNSENT = 1024
"""Messages for a worker that does not read; more, and it is taken for stuck."""
_MAX_LINE = 2000

COMMAND = (sys.executable, "-P", "-m", "torrentfs.transports.webrtc.worker")
"""-P: what lies in the current directory must not be imported."""


class WorkerProcess:
    """A worker process; `on_message(message, descriptor)` gets what it says.

    The descriptor (-1 for none) belongs to the callback.
    """

    def __init__(
        self,
        config: RtcConfig,
        on_message: Callable[[Message, int], None],
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.pid: int | None = None
        self.last_line = ""
        self._config = config
        self._on_message = on_message
        self._command = command
        self._stuck = trio.Event()
        self._outbox, self._to_send = trio.open_memory_channel[bytes](MAX_UNSENT)
        self.send(Configure(config))

    def send(self, message: ToWorker) -> None:
        """Say something to it; `TransportError`, and its end, if it has not been reading."""
        try:
            self._outbox.send_nowait(encode(message))
        except trio.WouldBlock:
            self._stuck.set()
            raise TransportError("the WebRTC worker does not answer") from None

    async def run(self) -> str:
        """Run the process; why it ended by itself, in words."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            ours.setblocking(False)
            with theirs:
                try:
                    process = await trio.lowlevel.open_process(
                        [*self._command, str(theirs.fileno())],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.PIPE,
                        pass_fds=[theirs.fileno()],
                        cwd="/",  # keep no directory busy
                        env=_environment(),
                    )
                except OSError as error:
                    return f"cannot be started: {error.strerror}"
            self.pid = process.pid
            log.debug("WebRTC worker %d started", process.pid)
            try:
                return await self._converse(ours, process)
            finally:
                ours.close()
                with trio.CancelScope(shield=True):
                    await _end(process)
                log.debug("WebRTC worker %d ended: %s", process.pid, process.returncode)

    async def _converse(self, control: socket.socket, process: trio.Process) -> str:
        reason = ""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_log, process)
            nursery.start_soon(self._send_loop, control)
            nursery.start_soon(self._kill_when_stuck, process)
            try:
                await self._receive_loop(control)
                with trio.move_on_after(END_TIME):
                    await process.wait()
                reason = _how_it_ended(process.returncode)
                if self.last_line and process.returncode:
                    reason += f" ({self.last_line})"
            except RemoteProtocolError as error:
                reason = f"said {error}"
                process.kill()
            nursery.cancel_scope.cancel()
        return reason

    async def _receive_loop(self, control: socket.socket) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            try:
                data, descriptors, flags, _ = socket.recv_fds(control, MAX_MESSAGE + 1, 4)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(control)
                continue
            except OSError:
                return
            if not data:
                return
            descriptor = descriptors[0] if len(descriptors) == 1 else -1
            if len(descriptors) > 1 or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                for each in descriptors:
                    socket.close(each)
                raise RemoteProtocolError("a control message cut short")
            try:
                message = decode(data)
            except RemoteProtocolError:
                if descriptor >= 0:
                    socket.close(descriptor)
                raise
            self._on_message(message, descriptor)

    async def _send_loop(self, control: socket.socket) -> None:
        async for data in self._to_send:
            while True:
                try:
                    control.send(data)
                    break
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(control)
                except OSError:  # it is gone, as the receiving side will find out
                    return

    async def _kill_when_stuck(self, process: trio.Process) -> None:
        await self._stuck.wait()
        process.kill()

    async def _read_log(self, process: trio.Process) -> None:
        """The worker's log, line by line."""
        assert process.stderr is not None
        rest = b""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in process.stderr:
                *lines, rest = (rest + data).split(b"\n")
                rest = rest[:_MAX_LINE]
                for line in lines:
                    text = line[:_MAX_LINE].decode(errors="replace").rstrip()
                    if text:
                        self.last_line = text
                        log.debug("WebRTC worker: %s", text)

    def __repr__(self) -> str:
        return f"<WorkerProcess {self.pid}>"


def _environment() -> dict[str, str]:
    """Ours, with our own places to import from: a checkout that is not installed is one, too."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


async def _end(process: trio.Process) -> None:
    """Wait until it has ended, as it does once its control socket is closed; else kill it."""
    with trio.move_on_after(END_TIME):
        await process.wait()
    if process.returncode is None:
        log.warning("the WebRTC worker %d does not end: killed", process.pid)
        process.kill()
        await process.wait()
    if process.stderr is not None:
        await process.stderr.aclose()


def _how_it_ended(code: int | None) -> str:
    if code is None:
        return "closed its control socket"
    return f"ended with signal {-code}" if code < 0 else f"ended with status {code}"
