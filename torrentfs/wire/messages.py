"""The messages of the peer protocol, one class each; the same class is sent and received.

`Piece`, `Request` and `Have` come by the hundred thousand and are named tuples; the rest are
frozen dataclasses. A message says nothing about how it is encoded (`reading`, `writing`,
`extension`) or when it is legal (`connection`). Piece indexes, offsets and lengths are unsigned
32-bit numbers as received; a `Connection` that knows the number of pieces has checked the index.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

Buffer = bytes | bytearray | memoryview


# -- BEP 3: hot ------------------------------------------------------------------------------


class Piece(NamedTuple):
    """A block: `data` at `begin` of `piece`.

    Received, `data` is a memoryview of the connection's receive buffer: it is overwritten after
    the next `get_buffer()` or `receive_data()`.
    """

    piece: int
    begin: int
    data: Buffer


class Request(NamedTuple):
    """Asks for `length` bytes at `begin` of `piece`."""

    piece: int
    begin: int
    length: int


class Have(NamedTuple):
    """The sender has one more piece."""

    piece: int


# -- BEP 3: the rest -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """Nothing, so that the connection is not taken for dead (every two minutes)."""


@dataclass(frozen=True, slots=True)
class Choke:
    """The sender will not answer requests."""


@dataclass(frozen=True, slots=True)
class Unchoke:
    """The sender will answer requests."""


@dataclass(frozen=True, slots=True)
class Interested:
    """The sender wants pieces that the receiver has."""


@dataclass(frozen=True, slots=True)
class NotInterested:
    """The sender wants nothing."""


@dataclass(frozen=True, slots=True)
class BitfieldMessage:
    """All pieces that the sender has, as one bit each, the first piece highest."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Cancel:
    """Takes a `Request` back."""

    piece: int
    begin: int
    length: int


@dataclass(frozen=True, slots=True)
class Port:
    """The UDP port of the sender's DHT node (BEP 5)."""

    port: int


# -- BEP 6: fast extension -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SuggestPiece:
    """Advice: this piece is cheap for the sender."""

    piece: int


@dataclass(frozen=True, slots=True)
class HaveAll:
    """In place of a bitfield: the sender has every piece."""


@dataclass(frozen=True, slots=True)
class HaveNone:
    """In place of a bitfield: the sender has no piece."""


@dataclass(frozen=True, slots=True)
class RejectRequest:
    """This `Request` will not be answered."""

    piece: int
    begin: int
    length: int


@dataclass(frozen=True, slots=True)
class AllowedFast:
    """Requests for this piece are answered also while choked."""

    piece: int


# -- BEP 10: extension protocol --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ExtensionHandshake:
    """What the sender speaks beyond BEP 3, and facts about it. Absent facts are None.

    `extensions` maps names to the message ids, 1 to 255, that the *sender* of this handshake wants
    to receive. `withdrawn` are names that an earlier handshake gave and that no longer hold.
    """

    extensions: Mapping[str, int] = field(default_factory=dict)
    withdrawn: frozenset[str] = frozenset()
    version: str | None = None
    """Client name and version, free text (`v`)."""
    port: int | None = None
    """TCP port the sender listens on (`p`)."""
    request_queue: int | None = None
    """Requests that the sender holds without dropping any (`reqq`)."""
    metadata_size: int | None = None
    """Bytes of the info dictionary, unproved (BEP 9)."""
    upload_only: bool = False
    """The sender will download nothing (BEP 21)."""
    your_ip: str | None = None
    """The receiver's address as the sender sees it."""


@dataclass(frozen=True, slots=True)
class MetadataRequest:
    """Asks for 16 KiB block number `piece` of the info dictionary (BEP 9)."""

    piece: int


@dataclass(frozen=True, slots=True)
class MetadataData:
    """Block `piece` of an info dictionary of `total_size` bytes (BEP 9)."""

    piece: int
    total_size: int
    data: bytes


@dataclass(frozen=True, slots=True)
class MetadataReject:
    """That block will not be given (BEP 9)."""

    piece: int


@dataclass(frozen=True, slots=True)
class DontHave:
    """The sender lost a piece (BEP 54, `lt_donthave`)."""

    piece: int


@dataclass(frozen=True, slots=True)
class PeerExchange:
    """Peers of the sender that came, with flags, and that went, since its last one (BEP 11)."""

    added: Mapping[tuple[str, int], int] = field(default_factory=dict)
    dropped: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Rendezvous:
    """Asks to be introduced to a peer of the receiver at `address` (BEP 55)."""

    address: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Connect:
    """Dial the peer at `address` now over uTP; it was told to do the same (BEP 55)."""

    address: tuple[str, int]


@dataclass(frozen=True, slots=True)
class RendezvousFailed:
    """There is no way to introduce the peer at `address`, because of `code` (BEP 55)."""

    address: tuple[str, int]
    code: int


@dataclass(frozen=True, slots=True)
class UnknownExtension:
    """A BEP 10 message of an id that we did not give out, or a kind we do not know."""

    id: int
    payload: bytes


# -- BEP 52: hash requests -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HashRequest:
    """Asks for `length` nodes from `index` on in layer `base_layer` of a file's merkle tree.

    Layer 0 are the hashes of the 16 KiB blocks. `proof_layers` counts the layers above the base
    layer whose uncle hashes are wanted too; those that follow from the nodes are not sent.
    """

    pieces_root: bytes
    base_layer: int
    index: int
    length: int
    proof_layers: int


@dataclass(frozen=True, slots=True)
class Hashes:
    """The answer: the request's fields, then nodes and uncles, 32 bytes each, concatenated."""

    pieces_root: bytes
    base_layer: int
    index: int
    length: int
    proof_layers: int
    hashes: bytes


@dataclass(frozen=True, slots=True)
class HashReject:
    """A `HashRequest` that will not be answered."""

    pieces_root: bytes
    base_layer: int
    index: int
    length: int
    proof_layers: int


ExtensionMessage = (
    ExtensionHandshake
    | MetadataRequest
    | MetadataData
    | MetadataReject
    | DontHave
    | PeerExchange
    | Rendezvous
    | Connect
    | RendezvousFailed
    | UnknownExtension
)

Message = (
    Piece
    | Request
    | Have
    | KeepAlive
    | Choke
    | Unchoke
    | Interested
    | NotInterested
    | BitfieldMessage
    | Cancel
    | Port
    | SuggestPiece
    | HaveAll
    | HaveNone
    | RejectRequest
    | AllowedFast
    | ExtensionMessage
    | HashRequest
    | Hashes
    | HashReject
)
