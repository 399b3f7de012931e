"""The memory that a socket receives into and that messages are parsed in, without a copy between.

    0 ........ start ======== end ........ capacity
      consumed        unread        room

`get_room()` gives the room for `recv_into`; parsing moves `start`; blocks are handed out as views
of the unread part. Where the memory goes is decided only in `get_room()`, so views stay valid until
then:

* nothing unread: start again at 0;
* a message is cut at the end, and less than half of the buffer is left: move it to the front (a
  cut block is at most 16 KiB, so this is rare and cheap);
* the last receive filled all the room, so the peer is faster than us: grow fourfold, up to
  `MAX_BUFFER_BYTES`;
* a message longer than the buffer: double it, so memory follows bytes that really came, never a
  length that was only declared;
* nothing unread and the last receive was small: back to `INITIAL_BUFFER_BYTES`, so that a peer
  that fell idle does not hold a MiB. A fast peer gets it back within two receives.

A buffer is never resized in place (views may still export it) but replaced.
"""

from __future__ import annotations

from torrentfs.wire import limits

_GROWTH = 4
_SMALL = limits.INITIAL_BUFFER_BYTES // 2


class ReceiveBuffer:
    """Bytes received and not yet parsed: `view[start:end]`. `data` and `view` are one memory."""

    __slots__ = ("_filled", "_received", "data", "end", "start", "view")

    def __init__(self) -> None:
        self.data = bytearray()  # the first get_room() allocates
        self.view = memoryview(self.data)
        self.start = 0
        self.end = 0
        self._filled = False
        self._received = 0

    def get_room(self) -> memoryview:
        """Writable memory behind the unread bytes, at least `MIN_ROOM_BYTES`."""
        capacity = len(self.data)
        unread = self.end - self.start
        wanted = capacity
        if self._filled and capacity < limits.MAX_BUFFER_BYTES:
            wanted = min(capacity * _GROWTH, limits.MAX_BUFFER_BYTES)
        elif not unread:
            small = self._received < _SMALL
            wanted = min(wanted, limits.INITIAL_BUFFER_BYTES if small else limits.MAX_BUFFER_BYTES)
        self._filled = False
        wanted = max(wanted, limits.INITIAL_BUFFER_BYTES)
        while wanted - unread < limits.MIN_ROOM_BYTES:
            wanted *= 2
        if wanted != capacity:
            data = bytearray(wanted)
            data[:unread] = self.view[self.start : self.end]
            self.data, self.view = data, memoryview(data)
            self.start, self.end = 0, unread
        elif self.start and (not unread or capacity - self.end < capacity // 2):
            self.view[:unread] = self.view[self.start : self.end]
            self.start, self.end = 0, unread
        return self.view[self.end :]

    def on_received(self, count: int) -> None:
        """`count` bytes were written at the front of the room."""
        self.end += count
        self._received = count
        self._filled = self.end == len(self.data)

    def __len__(self) -> int:
        return self.end - self.start

    def __repr__(self) -> str:
        return f"<ReceiveBuffer {len(self)} unread of {len(self.data)}>"
