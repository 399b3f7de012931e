"""Getting and giving the info dictionary (BEP 9): blocks of 16 KiB, proved by the info-hash alone.

Until all blocks are there nothing can be checked, and `metadata_size` is a claim of a stranger.
So an assembler belongs to one claimed size: the owner keeps one per size, feeds each peer's answers
to the one of its size, and drops the assembler and the peers whose result does not hash right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.errors import RemoteProtocolError
from torrentfs.metainfo.geometry import BLOCK_LENGTH
from torrentfs.metainfo.hashes import InfoHashes
from torrentfs.metainfo.limits import MAX_METADATA_BYTES
from torrentfs.wire.messages import MetadataData, MetadataReject, MetadataRequest

if TYPE_CHECKING:
    from collections.abc import Iterable


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

    @property
    def num_blocks(self) -> int:
        """How many blocks there are in all."""
        return num_blocks(self.size)

    @property
    def received(self) -> int:
        """How many blocks are there."""
        return self.num_blocks if self.result is not None else len(self._blocks)

    def requests(
        self, most: int | None = None, *, besides: Iterable[int] = ()
    ) -> list[MetadataRequest]:
        """Requests for at most `most` missing blocks, first ones first, but none in `besides`."""
        if self.result is not None:
            return []
        asked = set(besides)
        found: list[MetadataRequest] = []
        for block in range(self.num_blocks):
            if most is not None and len(found) >= most:
                break
            if block not in self._blocks and block not in asked:
                found.append(MetadataRequest(block))
        return found

    def on_data(self, piece: int, total_size: int, data: bytes) -> bool:
        """Take one block of a `MetadataData`; True when this made the dictionary complete.

        `RemoteProtocolError`: the block does not fit the claimed size, or all blocks together do
        not hash to the torrent's name. Then every block is dropped, as any of them may be the bad
        one: start over, from one peer alone.
        """
        if self.result is not None:
            return False
        if total_size != self.size:
            raise RemoteProtocolError(f"metadata of {total_size} bytes, said to be {self.size}")
        if not 0 <= piece < self.num_blocks:
            raise RemoteProtocolError(f"metadata block {piece} of {self.num_blocks}")
        if len(data) != self._block_length(piece):
            raise RemoteProtocolError(f"metadata block {piece} with {len(data)} bytes")
        self._blocks.setdefault(piece, bytes(data))
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
