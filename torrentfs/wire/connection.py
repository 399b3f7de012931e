"""One peer connection without its socket: bytes in, messages out, and the other way round.

The owner receives into `get_buffer()`, says `buffer_updated(n)`, takes `events()`, and writes what
`send()` returns. No call waits or fails for want of bytes. Both roles (who dialled) are the same.

*Order.* The first event is the peer's `Handshake`. Nothing behind it is read until ours was sent:
what a peer may say depends on both handshakes, so the events are the same however the bytes were
cut and whenever we answered. Then come messages, until one is wrong: the events before it are still
given, and from then on every call that takes or gives bytes raises the same `RemoteProtocolError`.

*Legality*, received. Fast messages (BEP 6) and BEP 10 messages only where both handshakes offered
them; a metadata request only from a peer that said how to answer. Bitfields are taken late and
again (`limits.MAX_WHOLE_SETS`). Piece indexes are checked once `set_num_pieces()` was called;
before (a magnet without metadata) they are only numbers. Whether a block was asked for, or a
request came while choked, is not known here: messages cross on the way, so neither is a violation
by itself.

*Legality*, sent: `LocalProtocolError` for what the peer has not negotiated, for numbers that do not
fit, for a second handshake, and for a bitfield after other messages than BEP 10's.

*Speed.* A block of 16 KiB may cost 15 microseconds of Python in all, hash and socket included. So
`events()` reads a run of `Piece` messages in one loop with one `unpack_from` each, and their data
are views of the receive buffer (`receive_buffer`).
"""

from __future__ import annotations

import struct
from collections import deque
from struct import Struct
from typing import TYPE_CHECKING, Any

from torrentfs.errors import LocalProtocolError, RemoteProtocolError, TorrentFSError
from torrentfs.metainfo.limits import MAX_PIECES
from torrentfs.wire import limits
from torrentfs.wire import messages as m
from torrentfs.wire.extension import write_extended
from torrentfs.wire.handshake import HANDSHAKE_BYTES, Handshake, check_prefix
from torrentfs.wire.reading import EXTENDED_ID, LONGEST_MESSAGE, PIECE_ID, READERS, Needs, Reader
from torrentfs.wire.receive_buffer import ReceiveBuffer
from torrentfs.wire.writing import WRITERS, framed, write_piece_header, write_requests

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Event = Handshake | m.Message

_LENGTH = Struct(">I")
_PIECE_HEAD = Struct(">IBII")
_LONGEST_PIECE = 9 + limits.MAX_BLOCK_BYTES
_KEEP_ALIVE = m.KeepAlive()
_NO_LIMIT = 1 << 62

_WITH_INDEX = (
    *(m.Have, m.Request, m.Cancel, m.Piece, m.DontHave),
    *(m.SuggestPiece, m.RejectRequest, m.AllowedFast),
)
_WHOLE_SETS = (m.BitfieldMessage, m.HaveAll, m.HaveNone)


