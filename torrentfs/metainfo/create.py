"""Making torrents: v1 (BEP 3), v2 (BEP 52) and hybrid, from payload fed in piece by piece.

The builder never holds payload; it keeps hashes only (20 bytes a piece for v1, 32 a piece for v2).
The lists of files are bencoded by hand: as dictionaries, those of 100,000 files take 700 MB.
Pieces do not depend on each other: each has a `PieceHasher` of its own, which may run in any
thread, and its digest is `put` in any order. Whoever has the payload as one stream calls `update`.

A v2 or hybrid torrent lists its files in the order of its tree, so they must be given in that
order (`tree_order`). In a hybrid of several files a padding file (BEP 47) follows each that does
not end at a piece boundary, so that the next one starts there, as BEP 52 asks; the last one too, as
libtorrent has it, or the same files would have two info-hashes. Padding is hashed here and never
fed in.

`build_torrent` (in `torrent_file`) puts a .torrent file around what `finish` gives.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from torrentfs.metainfo import bencoding, limits, merkle
from torrentfs.metainfo.bitfield import Bitfield
from torrentfs.metainfo.geometry import BLOCK_LENGTH, Geometry
from torrentfs.metainfo.torrent_file import build_torrent

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

__all__ = ["TorrentBuilder", "build_torrent", "choose_piece_length", "tree_order"]

Path = tuple[str, ...]
Version = Literal["v1", "v2", "hybrid"]

_WANTED_PIECES = 2048
_MOST_PIECES = 1 << 18
_MAX_CHOSEN_PIECE_LENGTH = 16 * limits.MIB
_ZEROS = bytes(64 * limits.KIB)
_PROGRAM = b"4:attr1:x"


def choose_piece_length(total: int, padded: Iterable[int] = ()) -> int:
    """A power of two from 16 KiB to 16 MiB that gives `total` bytes about 2000 pieces at most.

    `padded` are the sizes of files that are filled up to whole pieces (hybrid): pieces are smaller
    then, so that this adds a tenth at most, within `_MOST_PIECES`.
    """
    length = limits.MIN_V2_PIECE_LENGTH
    while length < _MAX_CHOSEN_PIECE_LENGTH and total > length * _WANTED_PIECES:
        length *= 2
    sizes = tuple(padded)
    while (
        length > limits.MIN_V2_PIECE_LENGTH
        and 2 * total <= length * _MOST_PIECES
        and 10 * sum(-size % length for size in sizes) > total
    ):
        length //= 2
    return length


def tree_order(files: Iterable[tuple[Path, int]]) -> list[tuple[Path, int]]:
    """`files` in the order of a v2 file tree: by the bytes of their names, level by level."""
    return sorted(files, key=lambda file: raw_path(file[0]))


def raw_path(path: Sequence[str]) -> tuple[bytes, ...]:
    """Names as bytes; those that the file system could not decode get their own bytes back."""
    return tuple(name.encode("utf-8", "surrogateescape") for name in path)


class PieceDigest(NamedTuple):
    """What a piece hashes to: SHA-1 (v1) and its node of the merkle tree (v2); empty if neither."""

    sha1: bytes
    node: bytes


class PieceHasher:
    """Hashes the payload of one piece, fed in order in chunks of any size; for one thread.

    `padding` zeros follow the payload in v1. `width` is how many leaves the piece's part of the
    merkle tree has at least (v2).
    """

    __slots__ = ("_block", "_leaves", "_padding", "_room", "_sha1", "_width")

    def __init__(self, *, v1: bool, v2: bool, padding: int = 0, width: int = 1) -> None:
        self._sha1 = hashlib.sha1(usedforsecurity=False) if v1 else None
        self._leaves = bytearray() if v2 else None
        self._block = hashlib.sha256()
        self._room = BLOCK_LENGTH
        self._padding = padding
        self._width = width

    def update(self, data: merkle.Buffer) -> None:
        """Take the next bytes; large chunks are hashed with the GIL released."""
        if self._sha1 is not None:
            self._sha1.update(data)
        if self._leaves is None:
            return
        view = memoryview(data)
        if self._room < BLOCK_LENGTH:
            view = self._into_block(view)
        whole = len(view) - len(view) % BLOCK_LENGTH
        self._leaves += merkle.leaf_hashes(view[:whole])
        self._into_block(view[whole:])

    def _into_block(self, view: memoryview) -> memoryview:
        """Fill the block that was begun; what is left over is returned."""
        assert self._leaves is not None
        step = view[: self._room]
        self._block.update(step)
        self._room -= len(step)
        if not self._room:
            self._end_block()
        return view[len(step) :]

    def _end_block(self) -> None:
        assert self._leaves is not None
        self._leaves += self._block.digest()
        self._block = hashlib.sha256()
        self._room = BLOCK_LENGTH

    def finish(self) -> PieceDigest:
        """The digest of what was fed."""
        sha1 = node = b""
        if self._sha1 is not None:
            for begin in range(0, self._padding, len(_ZEROS)):
                self._sha1.update(_ZEROS[: self._padding - begin])
            sha1 = self._sha1.digest()
        if self._leaves is not None:
            if self._room < BLOCK_LENGTH:
                self._end_block()
            node = merkle.root_of(bytes(self._leaves), width=self._width)
        return PieceDigest(sha1, node)


class TorrentBuilder:
    """Builds the info dictionary of one torrent.

    `files` are (path, length in bytes), the path below the torrent's root; one file with the path
    `()` makes a single-file torrent. `executables` are numbers of files that are programs (BEP
    47). `ValueError` when the arguments make no torrent.

    Give the digest of each piece to `put`, or the payload of all files in order to `update`, in
    chunks of any size; then call `finish`.
    """

    def __init__(
        self,
        name: str,
        files: Sequence[tuple[Path, int]],
        piece_length: int,
        version: Version = "v1",
        *,
        private: bool = False,
        comment: str | None = None,
        source: str | None = None,
        executables: Collection[int] = (),
    ) -> None:
        self._has_v1 = version in ("v1", "hybrid")
        self._has_v2 = version in ("v2", "hybrid")
        _check(files, piece_length, in_tree_order=self._has_v2)
        self._name = name.encode("utf-8", "surrogateescape")
        self._files = [(raw_path(path), length) for path, length in files]
        self._single = not files[0][0]
        self._executables = frozenset(executables)
        lengths = [length for _, length in files]
        self.geometry = Geometry(piece_length, lengths, aligned=self._has_v2)
        """Where the payload lies; the padding of a hybrid is the gaps of an aligned geometry."""
        self._piece_length = piece_length
        self._extra: dict[bytes, object] = {}
        if private:
            self._extra[b"private"] = 1
        if comment is not None:
            self._extra[b"comment"] = comment
        if source is not None:
            self._extra[b"source"] = source
        pieces = self.geometry.num_pieces
        self._known = Bitfield(pieces)
        self._hashes = bytearray(20 * pieces if self._has_v1 else 0)
        self._nodes = bytearray(merkle.HASH_LENGTH * pieces if self._has_v2 else 0)
        self._streamed = 0
        self._begun: tuple[PieceHasher, int] | None = None

    def hasher(self, piece: int) -> PieceHasher:
        """A new hasher for the `geometry.piece_size(piece)` bytes of payload of a piece."""
        if not self._has_v2:
            return PieceHasher(v1=True, v2=False)
        start = piece * self._piece_length
        span = next(self.geometry.files_in(start, 1))
        length = self._files[span.file][1]
        ends_file = span.offset + self._piece_length >= length
        return PieceHasher(
            v1=self._has_v1,
            v2=True,
            padding=self._padding(span.file) if ends_file else 0,
            width=1
            if length <= self._piece_length
            else merkle.blocks_per_piece(self._piece_length),
        )

    def put(self, piece: int, digest: PieceDigest) -> None:
        """Take the digest of a piece; in any order."""
        if self._has_v1:
            self._hashes[20 * piece : 20 * (piece + 1)] = digest.sha1
        if self._has_v2:
            place = merkle.HASH_LENGTH * piece
            self._nodes[place : place + merkle.HASH_LENGTH] = digest.node
        self._known.add(piece)

    def update(self, data: merkle.Buffer) -> None:
        """Take the next bytes of the payload; `ValueError` when there are more than announced."""
        view = memoryview(data)
        while len(view):
            if self._begun is None:
                if self._streamed == self.geometry.num_pieces:
                    raise ValueError("there is more payload than the files hold")
                size = self.geometry.piece_size(self._streamed)
                self._begun = self.hasher(self._streamed), size
            hasher, room = self._begun
            step = view[:room]
            view = view[len(step) :]
            hasher.update(step)
            self._begun = hasher, room - len(step)
            if len(step) == room:
                self.put(self._streamed, hasher.finish())
                self._streamed += 1
                self._begun = None

    def finish(self) -> tuple[bytes, dict[bytes, bytes]]:
        """The bencoded info dictionary and the piece layers (v2, hybrid; empty for v1).

        `ValueError` when payload is missing.
        """
        if not self._known.complete:
            missing = self._known.size - self._known.count
            raise ValueError(f"the payload of {missing} pieces is missing")
        info: dict[bytes, object] = {
            **self._extra,
            b"name": self._name,
            b"piece length": self._piece_length,
        }
        if self._has_v1:
            info[b"pieces"] = bytes(self._hashes)
            if self._single:
                info[b"length"] = self._files[0][1]
                if self._executables:
                    info[b"attr"] = b"x"
            else:
                info[b"files"] = bencoding.encoded(self._v1_list())
        layers: dict[bytes, bytes] = {}
        if self._has_v2:
            info[b"meta version"] = 2
            info[b"file tree"] = bencoding.encoded(self._v2_tree(layers))
        return bencoding.encode(info), layers

    def _padding(self, number: int) -> int:
        """Zeros behind a file of a hybrid: none where there is no other file."""
        if len(self._files) == 1:
            return 0
        return -self._files[number][1] % self._piece_length

    def _v1_list(self) -> bytes:
        """`files` of BEP 3, bencoded."""
        parts = [b"l"]
        for number, (path, length) in enumerate(self._files):
            mark = _PROGRAM if number in self._executables else b""
            names = b"".join(map(_string, path))
            parts.append(b"d%s6:lengthi%de4:pathl%see" % (mark, length, names))
            padding = self._padding(number) if self._has_v2 else 0
            if padding:
                name = _string(b"%d" % padding)
                parts.append(b"d4:attr1:p6:lengthi%de4:pathl4:.pad%see" % (padding, name))
        parts.append(b"e")
        return b"".join(parts)

    def _v2_tree(self, layers: dict[bytes, bytes]) -> bytes:
        """`file tree` of BEP 52, bencoded; the files are in its order. Fills `layers`."""
        parts = [b"d"]
        above: tuple[bytes, ...] = ()
        for number, (path, length) in enumerate(self._files):
            *folders, name = path or (self._name,)
            common = _common(above, folders)
            parts.append(b"e" * (len(above) - common))
            parts += [_string(folder) + b"d" for folder in folders[common:]]
            above = tuple(folders)
            mark = _PROGRAM if number in self._executables else b""
            root = b""
            if length:
                root = b"11:pieces root" + _string(self._root(number, length, layers))
            parts.append(b"%sd0:d%s6:lengthi%de%see" % (_string(name), mark, length, root))
        parts.append(b"e" * (len(above) + 1))
        return b"".join(parts)

    def _root(self, number: int, length: int, layers: dict[bytes, bytes]) -> bytes:
        """The pieces root of a file; its layer is added to `layers` if it has one."""
        pieces = self.geometry.pieces_of_file(number)
        width = merkle.HASH_LENGTH
        layer = bytes(self._nodes[pieces.start * width : pieces.stop * width])
        if length <= self._piece_length:
            return layer
        root = merkle.layer_root(layer, self._piece_length)
        layers[root] = layer
        return root


def _string(data: bytes) -> bytes:
    return b"%d:%s" % (len(data), data)


def _common(one: Sequence[bytes], other: Sequence[bytes]) -> int:
    """How many names two paths share at their start."""
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        count += 1
    return count


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
        order = [raw_path(path) for path, _ in files]
        if order != sorted(set(order)):
            raise ValueError(
                "the files of a v2 torrent are in the order of tree_order(), each once"
            )
        if any(after[: len(path)] == path for path, after in pairwise(order)):
            raise ValueError("a name cannot be both a file and a directory")
