"""Two connections back to back: what one sends, the other must give back as the same event."""

from __future__ import annotations

from torrentfs.errors import RemoteProtocolError
from torrentfs.wire.connection import Connection, Event
from torrentfs.wire.extension import OUR_EXTENSIONS
from torrentfs.wire.handshake import Handshake
from torrentfs.wire.messages import ExtensionHandshake, Piece

HASH = b"h" * 20


def handshake(peer_id: bytes = b"-XX0000-abcdefghijkl", **features: bool) -> Handshake:
    """A handshake that offers everything, except what `features` turns off."""
    offered = {"fast": True, "extensions": True, "v2": True, **features}
    return Handshake(HASH, peer_id, **offered)


def frozen(event: Event) -> Event:
    """The event with its data copied out of the receive buffer."""
    return event._replace(data=bytes(event.data)) if isinstance(event, Piece) else event


def received(connection: Connection, data: bytes, step: int | None = None) -> list[Event]:
    """The events of `data`, given in chunks of `step` bytes."""
    events: list[Event] = []
    step = step or max(1, len(data))
    for at in range(0, len(data), step):
        connection.receive_data(data[at : at + step])
        events += [frozen(event) for event in connection.events()]
    return events


def outcome(connection: Connection, data: bytes, step: int | None = None) -> tuple:
    """The events of `data` and the error that ended them, if one did."""
    events: list[Event] = []
    step = step or max(1, len(data))
    try:
        for at in range(0, len(data), step):
            connection.receive_data(data[at : at + step])
            events += [frozen(event) for event in connection.events()]
        connection.get_buffer()
    except RemoteProtocolError as error:
        return events, str(error)
    return events, None


def opened(*, num_pieces: int | None = None, extended: bool = True, **features: bool) -> Connection:
    """A connection after both handshakes, ready for the peer's messages."""
    connection = Connection()
    connection.send(handshake())
    assert received(connection, handshake(**features).encode()) == [handshake(**features)]
    if extended and connection.extensions:
        hello = ConnectionPair.hello()
        received(connection, hello)
    if num_pieces is not None:
        connection.set_num_pieces(num_pieces)
    return connection


class ConnectionPair:
    """Two open connections; `say` sends from one to the other and checks what arrives."""

    def __init__(self, *, num_pieces: int | None = None, **features: bool) -> None:
        self.ours, self.theirs = Connection(), Connection()
        mine, yours = handshake(**features), handshake(b"-YY0000-abcdefghijkl", **features)
        self.ours.receive_data(self.theirs.send(yours))
        self.theirs.receive_data(self.ours.send(mine))
        assert self.ours.events() == [yours]
        assert self.theirs.events() == [mine]
        if num_pieces is not None:
            self.ours.set_num_pieces(num_pieces)
            self.theirs.set_num_pieces(num_pieces)
        if self.ours.extensions:
            self.say(ExtensionHandshake(extensions=OUR_EXTENSIONS))
            self.ours, self.theirs = self.theirs, self.ours
            self.say(ExtensionHandshake(extensions=OUR_EXTENSIONS))

    @staticmethod
    def hello() -> bytes:
        """An extension handshake as bytes."""
        sender = Connection()
        sender.send(handshake())
        received(sender, handshake().encode())
        return sender.send(ExtensionHandshake(extensions=OUR_EXTENSIONS))

    def say(self, message: Event) -> bytes:
        """Send `message` whole; the other side must see exactly it."""
        data = self.ours.send(message)
        events = received(self.theirs, data)
        assert events == [message]
        assert type(events[0]) is type(message)
        return data
