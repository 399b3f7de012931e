"""The inode tree of a mount: what exists, under which name, number and attributes. Pure.

The root holds one entry per torrent: a file for a single-file torrent, else a directory.

**Names are identity** (media servers key their libraries by path), so they follow from the
torrents alone. Torrents are taken in the order of (time first added, info-hash): the first of a
name keeps it, each later one gets ` [first 8 hex digits of its info-hash]`. Names that differ
only in case or Unicode normalisation collide too, for the sake of clients on other systems. A
torrent that joins a running mount never renames another.

**Inodes** are 63 bits: 37 of a hash of the info-hash, then 26 of the node's number inside the
torrent, which the info dictionary fixes (see branch.py). So a path has the same inode in every
mount; inside a torrent numbers cannot collide; two torrents that share the 37 bits (one chance
in 3,000 with 10,000 torrents) are kept apart by hashing the later one again, in the same order
as for names. Prefix 0 is the mount's own: inode 1 is the root.

**Times** never move: they are the persisted time of adding, or with `mtime="created"` the
torrent's own date. The root's are those of the last addition or removal.

Errors are the builtin `FileNotFoundError`, `NotADirectoryError` and `IsADirectoryError`.
"""

from __future__ import annotations

import hashlib
import stat
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from torrentfs.vfs.branch import DIRECTORY, LOCAL_BITS, Branch, Volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torrentfs.metainfo.torrent_file import Metainfo

__all__ = ["ROOT", "Attributes", "Entry", "Listing", "Tree", "TreeOptions", "Volume"]

ROOT = 1
"""The root's inode, fixed by FUSE."""
BLOCK_SIZE = 512
"""The unit of `st_blocks`, fixed by stat(2)."""
NAME_MAX = 255
"""Longest name in bytes that Linux accepts."""

_PREFIX_BITS = 63 - LOCAL_BITS
_LOCAL_MASK = (1 << LOCAL_BITS) - 1
_LAST_SECOND = 253_402_300_799
"""End of the year 9999: a creation date beyond it is a lie."""


@dataclass(frozen=True, slots=True)
class TreeOptions:
    """How nodes look: owner, `umask` taken from 0444/0555, and which date they carry."""

    uid: int = 0
    gid: int = 0
    umask: int = 0o022
    mtime: Literal["added", "created"] = "added"


class Attributes(NamedTuple):
    """What stat(2) tells of a node; one time serves as mtime, ctime and atime."""

    inode: int
    mode: int
    nlink: int
    size: int
    blocks: int
    time_ns: int


class Entry(NamedTuple):
    """A line of a directory listing; `next_id` resumes the listing behind it."""

    name: bytes
    attributes: Attributes
    next_id: int


