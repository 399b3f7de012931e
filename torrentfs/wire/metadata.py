"""Getting and giving the info dictionary (BEP 9): blocks of 16 KiB, proved by the info-hash alone.

Until all blocks are there nothing can be checked, and `metadata_size` is a claim of a stranger.
So an assembler belongs to one claimed size, and best to one peer: then a result that does not hash
right has one author.
"""

from __future__ import annotations

from torrentfs.errors import RemoteProtocolError
from torrentfs.metainfo.geometry import BLOCK_LENGTH
from torrentfs.metainfo.hashes import InfoHashes
from torrentfs.metainfo.limits import MAX_METADATA_BYTES
from torrentfs.wire.messages import MetadataData, MetadataReject, MetadataRequest

QUEUE = 16
"""Unanswered requests at a time: 256 KiB, enough for any round trip, and no flood."""


def num_blocks(size: int) -> int:
    """Blocks of an info dictionary of `size` bytes."""
    return -(-size // BLOCK_LENGTH)


class MetadataAssembler:
    """Collects the info dictionary of `hashes`, said to have `size` bytes.

    Memory grows with the blocks that come, not with the claimed size. `RemoteProtocolError` from
    the constructor for an impossible size.
    """

    def __init__(self, size: int, hashes: InfoHashes) -> None:
        if not 0 < size <= MAX_METADATA_BYTES:
            raise RemoteProtocolError(f"metadata of {size} bytes")
        self.size = size
        self.hashes = hashes
        self.result: bytes | None = None
        """The verified info dictionary, once it is complete."""
        self._blocks: dict[int, bytes] = {}
        self._asked: set[int] = set()
        self._again: list[int] = []
        self._next = 0

    @property
    def num_blocks(self) -> int:
        """How many blocks there are in all."""
        return num_blocks(self.size)

    @property
    def received(self) -> int:
        """How many blocks are there."""
        return self.num_blocks if self.result is not None else len(self._blocks)

    def requests(self, queue: int = QUEUE) -> list[MetadataRequest]:
        """What to ask next: missing blocks in order, at most `queue` of them unanswered."""
        found: list[MetadataRequest] = []
        while self.result is None and self._again and len(self._asked) < queue:
            block = self._again.pop()
            self._asked.add(block)
            found.append(MetadataRequest(block))
        while self.result is None and self._next < self.num_blocks and len(self._asked) < queue:
            self._asked.add(self._next)
            found.append(MetadataRequest(self._next))
            self._next += 1
        return found

    def on_reject(self, piece: int) -> None:
        """A request will not be answered (or its peer is gone): the block may be asked again."""
        if piece in self._asked:
            self._asked.discard(piece)
            self._again.append(piece)

    def on_data(self, piece: int, total_size: int, data: bytes) -> bool:
        """Take one block of a `MetadataData`; True when this made the dictionary complete.

        `RemoteProtocolError`: the block does not fit the claimed size, or all blocks together do
        not hash to the torrent's name. Then any of them may be the bad one, and this assembler is
        spent: start over with a new one. A block not asked for is dropped.
        """
        if self.result is not None:
            return False
        if total_size != self.size:
            raise RemoteProtocolError(f"metadata of {total_size} bytes, said to be {self.size}")
        if not 0 <= piece < self.num_blocks:
            raise RemoteProtocolError(f"metadata block {piece} of {self.num_blocks}")
        if len(data) != self._block_length(piece):
            raise RemoteProtocolError(f"metadata block {piece} with {len(data)} bytes")
        if piece not in self._asked:
            return False
        self._asked.discard(piece)
        self._blocks[piece] = bytes(data)
        if len(self._blocks) < self.num_blocks:
            return False
        info = b"".join(self._blocks[number] for number in range(self.num_blocks))
        self._blocks.clear()
        if not self._is_right(info):
            raise RemoteProtocolError("the metadata does not match the info-hash")
        self.result = info
        return True

    def _is_right(self, info: bytes) -> bool:
        wanted = self.hashes
        found = InfoHashes.of_info(info, v1=wanted.v1 is not None, v2=wanted.v2 is not None)
        return found == wanted

    def _block_length(self, piece: int) -> int:
        return min(BLOCK_LENGTH, self.size - piece * BLOCK_LENGTH)

    def __repr__(self) -> str:
        return f"<MetadataAssembler {self.received}/{self.num_blocks} blocks of {self.size} bytes>"


class MetadataServer:
    """Answers metadata requests from the info dictionary as it was received."""

    def __init__(self, info: bytes) -> None:
        self._info = memoryview(info)

    def answer(self, request: MetadataRequest) -> MetadataData | MetadataReject:
        """The block that was asked for, or a reject for one that does not exist."""
        begin = request.piece * BLOCK_LENGTH
        if not 0 <= begin < len(self._info):
            return MetadataReject(request.piece)
        block = bytes(self._info[begin : begin + BLOCK_LENGTH])
        return MetadataData(request.piece, len(self._info), block)