class Connection:
    """The protocol state of one peer connection. Errors: see the module."""

    def __init__(self) -> None:
        self.ours: Handshake | None = None
        self.theirs: Handshake | None = None
        self.fast = False
        """Both sides speak BEP 6."""
        self.extensions = False
        """Both sides speak BEP 10."""
        self.their_extension_handshake: m.ExtensionHandshake | None = None
        """The last one received."""
        self.their_extensions: Mapping[str, int] = {}
        """Names the peer speaks now, with its message ids (all its handshakes together)."""
        self.num_pieces: int | None = None
        self._answer_ids: dict[str, int] = {}
        self._whole_sets = 0
        self._extension_handshakes = 0
        self._said_more = False
        self._again: deque[m.Message] = deque()
        self._error: str | None = None
        self._buffer = ReceiveBuffer()

    @property
    def said_pieces(self) -> bool:
        """Which pieces we have was said, or can be said only one by one now."""
        return self._said_more

    @property
    def their_handshake(self) -> Handshake | None:
        """The peer's handshake, once it was given as an event."""
        return self.theirs

    def set_num_pieces(self, count: int) -> None:
        """From now on piece indexes and bitfields must fit a torrent of `count` pieces."""
        if not 0 <= count <= MAX_PIECES:
            raise LocalProtocolError(f"a torrent of {count} pieces")
        self.num_pieces = count

    # -- receiving ----------------------------------------------------------------------------

    def get_buffer(self) -> memoryview:
        """Room to receive into, at least 32 KiB; ends the life of `Piece.data` given before."""
        self._check()
        if self._is_paused and len(self._buffer) >= limits.MAX_BUFFER_BYTES:
            self._fail("it sent too much before our handshake")
        return self._buffer.get_room()

    def buffer_updated(self, count: int) -> None:
        """`count` bytes were received into the front of the last `get_buffer()`."""
        self._buffer.on_received(count)

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Copy `data` in; ends the life of `Piece.data` given before."""
        rest = memoryview(data)
        while rest:
            room = self.get_buffer()
            count = min(len(room), len(rest))
            room[:count] = rest[:count]
            self._buffer.on_received(count)
            rest = rest[count:]

    def next_event(self) -> Event | None:
        """The next event, or None when more bytes (or our own handshake) are needed."""
        events = self._take(1)
        return events[0] if events else None

    def events(self, most: int = _NO_LIMIT) -> list[Event]:
        """The events that are complete now, at most `most` of them."""
        return self._take(most)

    def give_back(self, messages: Iterable[m.Message]) -> None:
        """Have `events()` give these first, once more: somebody else goes on with the connection.

        They are checked by what is known then. No `Piece`: its data do not live that long.
        """
        self._again.extend(messages)

    def _take(self, most: int) -> list[Event]:
        self._check()
        events: list[Event] = []
        try:
            if self.theirs is None:
                self._read_handshake(events)
            while self._again and len(events) < most:
                message = self._again.popleft()
                if isinstance(message, _WITH_INDEX):
                    self._check_index(message.piece, RemoteProtocolError)
                elif isinstance(message, m.BitfieldMessage):
                    self._check_bitfield(message.data)
                events.append(message)
            if self.theirs is not None and self.ours is not None:
                self._read_messages(events, most)
        except RemoteProtocolError as error:
            self._error = str(error)
            if not events:
                raise
        return events

    def _read_handshake(self, events: list[Event]) -> None:
        buffer = self._buffer
        data = bytes(buffer.view[buffer.start : min(buffer.end, buffer.start + HANDSHAKE_BYTES)])
        check_prefix(data)
        if len(data) < HANDSHAKE_BYTES:
            return
        self.theirs = Handshake.parse(data)
        buffer.start += HANDSHAKE_BYTES
        events.append(self.theirs)
        self._negotiate()

    def _read_messages(self, events: list[Event], most: int) -> None:
        buffer = self._buffer
        data, view, end = buffer.data, buffer.view, buffer.end
        at = buffer.start
        pieces = MAX_PIECES if self.num_pieces is None else self.num_pieces
        append, unpack, new = events.append, _PIECE_HEAD.unpack_from, tuple.__new__
        cls = m.Piece
        try:
            while len(events) < most:
                if end - at >= 13:
                    length, number, piece, begin = unpack(data, at)
                    if number == PIECE_ID and 9 <= length <= _LONGEST_PIECE and piece < pieces:
                        after = at + 4 + length
                        if after > end:
                            return
                        # as Piece(piece, begin, ...), but without a call into Python
                        append(new(cls, (piece, begin, view[at + 13 : after])))
                        at = after
                        continue
                after = self._read_message(at, end, events)
                if after == at:
                    return
                at = after
        finally:
            buffer.start = at

    def _read_message(self, at: int, end: int, events: list[Event]) -> int:
        """Read what begins at `at`; gives where it ends, or `at` when it is not complete."""
        if end - at < 4:
            return at
        data = self._buffer.data
        (length,) = _LENGTH.unpack_from(data, at)
        if length == 0:
            events.append(_KEEP_ALIVE)
            return at + 4
        if length > LONGEST_MESSAGE:
            raise RemoteProtocolError(f"a message of {length} bytes")
        if end - at < 5:
            return at
        reader = self._reader(data[at + 4], length - 1)
        after: int = at + 4 + length
        if after > end:
            return at
        message = reader.read(self._buffer.view[at + 5 : after])
        self._on_message(message)
        events.append(message)
        return after

    def _reader(self, number: int, size: int) -> Reader:
        """How to read message `number` with `size` bytes of payload, if it is legal now."""
        reader = READERS.get(number)
        if reader is None:
            raise RemoteProtocolError(f"unknown message {number}")
        if not reader.shortest <= size <= reader.longest:
            raise RemoteProtocolError(f"message {number} with {size} bytes of payload")
        if not self._has(reader.needs):
            raise RemoteProtocolError(f"message {number} without {reader.needs.value}")
        return reader

    def _on_message(self, message: m.Message) -> None:
        if isinstance(message, _WITH_INDEX):
            self._check_index(message.piece, RemoteProtocolError)
        elif isinstance(message, _WHOLE_SETS):
            self._whole_sets += 1
            if self._whole_sets > limits.MAX_WHOLE_SETS:
                raise RemoteProtocolError("it told too often which pieces it has")
            if isinstance(message, m.BitfieldMessage):
                self._check_bitfield(message.data)
        elif isinstance(message, m.ExtensionHandshake):
            self._on_extension_handshake(message)
        elif isinstance(message, m.MetadataRequest) and "ut_metadata" not in self._answer_ids:
            raise RemoteProtocolError("it asks for metadata but did not say how to answer")

    def _check_index(self, piece: int, error: type[TorrentFSError]) -> None:
        if self.num_pieces is not None and piece >= self.num_pieces:
            raise error(f"a piece {piece} of {self.num_pieces}")

    def _check_bitfield(self, data: bytes) -> None:
        if self.num_pieces is None:
            return
        if len(data) != (self.num_pieces + 7) // 8:
            raise RemoteProtocolError(f"a bitfield of {len(data)} bytes, {self.num_pieces} pieces")
        if data and data[-1] & ((1 << (-self.num_pieces % 8)) - 1):
            raise RemoteProtocolError("a spare bit of the bitfield is set")

    def _on_extension_handshake(self, message: m.ExtensionHandshake) -> None:
        self._extension_handshakes += 1
        if self._extension_handshakes > limits.MAX_EXTENSION_HANDSHAKES:
            raise RemoteProtocolError("it told too often which extensions it speaks")
        self.their_extension_handshake = message
        # BEP 10: later handshakes add to and change earlier ones. What the peer asked before it
        # withdrew a name is still answered, under the last id: it will drop the answer.
        self._answer_ids.update(message.extensions)
        if len(self._answer_ids) > 2 * limits.MAX_EXTENSIONS:
            raise RemoteProtocolError("it speaks too many extensions")
        known = {**self.their_extensions, **message.extensions}
        self.their_extensions = {
            name: number for name, number in known.items() if name not in message.withdrawn
        }

    # -- sending ------------------------------------------------------------------------------

    def send(self, message: Event) -> bytes:
        """The bytes of `message`."""
        if isinstance(message, Handshake):
            return self._send_handshake(message)
        if self.ours is None:
            raise LocalProtocolError("a handshake comes first")
        if isinstance(message, m.KeepAlive):
            return bytes(4)
        try:
            body = self._write(message)
        except (struct.error, ValueError, TypeError) as error:
            raise LocalProtocolError(f"{type(message).__name__}: {error}") from None
        return framed(body)

    def send_requests(self, requests: Iterable[tuple[int, int, int]]) -> bytes:
        """Requests for many (piece, begin, length), in one buffer."""
        if self.ours is None:
            raise LocalProtocolError("a handshake comes first")
        self._said_more = True
        try:
            return write_requests(requests)
        except struct.error as error:
            raise LocalProtocolError(f"Request: {error}") from None

    def piece_header(self, piece: int, begin: int, length: int) -> bytes:
        """What to send before the `length` bytes of a block, so that these are not copied."""
        if self.ours is None:
            raise LocalProtocolError("a handshake comes first")
        self._said_more = True
        try:
            return write_piece_header(piece, begin, length)
        except struct.error as error:
            raise LocalProtocolError(f"Piece: {error}") from None

    def _send_handshake(self, handshake: Handshake) -> bytes:
        if self.ours is not None:
            raise LocalProtocolError("the handshake was sent already")
        data = handshake.encode()
        self.ours = handshake
        self._negotiate()
        return data

    def _write(self, message: m.Message) -> bytes:
        writer = WRITERS.get(type(message))
        if writer is None:
            return self._write_extended(message)
        if not self._has(writer.needs):
            raise LocalProtocolError(f"the peer does not speak {writer.needs.value}")
        if isinstance(message, _WHOLE_SETS) and self._said_more:
            raise LocalProtocolError("which pieces we have is said first (BEP 3)")
        if isinstance(message, m.BitfieldMessage) and self.num_pieces is not None:
            if len(message.data) != (self.num_pieces + 7) // 8:
                raise LocalProtocolError("a bitfield of a wrong length")
        elif isinstance(message, _WITH_INDEX):
            self._check_index(message.piece, LocalProtocolError)
        self._said_more = True
        return writer.write(message)

    def _write_extended(self, message: Any) -> bytes:
        if not self._has(Needs.EXTENSIONS):
            raise LocalProtocolError("the peer does not speak BEP 10")
        return bytes([EXTENDED_ID]) + write_extended(message, self._answer_ids)

    # -- state --------------------------------------------------------------------------------

    @property
    def _is_paused(self) -> bool:
        return self.theirs is not None and self.ours is None

    def _negotiate(self) -> None:
        if self.ours is not None and self.theirs is not None:
            self.fast = self.ours.fast and self.theirs.fast
            self.extensions = self.ours.extensions and self.theirs.extensions

    def _has(self, needs: Needs) -> bool:
        if needs is Needs.FAST:
            return self.fast
        if needs is Needs.EXTENSIONS:
            return self.extensions
        return True

    def _check(self) -> None:
        if self._error is not None:
            raise RemoteProtocolError(self._error)

    def _fail(self, reason: str) -> None:
        self._error = reason
        raise RemoteProtocolError(reason)

    def __repr__(self) -> str:
        features = [name for name in ("fast", "extensions") if getattr(self, name)]
        state = f"failed: {self._error}" if self._error is not None else " ".join(features)
        return f"<Connection {'open' if self.theirs else 'new'} {state} {self._buffer!r}>"
