"""Bytes between one data channel and one end of a socket pair, with pressure both ways.

From the peer: the messages of one turn of the loop go into the socket together. What it does not
take waits here, unread, and the channel makes the peer stop once its window is full; so a reader
in the other process that reads nothing holds at most that window (1 MiB) in this one. Small
messages are joined, since a million of one byte would take 200 MB.

To the peer: the socket is read only while little is buffered in the channel (`HIGH_MARK`, read
again from `LOW_MARK`), so a peer that takes nothing stops the writer in the other process.

The ends: when the peer closes the channel, what waits is written, then the stream is ended
(`SHUT_WR`), and the pump lives until the other process has closed too. A stream that is closed
both ways at once means that this process died; the other side tells the two apart. When the
other process closes, all that it had written is sent, and `finished` is set.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torrentfs.transports.webrtc.backend import Channel

HIGH_MARK = 256 * 1024
"""Bytes buffered toward the peer at which the socket is not read any more."""
LOW_MARK = 64 * 1024
_MAX_VECTORS = 64
_SMALL = 16 * 1024
"""Bytes of a message that is joined with the one before; larger ones are not worth a copy."""


class Pump:
    """A `backend.Receiver` that owns `end`. Made in a running loop; `close` frees the socket."""

    def __init__(self, channel: Channel, end: socket.socket) -> None:
        self.finished = asyncio.Event()  # the other process has closed its end
        self.unread = 0  # bytes of messages that the socket has not taken
        self._channel = channel
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[bytes | bytearray | memoryview] = deque()
        self._flushing = False
        self._reading = False
        self._writing = False
        self._channel_closed = False
        end.setblocking(False)
        channel.attach(self, LOW_MARK)
        self._read_more()

    def on_message(self, data: bytes) -> None:
        """The peer sent something."""
        if self.finished.is_set():
            self._channel.release(len(data))
            return
        self.unread += len(data)
        if len(data) >= _SMALL:
            self._waiting.append(data)
        else:
            last = self._waiting[-1] if self._waiting else None
            if isinstance(last, bytearray) and len(last) < _SMALL:
                last += data
            else:
                self._waiting.append(bytearray(data))
        if not self._flushing and not self._writing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def on_writable(self) -> None:
        """The channel takes more."""
        self._read_more()

    def on_closed(self) -> None:
        """Nothing more comes from the peer."""
        self._channel_closed = True
        self._read_more()  # whatever is written now is for nobody, but its end must be seen
        if not self._waiting:
            self._end_stream()

    def _flush(self) -> None:
        """Write what waits, now and whenever the socket takes more."""
        self._flushing = False
        while self._waiting:
            try:
                sent = self._end.sendmsg(tuple(islice(self._waiting, _MAX_VECTORS)))
            except BlockingIOError:
                if not self._writing:
                    self._writing = True
                    self._loop.add_writer(self._end, self._flush)
                return
            except OSError:  # the other end is closed
                self._finish()
                return
            self.unread -= sent
            self._channel.release(sent)
            while sent and sent >= len(self._waiting[0]):
                sent -= len(self._waiting.popleft())
            if sent:
                self._waiting[0] = memoryview(self._waiting[0])[sent:]
        self._stop_writing()
        if self._channel_closed and not self.finished.is_set():
            self._end_stream()

    def _read_more(self) -> None:
        if not self._reading and not self.finished.is_set():
            self._reading = True
            self._loop.add_reader(self._end, self._on_bytes)

    def _on_bytes(self) -> None:
        """The other process wrote something, or closed."""
        while self._channel_closed or self._channel.buffered < HIGH_MARK:
            try:
                data = self._end.recv(self._channel.max_message_size)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._finish()
                return
            if not self._channel_closed:
                self._channel.send(data)
        self._stop_reading()

    def _end_stream(self) -> None:
        try:
            self._end.shutdown(socket.SHUT_WR)
        except OSError:
            self._finish()

    def _finish(self) -> None:
        """The other process has closed: nobody reads what waits."""
        self._stop_reading()
        self._stop_writing()
        self._drop_waiting()
        self.finished.set()

    def _drop_waiting(self) -> None:
        if self.unread:
            self._channel.release(self.unread)
        self.unread = 0
        self._waiting.clear()

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._end)

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._end)

    def close(self) -> None:
        """Free the socket; may be repeated."""
        self._finish()
        self._end.close()
