"""The files of a torrent: read from the v1 list (BEP 3) or the v2 tree (BEP 52), kept in columns.

Hundreds of thousands of files are kept as a few arrays, and a `File` is made when somebody asks for
one; so a file costs its path and some 30 bytes. Padding files (BEP 47) have no name of their own:
they are hidden, and nothing may be renamed because of them.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, overload

from torrentfs.errors import InvalidTorrent
from torrentfs.metainfo import limits
from torrentfs.metainfo.bencoding import PlainFile
from torrentfs.metainfo.merkle import HASH_LENGTH
from torrentfs.metainfo.names import NameTree, ResolvedNames, collision_key, safe_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torrentfs.metainfo.bencoding import Cursor, Value
    from torrentfs.metainfo.geometry import Geometry

_PAD, _EXECUTABLE, _HIDDEN, _SYMLINK = 1, 2, 4, 8
_ATTRIBUTES = {ord("p"): _PAD, ord("x"): _EXECUTABLE, ord("h"): _HIDDEN, ord("l"): _SYMLINK}
_BITCOMET_PAD = b"_____padding_file_"
_NO_ROOT = bytes(HASH_LENGTH)
_IS_PAD = bytes(bool(flags & _PAD) for flags in range(256))


class File(NamedTuple):
    """One file of a torrent; sizes in bytes.

    `path` has safe components below the torrent's root and is `()` in a single-file torrent, whose
    one entry is `Metainfo.name`. `start` is in piece space. `symlink` is the target of a symbolic
    link as safe components relative to the torrent's root, never leaving it. `pieces_root` is the
    top of the file's merkle tree (BEP 52), None for v1 and for empty files.
    """

    path: tuple[str, ...]
    length: int
    start: int
    pad: bool = False
    executable: bool = False
    hidden: bool = False
    symlink: tuple[str, ...] | None = None
    pieces_root: bytes | None = None
    changed_from: tuple[bytes, ...] | None = None

    @property
    def raw_path(self) -> tuple[bytes, ...]:
        """The components as the torrent has them (URLs of web seeds are made of these)."""
        if self.changed_from is not None:
            return self.changed_from
        return tuple(name.encode() for name in self.path)


class FileColumns:
    """Collects the files of one torrent, in its order, while it is being read."""

    __slots__ = ("flags", "lengths", "links", "names", "roots", "total")

    def __init__(self) -> None:
        self.names = NameTree()
        self.lengths = array("Q")
        self.flags = bytearray()
        self.links: dict[int, tuple[bytes, ...]] = {}
        self.roots: list[bytes] = []
        self.total = 0

    def add(
        self,
        directory: tuple[bytes, ...],
        name: bytes,
        length: object,
        attributes: Value = None,
        link: Value = None,
    ) -> None:
        """Add the next file; raise `InvalidTorrent` when a part of it is wrong."""
        flags = 0
        if attributes is not None:
            flags = _flags_of(attributes)
            if flags & _SYMLINK:
                length = 0  # BEP 47: a link takes no payload, whatever its length says
        if type(length) is not int or not 0 <= length <= limits.MAX_TORRENT_LENGTH:
            raise InvalidTorrent("a file of the torrent has no valid length")
        number = len(self.lengths)
        if number >= limits.MAX_FILES:
            raise InvalidTorrent(f"the torrent has more than {limits.MAX_FILES} files")
        self.total += length
        if self.total > limits.MAX_TORRENT_LENGTH:
            raise InvalidTorrent(f"the torrent is larger than {limits.MAX_TORRENT_LENGTH} bytes")
        if name.startswith(_BITCOMET_PAD):
            flags |= _PAD  # BitComet's padding files from before BEP 47
        if not flags & _PAD:
            self.names.add(directory, name)
        if flags & _SYMLINK:
            self.links[number] = _components_of(link) if link else ()
        self.lengths.append(length)
        self.flags.append(flags)

    def read_list(self, cursor: Cursor) -> None:
        """Read `files` of a v1 info dictionary."""
        checked: tuple[bytes, ...] | None = None
        for entry in cursor.plain_files():
            if type(entry) is PlainFile:
                length, directory, name = entry
                if directory is not checked or len(name) > limits.MAX_NAME_BYTES:
                    _check_path((*directory, name))
                    checked = directory
                self.add(directory, name, length)
                continue
            if type(entry) is not dict:
                raise InvalidTorrent("a file of the torrent is no dictionary")
            path = entry.get(b"path.utf-8")
            if path is None or not _is_utf8(path):
                path = entry.get(b"path")
            *parents, name = _check_path(path)
            get = entry.get
            self.add(tuple(parents), name, get(b"length"), get(b"attr"), get(b"symlink path"))

    def read_tree(self, cursor: Cursor, path: tuple[bytes, ...] = ()) -> None:
        """Read `file tree` of a v2 info dictionary, or the directory `path` of it."""
        if len(path) > limits.MAX_PATH_DEPTH:
            raise InvalidTorrent(f"a path of the torrent has over {limits.MAX_PATH_DEPTH} parts")
        if not cursor.at_dictionary():
            raise InvalidTorrent("the file tree of the torrent is malformed")
        is_file = False
        count = 0
        for name in cursor.dictionary():
            count += 1
            if name or not path:
                leaf = cursor.plain_leaf()
                if leaf is None:
                    self.read_tree(cursor, (*path, name))
                else:
                    _check_path((*path, name))
                    self.add(path, name, leaf[0])
                    self._add_root(leaf[1])
            else:
                is_file = True
                self._add_leaf(path, cursor.value())
        if is_file and count > 1:
            raise InvalidTorrent("a name in the file tree is both a file and a directory")

    def _add_leaf(self, path: tuple[bytes, ...], entry: Value) -> None:
        if type(entry) is not dict:
            raise InvalidTorrent("a file of the torrent is no dictionary")
        *parents, name = _check_path(path)
        get = entry.get
        self.add(tuple(parents), name, get(b"length"), get(b"attr"), get(b"symlink path"))
        self._add_root(entry.get(b"pieces root"))

    def _add_root(self, root: Value) -> None:
        if not self.lengths[-1]:
            root = _NO_ROOT
        elif type(root) is not bytes or len(root) != HASH_LENGTH or root == _NO_ROOT:
            raise InvalidTorrent("a file of the torrent has no valid pieces root")
        self.roots.append(root)

    def is_pad(self, number: int) -> bool:
        """True for a padding file."""
        return bool(self.flags[number] & _PAD)


class FileTable(Sequence[File]):
    """All files of a torrent, in its order; a `File` is made anew at each access."""

    __slots__ = ("_flags", "_geometry", "_links", "_pad_directory", "_paths", "_raw", "_roots")

    def __init__(
        self, columns: FileColumns, geometry: Geometry, *, single: bool, roots: Sequence[bytes]
    ) -> None:
        resolved = columns.names.resolve()
        self._geometry = geometry
        self._flags = bytes(columns.flags)
        self._roots = b"".join(roots)
        self._pad_directory = _pad_directory(resolved) if any(_pads(columns.flags)) else ""
        self._paths, self._raw = _spread(columns.flags, resolved)
        self._links = {
            number: _link_target(link, resolved) for number, link in columns.links.items()
        }
        if single:
            self._raw = {0: columns.names.raw_path(0)}
            self._paths = [()]

    def __len__(self) -> int:
        return len(self._flags)

    @overload
    def __getitem__(self, index: int) -> File: ...
    @overload
    def __getitem__(self, index: slice) -> list[File]: ...
    def __getitem__(self, index: int | slice) -> File | list[File]:
        if isinstance(index, slice):
            return [self._file(number) for number in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._file(index)

    def __iter__(self) -> Iterator[File]:
        return map(self._file, range(len(self)))

    def _file(self, number: int) -> File:
        geometry = self._geometry
        path = self._paths[number]
        flags = self._flags[number]
        root = None
        if self._roots:
            root = self._roots[number * HASH_LENGTH : (number + 1) * HASH_LENGTH]
            if root == _NO_ROOT:
                root = None
        if path is None:
            path = (self._pad_directory, str(number))
        raw = self._raw.get(number) if self._raw else None
        length, start = geometry.file_lengths[number], geometry.file_starts[number]
        if not flags:
            return File(path, length, start, pieces_root=root, changed_from=raw)
        return File(
            path,
            length,
            start,
            pad=bool(flags & _PAD),
            executable=bool(flags & _EXECUTABLE),
            hidden=bool(flags & _HIDDEN),
            symlink=self._links.get(number),
            pieces_root=root,
            changed_from=raw,
        )

    @property
    def num_pads(self) -> int:
        """How many are padding."""
        return self._flags.translate(_IS_PAD).count(1)

    def __repr__(self) -> str:
        return f"<FileTable of {len(self)} files>"


def _flags_of(attributes: Value) -> int:
    if type(attributes) is not bytes:
        return 0
    flags = 0
    for letter in attributes[:64]:
        flags |= _ATTRIBUTES.get(letter, 0)
    return flags


def _check_path(path: Value) -> Sequence[bytes]:
    if (type(path) is not list and type(path) is not tuple) or not path:
        raise InvalidTorrent("a file of the torrent has no path")
    if len(path) > limits.MAX_PATH_DEPTH:
        raise InvalidTorrent(f"a path of the torrent has over {limits.MAX_PATH_DEPTH} parts")
    size = 0
    for name in path:
        if type(name) is not bytes:
            raise InvalidTorrent("a path of the torrent is not made of strings")
        size += len(name)
    if size > limits.MAX_PATH_BYTES:
        raise InvalidTorrent(f"a path of the torrent has over {limits.MAX_PATH_BYTES} bytes")
    return path


def _is_utf8(path: Value) -> bool:
    if type(path) is not list or not path:
        return False
    try:
        for name in path:
            if type(name) is not bytes:
                return False
            name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _components_of(link: Value) -> tuple[bytes, ...]:
    return tuple(_check_path(link))


def _pads(flags: bytearray) -> Iterator[int]:
    return (flag & _PAD for flag in flags)


def _spread(
    flags: bytearray, resolved: ResolvedNames
) -> tuple[list[tuple[str, ...] | None], dict[int, tuple[bytes, ...]]]:
    """Paths and changed raw paths by file number; None as the path of a padding file."""
    paths: list[tuple[str, ...] | None] = list(resolved.paths)
    if len(paths) == len(flags):
        return paths, resolved.raw_paths
    named = [number for number, flag in enumerate(flags) if not flag & _PAD]
    paths = [None] * len(flags)
    for number, path in zip(named, resolved.paths, strict=True):
        paths[number] = path
    return paths, {named[place]: raw for place, raw in resolved.raw_paths.items()}


def _pad_directory(resolved: ResolvedNames) -> str:
    """A name for the directory of padding files that no real file has."""
    name = ".pad"
    taken = resolved.top_level_keys()
    while collision_key(name) in taken:
        name += "_"
    return name


def _link_target(raw: tuple[bytes, ...], resolved: ResolvedNames) -> tuple[str, ...] | None:
    """The target as safe components below the root; None when it would lead out of it."""
    path: list[bytes] = []
    for name in raw:
        if name == b"..":
            if not path:
                return None
            path.pop()
        elif name not in (b"", b"."):
            path.append(name)
    if not path:
        return None
    target = tuple(path)
    return resolved.entry(target) or tuple(safe_name(name) for name in target)
