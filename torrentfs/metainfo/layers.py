"""The piece layers of a v2 or hybrid torrent (BEP 52), believed only after they were proved.

A layer stands outside `info`, so its only proof is that it hashes to the file's pieces root. That
costs one SHA-256 for each piece, which is too much at the start for large torrents; so a layer that
came with a .torrent file is proved when it is first used, and a false one is then forgotten, as if
it had never been there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torrentfs.errors import InvalidTorrent
from torrentfs.metainfo import merkle


class PieceLayers(Mapping[bytes, bytes]):
    """Pieces root -> concatenated 32-byte hashes, one for each piece of that file.

    `KeyError` for a layer that is not known, or that proves to be false. Only files larger than a
    piece have one.
    """

    __slots__ = ("_layers", "_piece_length", "_proved", "_wanted")

    def __init__(
        self, piece_length: int, wanted: Mapping[bytes, int], layers: dict[bytes, bytes]
    ) -> None:
        self._piece_length = piece_length
        self._wanted = wanted
        self._layers = layers
        self._proved: set[bytes] = set()

    @classmethod
    def read(
        cls, layers: object, piece_length: int, roots: Sequence[bytes], lengths: Sequence[int]
    ) -> PieceLayers:
        """Take the layers that files need out of a torrent's `piece layers`."""
        wanted: dict[bytes, int] = {}
        for root, length in zip(roots, lengths, strict=False):
            if length > piece_length:
                size = -(-length // piece_length) * merkle.HASH_LENGTH
                if wanted.setdefault(root, size) != size:
                    raise InvalidTorrent("files of different sizes have the same pieces root")
        if not isinstance(layers, dict):
            layers = {}
        given = {}
        for root, size in wanted.items():
            layer = layers.get(root)
            if layer is None:
                continue
            if type(layer) is not bytes or len(layer) != size:
                raise InvalidTorrent("a piece layer of the torrent has a wrong length")
            given[root] = layer
        return cls(piece_length, wanted, given)

    def extended(self, layers: Mapping[bytes, bytes]) -> PieceLayers:
        """These layers and more; `InvalidTorrent` when one of the new is false or of no file."""
        for root, layer in layers.items():
            if len(layer) != self._wanted.get(root) or not self._proves(root, layer):
                raise InvalidTorrent("a piece layer does not match its file")
        twin = PieceLayers(self._piece_length, self._wanted, {**self._layers, **layers})
        twin._proved = {*self._proved, *layers}
        return twin

    def joined(self, other: PieceLayers) -> PieceLayers:
        """The layers of two .torrent files of the same torrent, proved or not; ours count first."""
        twin = PieceLayers(self._piece_length, self._wanted, {**other._layers, **self._layers})
        twin._proved = {*self._proved, *(other._proved - self._layers.keys())}
        return twin

    def stored(self) -> dict[bytes, bytes]:
        """All layers as they are, proved or not (to write a .torrent file)."""
        return dict(self._layers)

    def _proves(self, root: bytes, layer: bytes) -> bool:
        return merkle.layer_root(layer, self._piece_length) == root

    def __getitem__(self, root: bytes) -> bytes:
        layer = self._layers[root]
        if root not in self._proved:
            if not self._proves(root, layer):
                self._layers.pop(root, None)
                raise KeyError(root)
            self._proved.add(root)
        return layer

    def __contains__(self, root: object) -> bool:
        return root in self._layers

    def __iter__(self) -> Iterator[bytes]:
        return iter(tuple(self._layers))

    def __len__(self) -> int:
        return len(self._layers)

    def __repr__(self) -> str:
        return f"<PieceLayers {len(self._layers)}/{len(self._wanted)}>"
