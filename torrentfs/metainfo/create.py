"""Making torrents: v1 (BEP 3), v2 (BEP 52) and hybrid, from payload fed in as it is read.

The builder never holds payload; it keeps hashes only (20 bytes a piece for v1, 32 a piece for v2).
A v2 or hybrid torrent lists its files in the order of its tree, so they must be given in that order
(`tree_order`). In a hybrid a padding file (BEP 47) follows each file but the last, where needed, so
that the next one starts at a piece boundary, as BEP 52 asks.

`build_torrent` (in `torrent_file`) puts a .torrent file around what `finish` gives.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal

from torrentfs.metainfo import bencoding, limits, merkle
from torrentfs.metainfo.geometry import BLOCK_LENGTH
from torrentfs.metainfo.torrent_file import build_torrent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["TorrentBuilder", "build_torrent", "choose_piece_length", "tree_order"]

Path = tuple[str, ...]

_WANTED_PIECES = 2048
_MAX_CHOSEN_PIECE_LENGTH = 16 * limits.MIB


def choose_piece_length(total: int) -> int:
    """A power of two from 16 KiB to 16 MiB that gives `total` bytes about 2000 pieces at most."""
    length = limits.MIN_V2_PIECE_LENGTH
    while length < _MAX_CHOSEN_PIECE_LENGTH and total > length * _WANTED_PIECES:
        length *= 2
    return length


def tree_order(files: Iterable[tuple[Path, int]]) -> list[tuple[Path, int]]:
    """`files` in the order of a v2 file tree: by the bytes of their names, level by level."""
    return sorted(files, key=lambda file: _raw(file[0]))


def _raw(path: Sequence[str]) -> tuple[bytes, ...]:
    """Names as bytes; those that the file system could not decode get their own bytes back."""
    return tuple(name.encode("utf-8", "surrogateescape") for name in path)


class TorrentBuilder:
    """Builds the info dictionary of one torrent.

    `files` are (path, length in bytes), the path below the torrent's root; one file with the path
    `()` makes a single-file torrent. Feed the payload of all files in that order to `update`, in
    chunks of any size, then call `finish`. `ValueError` when the arguments make no torrent.
    """

    def __init__(
        self,
        name: str,
        files: Sequence[tuple[Path, int]],
        piece_length: int,
        version: Literal["v1", "v2", "hybrid"] = "v1",
        *,
        private: bool = False,
        comment: str | None = None,
        source: str | None = None,
    ) -> None:
        self._has_v1 = version in ("v1", "hybrid")
        self._has_v2 = version in ("v2", "hybrid")
        _check(files, piece_length, in_tree_order=self._has_v2)
        self._name = name.encode("utf-8", "surrogateescape")
        self._files = [(_raw(path), length) for path, length in files]
        self._single = not files[0][0]
        self._last_with_payload = max(
            (number for number, (_, length) in enumerate(files) if length), default=0
        )
        self._piece_length = piece_length
        self._extra: dict[bytes, object] = {}
        if private:
            self._extra[b"private"] = 1
        if comment is not None:
            self._extra[b"comment"] = comment
        if source is not None:
            self._extra[b"source"] = source
        self._pieces = _PieceHasher(piece_length)
        self._tree = _TreeHasher(piece_length)
        self._roots: list[bytes] = []
        self._layers: dict[bytes, bytes] = {}
        self._file = 0
        self._left = self._files[0][1]
        self._end_files()

    def update(self, data: merkle.Buffer) -> None:
        """Take the next bytes of the payload; `ValueError` when there are more than announced."""
        view = memoryview(data)
        while len(view):
            if self._file == len(self._files):
                raise ValueError("there is more payload than the files hold")
            step = view[: self._left]
            view = view[len(step) :]
            self._left -= len(step)
            if self._has_v1:
                self._pieces.update(step)
            if self._has_v2:
                self._tree.update(step)
            self._end_files()

    def finish(self) -> tuple[bytes, dict[bytes, bytes]]:
        """The bencoded info dictionary and the piece layers (v2, hybrid; empty for v1).

        `ValueError` when payload is missing.
        """
        if self._file != len(self._files):
            raise ValueError(f"{self._left} bytes of file number {self._file} are missing")
        info: dict[bytes, object] = {
            **self._extra,
            b"name": self._name,
            b"piece length": self._piece_length,
        }
        if self._has_v1:
            info[b"pieces"] = self._pieces.finish()
            if self._single:
                info[b"length"] = self._files[0][1]
            else:
                info[b"files"] = self._v1_list()
        if self._has_v2:
            info[b"meta version"] = 2
            info[b"file tree"] = self._v2_tree()
        return bencoding.encode(info), self._layers

    def _end_files(self) -> None:
        """Close the current file if it is whole, and all empty ones behind it."""
        while self._file < len(self._files) and not self._left:
            length = self._files[self._file][1]
            if self._has_v2:
                root, layer = self._tree.finish_file()
                self._roots.append(root)
                if length > self._piece_length:
                    self._layers[root] = layer
            if self._has_v1 and self._has_v2:
                self._pieces.update(bytes(self._padding(self._file)))
            self._file += 1
            if self._file < len(self._files):
                self._left = self._files[self._file][1]

    def _padding(self, number: int) -> int:
        """Zeros behind a file of a hybrid: none where no payload follows."""
        if number >= self._last_with_payload:
            return 0
        return -self._files[number][1] % self._piece_length

    def _v1_list(self) -> list[dict[bytes, object]]:
        entries: list[dict[bytes, object]] = []
        for number, (path, length) in enumerate(self._files):
            entries.append({b"length": length, b"path": list(path)})
            padding = self._padding(number) if self._has_v2 else 0
            if padding:
                name = b"%d" % padding
                entries.append({b"attr": b"p", b"length": padding, b"path": [b".pad", name]})
        return entries

    def _v2_tree(self) -> dict[bytes, object]:
        tree: dict[bytes, object] = {}
        for (path, length), root in zip(self._files, self._roots, strict=True):
            node = tree
            for name in path or (self._name,):
                child = node.setdefault(name, {})
                assert isinstance(child, dict)
                node = child
            leaf: dict[bytes, object] = {b"length": length}
            if length:
                leaf[b"pieces root"] = root
            node[b""] = leaf
        return tree


class _PieceHasher:
    """SHA-1 of each piece of a stream (v1)."""

    def __init__(self, piece_length: int) -> None:
        self._piece_length = piece_length
        self._room = piece_length
        self._digest = hashlib.sha1(usedforsecurity=False)
        self._hashes = bytearray()

    def update(self, data: merkle.Buffer) -> None:
        view = memoryview(data)
        while len(view):
            step = view[: self._room]
            view = view[len(step) :]
            self._digest.update(step)
            self._room -= len(step)
            if not self._room:
                self._close()

    def finish(self) -> bytes:
        if self._room < self._piece_length:
            self._close()
        return bytes(self._hashes)

    def _close(self) -> None:
        self._hashes += self._digest.digest()
        self._digest = hashlib.sha1(usedforsecurity=False)
        self._room = self._piece_length


class _TreeHasher:
    """Merkle tree of each file of a stream (v2): the leaves of one piece and the nodes above."""

    def __init__(self, piece_length: int) -> None:
        self._piece_length = piece_length
        self._width = merkle.blocks_per_piece(piece_length) * merkle.HASH_LENGTH
        self._start()

    def _start(self) -> None:
        self._room = BLOCK_LENGTH
        self._digest = hashlib.sha256()
        self._leaves = bytearray()
        self._layer = bytearray()

    def update(self, data: merkle.Buffer) -> None:
        view = memoryview(data)
        while len(view):
            step = view[: self._room]
            view = view[len(step) :]
            if len(self._leaves) == self._width:
                self._close_piece()
            self._digest.update(step)
            self._room -= len(step)
            if not self._room:
                self._close_block()

    def finish_file(self) -> tuple[bytes, bytes]:
        """(pieces root, piece layer) of the file that ends here; two empty ones if it is empty."""
        if self._room < BLOCK_LENGTH:
            self._close_block()
        root = layer = b""
        if self._layer:
            self._close_piece()
            layer = bytes(self._layer)
            root = merkle.layer_root(layer, self._piece_length)
        elif self._leaves:
            root = merkle.root_of(bytes(self._leaves))
        self._start()
        return root, layer

    def _close_block(self) -> None:
        self._leaves += self._digest.digest()
        self._digest = hashlib.sha256()
        self._room = BLOCK_LENGTH

    def _close_piece(self) -> None:
        width = self._width // merkle.HASH_LENGTH
        self._layer += merkle.root_of(bytes(self._leaves), width=width)
        self._leaves.clear()


def _check(files: Sequence[tuple[Path, int]], piece_length: int, *, in_tree_order: bool) -> None:
    if not files:
        raise ValueError("a torrent has at least one file")
    if len(files) > 1 and any(not path for path, _ in files):
        raise ValueError("each file of several has a path")
    if any(length < 0 for _, length in files):
        raise ValueError("a file has no negative length")
    if not 0 < piece_length <= limits.MAX_PIECE_LENGTH:
        raise ValueError(f"a piece has 1 to {limits.MAX_PIECE_LENGTH} bytes")
    if in_tree_order:
        if piece_length < limits.MIN_V2_PIECE_LENGTH or piece_length & (piece_length - 1):
            raise ValueError("a piece of a v2 torrent has a power of two of bytes, 16 KiB or more")
        order = [_raw(path) for path, _ in files]
        if order != sorted(set(order)):
            raise ValueError(
                "the files of a v2 torrent are in the order of tree_order(), each once"
            )
