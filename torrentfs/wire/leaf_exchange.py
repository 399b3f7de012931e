"""Getting and giving the leaves of a v2 torrent: the hashes of its 16 KiB blocks (BEP 52).

The piece layer proves pieces. To prove a block before its piece is whole, the leaves around it are
asked for, in aligned *runs* of at most `RUN` leaves of one piece, with the uncles that prove the
run against the hash of the piece:

          piece hash             (or the pieces root, for a file that fits one piece)
         /          \\
    run 0: top     run 1: top    asked: run 1. Answered: its leaves and the top of run 0
     /  |  \\        /  |  \\
    0  ...  63     64 ... 127    <- leaves, `base_layer` 0, numbered through the file

A run is 2 KiB on the wire, so even a read of one block costs little, and it is proved by itself: a
lie is known at once and has one author.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torrentfs.errors import RemoteProtocolError
from torrentfs.metainfo import merkle
from torrentfs.metainfo.geometry import BLOCK_LENGTH
from torrentfs.wire import limits
from torrentfs.wire.hash_exchange import uncle_count
from torrentfs.wire.messages import Hashes, HashRequest

if TYPE_CHECKING:
    from torrentfs.metainfo.torrent_file import Metainfo

RUN = 64
"""Leaves asked for at once: those of 1 MiB."""

MAX_SERVED = 512
"""Leaves given at once: what BEP 52 says a request should not exceed."""

_KEPT_TREES = 1024
"""Pieces whose place in their file is remembered."""

_HASH = merkle.HASH_LENGTH


class PieceTree(NamedTuple):
    """The part of a file's merkle tree that belongs to one piece."""

    pieces_root: bytes
    first: int
    """The number of its first leaf in the file."""
    levels: int
    """From the leaves up to `top`."""
    top: bytes
    """What its leaves are proved against."""
    size: int
    """Bytes of the file in the piece: padding behind them (BEP 47) has no leaves."""

    @property
    def run(self) -> int:
        """Leaves in a run."""
        return min(RUN, 1 << self.levels)

    def leaf_bytes(self, begin: int, length: int) -> int:
        """How many of the `length` bytes at `begin` are covered by leaves."""
        return max(0, min(length, self.size - begin))


class LeafRuns:
    """Which leaves prove which blocks of a torrent."""

    def __init__(self, metainfo: Metainfo) -> None:
        self._metainfo = metainfo
        self._trees: dict[int, PieceTree | None] = {}
        self._roots: dict[bytes, int] | None = None

    def tree(self, piece: int) -> PieceTree | None:
        """The tree of a piece; None when its blocks cannot be proved (no v2, layer unknown)."""
        if piece in self._trees:
            return self._trees[piece]
        if len(self._trees) >= _KEPT_TREES:
            self._trees.clear()
        found = self._trees[piece] = self._find(piece)
        return found

    def _find(self, piece: int) -> PieceTree | None:
        metainfo = self._metainfo
        geometry = metainfo.geometry
        number = metainfo.file_of_piece(piece)
        start, length = geometry.file_starts[number], geometry.file_lengths[number]
        root = metainfo.files[number].pieces_root
        if root is None or start % geometry.piece_length:
            return None
        index = piece - start // geometry.piece_length
        size = min(geometry.piece_length, length - index * geometry.piece_length)
        if length <= geometry.piece_length:
            leaves = -(-length // BLOCK_LENGTH)
            return PieceTree(root, 0, (leaves - 1).bit_length(), root, size)
        layer = metainfo.piece_layers.get(root)
        if layer is None:
            return None
        top = layer[index * _HASH : (index + 1) * _HASH]
        levels = merkle.piece_height(geometry.piece_length)
        return PieceTree(root, index << levels, levels, top, size)

    def request(self, piece: int, run: int) -> HashRequest:
        """What to ask for run number `run` of a piece that has a tree of two leaves or more."""
        tree = self.tree(piece)
        if tree is None or not tree.levels:
            raise LookupError(f"the blocks of piece {piece} cannot be proved one by one")
        length = tree.run
        proof = tree.levels - 1 if length < 1 << tree.levels else 0
        return HashRequest(tree.pieces_root, 0, tree.first + run * length, length, proof)

    def accept(self, piece: int, run: int, message: Hashes) -> bytes:
        """The leaves out of an answer to `request(piece, run)`, proved.

        `RemoteProtocolError` when it answers something else or does not prove itself.
        """
        wanted = self.request(piece, run)
        tree = self.tree(piece)
        assert tree is not None
        size = (wanted.length + uncle_count(wanted.length, wanted.proof_layers)) * _HASH
        fields = (message.pieces_root, message.base_layer, message.index, message.length)
        if len(message.hashes) != size or (*fields, message.proof_layers) != (
            wanted.pieces_root,
            wanted.base_layer,
            wanted.index,
            wanted.length,
            wanted.proof_layers,
        ):
            raise RemoteProtocolError("block hashes that were not asked for")
        end = wanted.length * _HASH
        leaves, proof = message.hashes[:end], message.hashes[end:]
        uncles = [proof[at : at + _HASH] for at in range(0, len(proof), _HASH)]
        if not merkle.is_proved(tree.top, merkle.root_of(leaves), run, uncles):
            raise RemoteProtocolError("block hashes that do not match the piece")
        return leaves

    # --- the other side ----------------------------------------------------------------------

    def piece_of(self, request: HashRequest) -> int | None:
        """The piece whose leaves a peer asks for; None when it asks for nothing that we give.

        Only leaves of one piece are given, with uncles up to that piece: what proves more is to be
        had from the piece layer.
        """
        length = request.length
        if request.base_layer or not 2 <= length <= min(MAX_SERVED, limits.MAX_HASHES):
            return None
        if length & (length - 1) or request.index % length:
            return None
        number = self._file_of(request.pieces_root)
        if number is None:
            return None
        geometry = self._metainfo.geometry
        piece = geometry.file_starts[number] // geometry.piece_length
        piece += request.index // merkle.blocks_per_piece(geometry.piece_length)
        if piece not in geometry.pieces_of_file(number):
            return None
        tree = self.tree(piece)
        if tree is None or request.index + length > tree.first + (1 << tree.levels):
            return None
        return piece if request.proof_layers < max(1, tree.levels) else None

    def give(self, piece: int, request: HashRequest, leaves: bytes) -> Hashes:
        """The answer to a request that `piece_of` says is of `piece`, whose leaves are given."""
        tree = self.tree(piece)
        assert tree is not None
        place = request.index - tree.first
        layer = leaves + bytes((1 << tree.levels) * _HASH - len(leaves))
        nodes = layer[place * _HASH : (place + request.length) * _HASH]
        uncles = []
        for level in range(request.proof_layers + 1):
            if level >= request.length.bit_length() - 1 and level < tree.levels:
                sibling = (place >> level ^ 1) * _HASH
                uncles.append(layer[sibling : sibling + _HASH])
            layer = merkle.parent_layer(layer, level) if len(layer) > _HASH else layer
        return Hashes(
            request.pieces_root,
            0,
            request.index,
            request.length,
            request.proof_layers,
            nodes + b"".join(uncles),
        )

    def _file_of(self, root: bytes) -> int | None:
        """The first file with that pieces root."""
        if self._roots is None:
            self._roots = {}
            for number, length in enumerate(self._metainfo.geometry.file_lengths):
                known = self._metainfo.files[number].pieces_root if length else None
                if known is not None:
                    self._roots.setdefault(known, number)
        return self._roots.get(root)

    def __repr__(self) -> str:
        return f"<LeafRuns {len(self._trees)} pieces looked at>"
