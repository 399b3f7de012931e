"""Getting and giving the piece layers of a v2 torrent over the wire (BEP 52 hash requests).

A torrent that came by magnet has only the root of each file's merkle tree. The layer of piece
hashes below is asked for in aligned runs of 512 nodes, each with the uncle hashes that prove it:

              root                  a run of 4 nodes (a power of two) at index 4 of 8:
           /        \\                  the nodes 4 5 6 7 give their own subtree root X,
         U            X                 so only uncle U is sent to prove it against the root
       /   \\        /   \\
      .     .      .     .
     0 1   2 3    4 5   6 7         <- piece layer: `base_layer` levels above the 16 KiB blocks

`proof_layers` counts the layers above the base whose uncles are wanted. Layers inside the run's own
subtree have none, so `length` nodes come with `proof_layers - (log2(length) - 1)` uncles, lowest
first; a proof up to the root of a tree `h` levels above the base asks for `h - 1`. Nodes behind the
end of the file are those of an all-zero tree and are sent like others. libtorrent counts like this.

Every run is proved by itself, so a lie is known at once and has one author.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.errors import LocalProtocolError, RemoteProtocolError
from torrentfs.metainfo import merkle
from torrentfs.wire import limits
from torrentfs.wire.messages import Hashes, HashReject, HashRequest

if TYPE_CHECKING:
    from torrentfs.metainfo.torrent_file import Metainfo

RUN = 512
"""Nodes asked for at once: BEP 52: "length [...] SHOULD NOT be larger than 512"."""

QUEUE = 16
"""Unanswered requests at a time: some 256 KiB of answers."""

_KEPT_TREES = 2
"""Files whose upper layers are kept: peers ask for the runs of one file one after the other."""

_HASH = merkle.HASH_LENGTH


def uncle_count(length: int, proof_layers: int) -> int:
    """Uncle hashes behind `length` nodes, a power of two >= 2."""
    return max(0, proof_layers - (length.bit_length() - 2))


class LayerAssembler:
    """Collects the piece layer of one file of `length` bytes, larger than a piece."""

    def __init__(self, pieces_root: bytes, length: int, piece_length: int) -> None:
        self.pieces_root = pieces_root
        self.num_pieces = -(-length // piece_length)
        if self.num_pieces < 2:
            raise LocalProtocolError("a file that fits one piece has no piece layer")
        self.result: bytes | None = None
        """The layer, proved, once it is complete."""
        self._height = merkle.piece_height(piece_length)
        self._levels = (self.num_pieces - 1).bit_length()
        self._run = min(RUN, 1 << self._levels)
        self._next = 0
        self._runs: dict[int, bytes] = {}

    def requests(self, most: int) -> list[HashRequest]:
        """At most `most` requests that were not given yet, in order."""
        found: list[HashRequest] = []
        while self._next < self.num_pieces and len(found) < most:
            if self._next not in self._runs:
                found.append(self._request(self._next))
            self._next += self._run
        return found

    def ask_again(self) -> None:
        """Give the requests that were not answered once more: for another peer."""
        self._next = 0

    def on_hashes(self, message: Hashes) -> bool:
        """Take one answer; True when it made the layer complete.

        `RemoteProtocolError` when it answers none of `requests()` or does not prove itself.
        """
        index = message.index
        if index % self._run or index >= self.num_pieces or not self._answers(message):
            raise RemoteProtocolError("hashes that were not asked for")
        if self.result is not None or index in self._runs or index >= self._next:
            raise RemoteProtocolError("hashes that were not asked for")
        end = self._run * _HASH
        nodes, proof = message.hashes[:end], message.hashes[end:]
        uncles = [proof[at : at + _HASH] for at in range(0, len(proof), _HASH)]
        top = merkle.root_of(nodes, height=self._height)
        if not merkle.is_proved(self.pieces_root, top, index // self._run, uncles):
            raise RemoteProtocolError("hashes that do not match the file")
        self._runs[index] = nodes
        if len(self._runs) * self._run < self.num_pieces:
            return False
        layer = b"".join(self._runs[index] for index in sorted(self._runs))
        self.result = layer[: self.num_pieces * _HASH]
        self._runs.clear()
        return True

    def _request(self, index: int) -> HashRequest:
        return HashRequest(self.pieces_root, self._height, index, self._run, self._levels - 1)

    def _answers(self, message: Hashes) -> bool:
        wanted = self._request(message.index)
        fields = (message.pieces_root, message.base_layer, message.length, message.proof_layers)
        size = (wanted.length + uncle_count(wanted.length, wanted.proof_layers)) * _HASH
        return len(message.hashes) == size and fields == (
            wanted.pieces_root,
            wanted.base_layer,
            wanted.length,
            wanted.proof_layers,
        )

    def __repr__(self) -> str:
        return f"<LayerAssembler {self.num_pieces} pieces, {len(self._runs)} runs there>"


class LayerFetch:
    """Fetches all piece layers that `metainfo` lacks, from one peer at a time."""

    def __init__(self, metainfo: Metainfo) -> None:
        self.layers: dict[bytes, bytes] = {}
        """Pieces root -> layer, proved: for `Metainfo.with_piece_layers`."""
        self._missing: dict[bytes, LayerAssembler] = {}
        self._unanswered = 0
        for number in metainfo.missing_layers():
            file = metainfo.files[number]
            if file.pieces_root is not None:
                self._missing[file.pieces_root] = LayerAssembler(
                    file.pieces_root, file.length, metainfo.geometry.piece_length
                )
        self._to_ask = list(reversed(self._missing.values()))

    @property
    def done(self) -> bool:
        """Whether nothing is missing any more."""
        return not self._missing

    def requests(self, queue: int = QUEUE) -> list[HashRequest]:
        """What to ask next, so that at most `queue` requests are unanswered."""
        found: list[HashRequest] = []
        while self._to_ask and self._unanswered < queue:
            more = self._to_ask[-1].requests(queue - self._unanswered)
            self._unanswered += len(more)
            found += more
            if not more:
                self._to_ask.pop()
        return found

    def ask_again(self) -> None:
        """What was asked and not answered is asked of another peer."""
        self._unanswered = 0
        self._to_ask = list(reversed(self._missing.values()))
        for assembler in self._to_ask:
            assembler.ask_again()

    def on_hashes(self, message: Hashes) -> bool:
        """Take one answer; True when nothing is missing any more.

        `RemoteProtocolError` when it was not asked for or does not prove itself.
        """
        assembler = self._missing.get(message.pieces_root)
        if assembler is None:
            raise RemoteProtocolError("hashes that were not asked for")
        if assembler.on_hashes(message) and assembler.result is not None:
            self.layers[message.pieces_root] = assembler.result
            del self._missing[message.pieces_root]
        self._unanswered -= 1
        return self.done

    def __repr__(self) -> str:
        return f"<LayerFetch {len(self.layers)} there, {len(self._missing)} missing>"


class HashServer:
    """Answers hash requests from the piece layers of `metainfo`, and layers above them.

    Block hashes (below the piece layer) are not kept, so requests for them are rejected here; who
    has the blocks can make them again (see `leaf_exchange`).
    """

    def __init__(self, metainfo: Metainfo) -> None:
        self._layers = metainfo.piece_layers
        self._height = merkle.piece_height(metainfo.geometry.piece_length)
        self._trees: dict[bytes, list[bytes]] = {}

    def answer(self, request: HashRequest) -> Hashes | HashReject:
        """The nodes and uncles that were asked for, or a reject."""
        fields = (
            request.pieces_root,
            request.base_layer,
            request.index,
            request.length,
            request.proof_layers,
        )
        hashes = self._hashes(request)
        return HashReject(*fields) if hashes is None else Hashes(*fields, hashes)

    def _hashes(self, request: HashRequest) -> bytes | None:
        index, length = request.index, request.length
        base = request.base_layer - self._height
        if base < 0 or not 2 <= length <= limits.MAX_HASHES or length & (length - 1):
            return None
        tree = self._tree(request.pieces_root)
        if tree is None:
            return None
        levels = len(tree) - 1 - base
        if levels < 1 or index % length or index + length > 1 << levels:
            return None
        if request.proof_layers >= levels:
            return None
        nodes = tree[base][index * _HASH : (index + length) * _HASH]
        padding = merkle.padding_hash(request.base_layer) * (length - len(nodes) // _HASH)
        uncles = [
            self._node(tree, base + level, (index >> level) ^ 1)
            for level in range(length.bit_length() - 1, request.proof_layers + 1)
        ]
        return nodes + padding + b"".join(uncles)

    def _node(self, tree: list[bytes], level: int, index: int) -> bytes:
        node = tree[level][index * _HASH : (index + 1) * _HASH]
        return node or merkle.padding_hash(self._height + level)

    def _tree(self, root: bytes) -> list[bytes] | None:
        """The piece layer and all layers above it, up to the root."""
        tree = self._trees.get(root)
        if tree is None:
            layer = self._layers.get(root)
            if layer is None:
                return None
            tree = [layer]
            while len(tree[-1]) > _HASH:
                tree.append(merkle.parent_layer(tree[-1], self._height + len(tree) - 1))
            if len(self._trees) >= _KEPT_TREES:
                del self._trees[next(iter(self._trees))]
            self._trees[root] = tree
        return tree