class Tree:
    """All nodes of a mount. Methods take inodes and never block."""

    def __init__(
        self,
        options: TreeOptions | None = None,
        volumes: Iterable[Volume] = (),
        *,
        changed: float = 0.0,
    ) -> None:
        self.options = options or TreeOptions()
        self._branches: dict[int, Branch] = {}  # prefix -> branch
        self._by_key: dict[str, int] = {}  # info-hash key -> prefix
        self._by_name: dict[str, int] = {}  # entry name -> prefix
        self._taken: dict[str, str] = {}  # folded entry name -> info-hash key
        self._changed = changed
        keep = ~self.options.umask
        self._file_mode = stat.S_IFREG | (0o444 & keep)
        self._program_mode = stat.S_IFREG | (0o555 & keep)
        self._directory_mode = stat.S_IFDIR | (0o555 & keep)
        self._times: dict[int, int] = {}
        for volume in sorted(volumes, key=lambda v: (v.added, v.metainfo.hashes.key)):
            self.add(volume)

    def __repr__(self) -> str:
        return f"<Tree of {len(self._branches)} torrents>"

    # -- what is in it

    def add(self, volume: Volume, select: Iterable[int] = ()) -> str:
        """Show `volume`, or of it the files whose indexes are in `select`; return its entry.

        Raises `ValueError` if the torrent is shown already.
        """
        key = volume.metainfo.hashes.key
        if key in self._by_key:
            raise ValueError(f"torrent {key} is in the tree already")
        name = self._free_name(volume.metainfo.name, key)
        prefix = self._free_prefix(key)
        self._branches[prefix] = Branch(volume, select, name, prefix)
        self._by_key[key] = prefix
        self._by_name[name] = prefix
        self._taken[_fold(name)] = key
        self._times[prefix] = _time_ns(volume.metainfo, volume.added, self.options.mtime)
        self._changed = max(self._changed, volume.added)
        return name

    def remove(self, key: str, now: float) -> tuple[str, int]:
        """Stop showing the torrent of info-hash `key` at Unix time `now`.

        Returns its entry and inode, to be dropped from the kernel's caches. Raises `KeyError`.
        """
        prefix = self._by_key.pop(key)
        branch = self._branches.pop(prefix)
        del self._by_name[branch.name], self._taken[_fold(branch.name)], self._times[prefix]
        self._changed = max(self._changed, now)
        return branch.name, branch.base | branch.root

    @property
    def volumes(self) -> Sequence[Volume]:
        """The torrents shown."""
        return [branch.volume for branch in self._branches.values()]

    def entry_of(self, key: str) -> str:
        """The name in the root of the torrent of info-hash `key`. Raises `KeyError`."""
        return self._branches[self._by_key[key]].name

    def totals(self) -> tuple[int, int]:
        """(number of files, bytes in them) of all torrents."""
        totals = [branch.totals() for branch in self._branches.values()]
        return sum(files for files, _ in totals), sum(size for _, size in totals)

    # -- questions of the kernel

    def lookup(self, parent: int, name: bytes) -> int:
        """The inode of `name` in directory `parent`; `.` and `..` are names too."""
        text = name.decode("utf-8", "surrogateescape")
        if parent == ROOT:
            if text in (".", ".."):
                return ROOT
            prefix = self._by_name.get(text)
            if prefix is None:
                raise FileNotFoundError(text)
            branch = self._branches[prefix]
            return branch.base | branch.root
        branch, number = self._directory(parent)
        if text == ".":
            return parent
        if text == "..":
            return self.parent(parent)
        child = branch.lookup(number, text)
        if child is None:
            raise FileNotFoundError(text)
        return branch.base | child

    def attributes(self, inode: int) -> Attributes:
        """What stat(2) tells of `inode`."""
        if inode == ROOT:
            directories = sum(branch.is_directory for branch in self._branches.values())
            time_ns = _to_ns(self._changed)
            return Attributes(ROOT, self._directory_mode, 2 + directories, 0, 0, time_ns)
        branch, number = self._node(inode)
        return self._describe(branch, number)

    def listing(self, inode: int) -> Listing:
        """A listing of directory `inode` as it is now; later changes do not reach it."""
        if inode == ROOT:
            return Listing(self, ROOT, ROOT, list(self._branches.values()))
        branch, number = self._directory(inode)
        return Listing(self, inode, self.parent(inode), branch, branch.directory(number).children)

    def parent(self, inode: int) -> int:
        """The inode of the directory that holds `inode`; the root holds itself."""
        if inode == ROOT:
            return ROOT
        branch, number = self._node(inode)
        parent = branch.parent_of(number)
        return ROOT if parent is None else branch.base | parent

    def file(self, inode: int) -> tuple[Volume, int, int]:
        """(torrent, index of the file in it, size in bytes) of a file that can be opened."""
        if inode == ROOT:
            raise IsADirectoryError("/")
        branch, number = self._node(inode)
        if number & DIRECTORY:
            raise IsADirectoryError(branch.name_of(number))
        return branch.volume, number, branch.file(number).length

    def volume(self, inode: int) -> tuple[Volume, int | None] | None:
        """(torrent, index of the file or None for a directory) of `inode`; None for the root."""
        if inode == ROOT:
            return None
        branch, number = self._node(inode)
        return branch.volume, None if number & DIRECTORY else number

    def link_target(self, inode: int) -> bytes | None:
        """Where the symlink `inode` points; None if it is none."""
        if inode == ROOT:
            return None
        branch, number = self._node(inode)
        if number & DIRECTORY:
            return None
        target = branch.link_target(number)
        return None if target is None else _encode(target)

    # -- for people and tests

    def path_of(self, inode: int) -> tuple[str, ...]:
        """The names that lead from the root to `inode`."""
        names: list[str] = []
        while inode != ROOT:
            branch, number = self._node(inode)
            names.append(branch.name_of(number))
            inode = self.parent(inode)
        return tuple(reversed(names))

    def resolve(self, path: Iterable[str]) -> int:
        """The inode that the names `path` lead to from the root."""
        inode = ROOT
        for name in path:
            inode = self.lookup(inode, _encode(name))
        return inode

    # -- inside

    def _node(self, inode: int) -> tuple[Branch, int]:
        branch = self._branches.get(inode >> LOCAL_BITS)
        number = inode & _LOCAL_MASK
        if branch is None or not branch.exists(number):
            raise FileNotFoundError(f"inode {inode}")
        return branch, number

    def _directory(self, inode: int) -> tuple[Branch, int]:
        branch, number = self._node(inode)
        if not number & DIRECTORY:
            raise NotADirectoryError(branch.name_of(number))
        return branch, number

    def _describe(self, branch: Branch, number: int) -> Attributes:
        """Attributes of a node that exists."""
        inode = branch.base | number
        time_ns = self._times.get(inode >> LOCAL_BITS, 0)
        if number & DIRECTORY:
            nlink = 2 + branch.directory(number).subdirectories
            return Attributes(inode, self._directory_mode, nlink, 0, 0, time_ns)
        file = branch.file(number)
        if file.symlink is not None:
            target = branch.link_target(number)
            if target is not None:
                size = len(_encode(target))
                return Attributes(inode, stat.S_IFLNK | 0o777, 1, size, 0, time_ns)
        mode = self._program_mode if file.executable else self._file_mode
        blocks = -(-file.length // BLOCK_SIZE)
        return Attributes(inode, mode, 1, file.length, blocks, time_ns)

    def _free_name(self, name: str, key: str) -> str:
        if _fold(name) not in self._taken:
            return name
        for digits in (8, 16, 24, 32, len(key)):
            suffix = f" [{key[:digits]}]"
            candidate = _clip(name, NAME_MAX - len(suffix)) + suffix
            if _fold(candidate) not in self._taken:
                return candidate
        raise ValueError(f"no free name for torrent {key}")

    def _free_prefix(self, key: str) -> int:
        salt = 0
        while True:
            digest = hashlib.blake2b(f"{key}/{salt}".encode(), digest_size=8).digest()
            prefix = int.from_bytes(digest, "big") >> (64 - _PREFIX_BITS)
            if prefix and prefix not in self._branches:
                return prefix
            salt += 1


class Listing:
    """An open directory: `.`, `..`, then its entries, each with the place where it ends.

    Places are positions in a sequence that never changes, so a listing resumed at any place it
    has given skips nothing and repeats nothing.
    """

    __slots__ = ("_branch", "_children", "_inode", "_parent", "_torrents", "_tree")

    def __init__(
        self,
        tree: Tree,
        inode: int,
        parent: int,
        content: Branch | list[Branch],
        children: Sequence[int] = (),
    ) -> None:
        self._tree = tree
        self._inode = inode
        self._parent = parent
        self._branch = content if isinstance(content, Branch) else None
        self._torrents = content if isinstance(content, list) else []
        self._children = children

    def __len__(self) -> int:
        return 2 + (len(self._torrents) if self._branch is None else len(self._children))

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """The entries from place `start` on (0, or a `next_id` of this listing)."""
        describe = self._tree._describe
        if start <= 0:
            yield Entry(b".", self._about(self._inode), 1)
        if start <= 1:
            yield Entry(b"..", self._about(self._parent), 2)
        first = max(start, 2)
        if self._branch is None:
            for place in range(first, 2 + len(self._torrents)):
                torrent = self._torrents[place - 2]
                name = _encode(torrent.name)
                yield Entry(name, describe(torrent, torrent.root), place + 1)
            return
        branch, children = self._branch, self._children
        for place in range(first, 2 + len(children)):
            number = children[place - 2]
            name = branch.name_of(number).encode("utf-8", "surrogateescape")
            yield Entry(name, describe(branch, number), place + 1)

    def _about(self, inode: int) -> Attributes:
        try:
            return self._tree.attributes(inode)
        except FileNotFoundError:  # the torrent was removed while its directory is open
            return Attributes(inode, stat.S_IFDIR | 0o555, 2, 0, 0, 0)


def _encode(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _fold(name: str) -> str:
    """What two names share when some system cannot tell them apart."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _clip(name: str, size: int) -> str:
    """`name`, cut at a character's end to at most `size` bytes."""
    return _encode(name)[:size].decode("utf-8", "ignore") if len(_encode(name)) > size else name


def _to_ns(seconds: float) -> int:
    """Whole milliseconds: what a float of the present surely holds."""
    return round(seconds * 1000) * 1_000_000


def _time_ns(metainfo: Metainfo, added: float, which: str) -> int:
    created = metainfo.creation_date
    if which == "created" and created is not None and 0 < created <= _LAST_SECOND:
        return created * 1_000_000_000
    return _to_ns(added)
