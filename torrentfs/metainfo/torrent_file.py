"""A torrent's metadata: from a .torrent file (BEP 3) or an info dictionary got from peers (BEP 9).

Three kinds: v1 (BEP 3), v2 (BEP 52), and hybrid, which is both at once over the same payload and is
addressed in its v1 form, padding files included. The info-hash is over the bytes of `info` as they
were received; they are kept and never encoded again.

What concerns the payload must be right, or the torrent is refused with one line (`InvalidTorrent`):
sizes, hashes, paths, and that both halves of a hybrid describe the same files. What is only advice
(trackers, web seeds, nodes, dates, comments) is used where it is well-formed and dropped where not.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torrentfs.errors import InvalidTorrent
from torrentfs.metainfo import advice, bencoding, limits
from torrentfs.metainfo.advice import Advice
from torrentfs.metainfo.bencoding import Cursor
from torrentfs.metainfo.files import FileColumns, FileTable
from torrentfs.metainfo.geometry import Geometry
from torrentfs.metainfo.hashes import InfoHashes
from torrentfs.metainfo.layers import PieceLayers
from torrentfs.metainfo.names import safe_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SHA1_LENGTH = 20


@dataclass(frozen=True, slots=True, eq=False)
class Metainfo:
    """Everything known about one torrent; immutable. Sizes in bytes.

    `name` is safe for a file system, `raw_name` is the torrent's own. `trackers` are tiers (BEP
    12). `piece_layers` maps a pieces root to its verified, concatenated hashes (BEP 52); it may
    lack some, which are then fetched from peers. `pieces_at` is where `pieces` begins in `info`.
    """

    info: bytes = field(repr=False)
    hashes: InfoHashes
    name: str
    raw_name: bytes
    files: FileTable
    geometry: Geometry
    is_single_file: bool
    has_v1: bool
    has_v2: bool
    private: bool
    piece_layers: PieceLayers
    pieces_at: int = field(repr=False)
    advice: Advice = field(repr=False)

    @property
    def trackers(self) -> tuple[tuple[str, ...], ...]:
        """Announce URLs in tiers (BEP 12)."""
        return self.advice.trackers

    @property
    def web_seeds(self) -> tuple[str, ...]:
        """`url-list` (BEP 19)."""
        return self.advice.web_seeds

    @property
    def http_seeds(self) -> tuple[str, ...]:
        """`httpseeds` (BEP 17)."""
        return self.advice.http_seeds

    @property
    def nodes(self) -> tuple[tuple[str, int], ...]:
        """DHT nodes (BEP 5)."""
        return self.advice.nodes

    @property
    def creation_date(self) -> int | None:
        """Seconds since 1970, as its maker claims."""
        return self.advice.creation_date

    @property
    def comment(self) -> str | None:
        """Free text without control characters."""
        return self.advice.comment

    @property
    def created_by(self) -> str | None:
        """The program that made the torrent, as it claims."""
        return self.advice.created_by

    @property
    def piece_hashes(self) -> bytes:
        """v1: 20 bytes for each piece, copied out of `info`; empty for v2-only."""
        if not self.has_v1:
            return b""
        return self.info[self.pieces_at : self.pieces_at + _SHA1_LENGTH * self.geometry.num_pieces]

    def piece_hash(self, piece: int) -> bytes:
        """What `piece` must hash to: SHA-1 (v1, hybrid), else its merkle root (v2).

        `IndexError` outside the torrent; `LookupError` when the piece layer is not known.
        """
        if not 0 <= piece < self.geometry.num_pieces:
            raise IndexError(piece)
        if self.has_v1:
            place = self.pieces_at + _SHA1_LENGTH * piece
            return self.info[place : place + _SHA1_LENGTH]
        file = self.file_of_piece(piece)
        root = self.files[file].pieces_root or b""
        if self.geometry.file_lengths[file] <= self.geometry.piece_length:
            return root
        place = 32 * (piece - self.geometry.file_starts[file] // self.geometry.piece_length)
        return self.piece_layers[root][place : place + 32]

    def file_of_piece(self, piece: int) -> int:
        """The first file that has a byte in `piece` (the only one in a v2-only torrent)."""
        start = piece * self.geometry.piece_length
        return next(self.geometry.files_in(start, self.geometry.piece_size(piece))).file

    def missing_layers(self) -> list[int]:
        """Files larger than a piece whose piece layer is not known: to be fetched (BEP 52)."""
        if not self.has_v2:
            return []
        lengths = self.geometry.file_lengths
        size = self.geometry.piece_length
        return [
            number
            for number, length in enumerate(lengths)
            if length > size
            and (root := self.files[number].pieces_root) is not None
            and root not in self.piece_layers
        ]

    def with_piece_layers(self, layers: Mapping[bytes, bytes]) -> Metainfo:
        """The same torrent with more piece layers; `InvalidTorrent` when one does not fit."""
        return dataclasses.replace(self, piece_layers=self.piece_layers.extended(layers))

    def renewed(self, other: Metainfo) -> Metainfo:
        """This torrent as another .torrent of it says where to ask, see `Advice.asking`.

        Piece layers are those of both; it is `self` if that changes nothing.
        """
        advice = self.advice.asking(other.advice)
        more = other.piece_layers.stored().keys() - self.piece_layers.stored().keys()
        if advice == self.advice and not more:
            return self
        layers = self.piece_layers.joined(other.piece_layers)
        return dataclasses.replace(self, advice=advice, piece_layers=layers)

    def to_torrent(self) -> bytes:
        """A .torrent file; the bytes of `info` are the received ones."""
        return build_torrent(self.info, self.piece_layers.stored(), **self.advice.fields())


def build_torrent(
    info: bytes,
    layers: Mapping[bytes, bytes] | None = None,
    *,
    trackers: Sequence[Sequence[str]] = (),
    web_seeds: Sequence[str] = (),
    http_seeds: Sequence[str] = (),
    nodes: Sequence[tuple[str, int]] = (),
    creation_date: int | None = None,
    comment: str | None = None,
    created_by: str | None = None,
) -> bytes:
    """A .torrent file around `info`, whose bytes go in as they are; `trackers` are tiers."""
    outer: dict[bytes, object] = {b"info": bencoding.encoded(info)}
    if trackers:
        outer[b"announce"] = trackers[0][0]
        if len(trackers) > 1 or len(trackers[0]) > 1:
            outer[b"announce-list"] = [list(tier) for tier in trackers]
    if web_seeds:
        outer[b"url-list"] = list(web_seeds)
    if http_seeds:
        outer[b"httpseeds"] = list(http_seeds)
    if nodes:
        outer[b"nodes"] = [list(node) for node in nodes]
    if creation_date is not None:
        outer[b"creation date"] = creation_date
    if comment is not None:
        outer[b"comment"] = comment
    if created_by is not None:
        outer[b"created by"] = created_by
    if layers:
        outer[b"piece layers"] = dict(layers)
    return bencoding.encode(outer)


def parse_torrent(data: bytes) -> Metainfo:
    """Read a .torrent file; `InvalidTorrent` (one line) when it is malformed or over a limit."""
    if len(data) > limits.MAX_TORRENT_BYTES:
        raise InvalidTorrent(f"the torrent file is over {limits.MAX_TORRENT_BYTES >> 20} MiB")
    cursor = Cursor(data)
    if not cursor.at_dictionary():
        raise InvalidTorrent("this is not a torrent file")
    reader: _InfoReader | None = None
    info = b""
    outer: dict[bytes, bencoding.Value] = {}
    for key in cursor.dictionary():
        start = cursor.position
        if key == b"info":
            reader = _InfoReader(cursor)
            info = data[start : cursor.position]
            reader.pieces_at -= start
        else:
            value = cursor.value()
            if key in advice.KEYS or key == b"piece layers":
                outer[key] = value
    if cursor.position != len(data) and data[cursor.position :].strip(b"\r\n \0"):
        raise InvalidTorrent("there are bytes behind the end of the torrent file")
    if reader is None:
        raise InvalidTorrent("the torrent file has no info dictionary")
    return _assemble(info, reader, Advice.read(outer), outer.get(b"piece layers"))


def parse_info(
    info: bytes,
    expect: InfoHashes | None = None,
    *,
    trackers: Sequence[Sequence[str]] = (),
    web_seeds: Sequence[str] = (),
    http_seeds: Sequence[str] = (),
    nodes: Sequence[tuple[str, int]] = (),
    creation_date: int | None = None,
    comment: str | None = None,
    created_by: str | None = None,
    piece_layers: Mapping[bytes, bytes] | None = None,
) -> Metainfo:
    """Read an info dictionary as peers give it (BEP 9); its hashes must match `expect`.

    `InvalidTorrent` when it is malformed, over a limit, or another torrent's.
    """
    if len(info) > limits.MAX_METADATA_BYTES:
        raise InvalidTorrent(f"the metadata is over {limits.MAX_METADATA_BYTES >> 20} MiB")
    info = bytes(info)
    if expect is not None:
        found = InfoHashes.of_info(info, v1=expect.v1 is not None, v2=expect.v2 is not None)
        if found != expect:
            raise InvalidTorrent("the metadata does not match its info-hash")
    cursor = Cursor(info)
    reader = _InfoReader(cursor)
    if cursor.position != len(info):
        raise InvalidTorrent("there are bytes behind the end of the metadata")
    told = Advice(
        trackers=tuple(tuple(tier) for tier in trackers if tier),
        web_seeds=tuple(web_seeds),
        http_seeds=tuple(http_seeds),
        nodes=tuple(nodes),
        creation_date=creation_date,
        comment=comment,
        created_by=created_by,
    )
    return _assemble(info, reader, told, dict(piece_layers or {}))


class _InfoReader:
    """The fields of an info dictionary, taken from a cursor that stands on it."""

    __slots__ = ("fields", "listed", "num_hash_bytes", "pieces_at", "tree")

    def __init__(self, cursor: Cursor) -> None:
        self.fields: dict[bytes, bencoding.Value] = {}
        self.listed: FileColumns | None = None
        self.tree: FileColumns | None = None
        self.pieces_at = 0
        self.num_hash_bytes: int | None = None
        if not cursor.at_dictionary():
            raise InvalidTorrent("the info dictionary of the torrent is malformed")
        for key in cursor.dictionary():
            if key == b"files" and cursor.at_list():
                self.listed = FileColumns()
                self.listed.read_list(cursor)
            elif key == b"file tree":
                self.tree = FileColumns()
                self.tree.read_tree(cursor)
            elif key == b"pieces" and cursor.at_string():
                self.pieces_at, end = cursor.string_span()
                self.num_hash_bytes = end - self.pieces_at
            else:
                self.fields[key] = cursor.value()

    def raw_name(self) -> bytes:
        """The torrent's name as UTF-8 where it has that, else as it is; may be empty."""
        name = self.fields.get(b"name.utf-8")
        if type(name) is bytes and name:
            try:
                name.decode()
            except UnicodeDecodeError:
                pass
            else:
                return name
        name = self.fields.get(b"name", b"")
        if type(name) is not bytes:
            raise InvalidTorrent("the name of the torrent is not a string")
        return name[: limits.MAX_PATH_BYTES]

    def piece_length(self) -> int:
        """Bytes of a piece."""
        length = self.fields.get(b"piece length")
        if type(length) is not int or not 0 < length <= limits.MAX_PIECE_LENGTH:
            raise InvalidTorrent(
                f"the piece length of the torrent is not 1 to {limits.MAX_PIECE_LENGTH} bytes"
            )
        return length

    def v1_files(self) -> tuple[FileColumns, bool]:
        """The files in v1 form, and whether this is a single-file torrent."""
        if self.listed is not None:
            if not len(self.listed.lengths):
                raise InvalidTorrent("the torrent has no files")
            return self.listed, False
        single = FileColumns()
        get = self.fields.get
        single.add((), self.raw_name(), get(b"length"), get(b"attr"), get(b"symlink path"))
        if single.is_pad(0):
            single.flags[0] = 0
            single.names.add((), self.raw_name())
        return single, True


def _assemble(info: bytes, reader: _InfoReader, told: Advice, layers: object) -> Metainfo:
    has_v2 = reader.fields.get(b"meta version") == 2 and reader.tree is not None
    has_v1 = reader.num_hash_bytes is not None
    if not has_v1 and not has_v2:
        version = reader.fields.get(b"meta version")
        if type(version) is int and version > 2:
            raise InvalidTorrent(f"the torrent is of version {version}, which is not known")
        raise InvalidTorrent("the torrent has neither piece hashes (v1) nor a file tree (v2)")
    piece_length = reader.piece_length()
    tree = reader.tree if has_v2 else None
    if has_v1:
        columns, single = reader.v1_files()
    else:
        assert tree is not None
        columns, single = tree, _is_single(tree, reader.raw_name())
    if tree is not None:
        _check_v2(tree, piece_length)
    if (columns.total // piece_length) + len(columns.lengths) * (not has_v1) > limits.MAX_PIECES:
        raise InvalidTorrent(f"the torrent has more than {limits.MAX_PIECES} pieces")
    geometry = Geometry(piece_length, columns.lengths, aligned=not has_v1)
    if has_v1 and reader.num_hash_bytes != _SHA1_LENGTH * geometry.num_pieces:
        raise InvalidTorrent(
            f"the torrent has {reader.num_hash_bytes} bytes of piece hashes "
            f"for {geometry.num_pieces} pieces"
        )
    roots: Sequence[bytes] = ()
    if tree is not None:
        roots = _roots_in_v1_order(tree, columns, geometry) if has_v1 else tree.roots
    hashes = InfoHashes.of_info(info, v1=has_v1, v2=has_v2)
    raw_name = reader.raw_name()
    files = FileTable(columns, geometry, single=single, roots=roots)
    return Metainfo(
        info=info,
        hashes=hashes,
        name=safe_name(raw_name) if raw_name else hashes.key,
        raw_name=raw_name,
        files=files,
        geometry=geometry,
        is_single_file=single,
        has_v1=has_v1,
        has_v2=has_v2,
        private=reader.fields.get(b"private") == 1,
        piece_layers=PieceLayers.read(layers, piece_length, roots, geometry.file_lengths),
        pieces_at=reader.pieces_at,
        advice=told,
    )


def _is_single(tree: FileColumns, name: bytes) -> bool:
    """A v2 torrent of one file in the root that has the torrent's name (as libtorrent has it)."""
    return (
        len(tree.lengths) == 1
        and not tree.is_pad(0)
        and tree.names.file_parents == [0]
        and tree.names.file_names == [name]
    )


def _check_v2(tree: FileColumns, piece_length: int) -> None:
    if not len(tree.lengths):
        raise InvalidTorrent("the torrent has no files")
    if piece_length < limits.MIN_V2_PIECE_LENGTH or piece_length & (piece_length - 1):
        raise InvalidTorrent("the piece length of a v2 torrent is a power of two from 16 KiB up")


def _roots_in_v1_order(
    tree: FileColumns, listed: FileColumns, geometry: Geometry
) -> Sequence[bytes]:
    """The pieces roots of a hybrid by v1 file number; refuses halves that do not agree."""
    mismatch = InvalidTorrent("the v1 and v2 halves of the torrent describe different files")
    if not tree.names.same_files(listed.names):
        raise mismatch
    roots = []
    place = 0
    for number, length in enumerate(listed.lengths):
        if listed.is_pad(number):
            roots.append(bytes(32))
            continue
        if length != tree.lengths[place] or (
            length and geometry.file_starts[number] % geometry.piece_length
        ):
            raise mismatch
        roots.append(tree.roots[place])
        place += 1
    return roots
