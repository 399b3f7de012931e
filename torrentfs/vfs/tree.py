"""The inode tree of a mount: what exists, under which name, number and attributes. Pure.

A torrent lies in the root or in a folder (folders.py): as a file if it is a single-file torrent,
else as a directory. With the layout `infohash` it lies in a folder called by its key in there;
with `flat` all its files lie side by side in the folder, and it has no directory.

**Names are identity** (media servers key their libraries by path), so they follow from the
torrents alone. Torrents are taken in the order of (time first added, info-hash): the first of a
name keeps it, each later one gets ` [first 8 hex digits of its info-hash]`; a flat file gets such
digits of a hash of torrent and path, before its extension. Names that differ only in case or
Unicode normalisation collide too, for the sake of clients on other systems. A torrent that joins a
running mount never renames another; who wants that to be so in the next mount as well gives the
names that there were.

**Inodes** are 63 bits: 37 of a hash of the info-hash, then 26 of the node's number inside the
torrent, which the info dictionary fixes (see branch.py). So a path has the same inode in every
mount; inside a torrent numbers cannot collide; two torrents that share the 37 bits (one chance
in 3,000 with 10,000 torrents) are kept apart by hashing the later one again, in the same order
as for names. Prefix 0 is the mount's own: inode 1 is the root. A torrent or folder that comes
again after it went has another *generation*, which only the kernel sees: what it still holds of
the old one is dead and must not come to life.

**Times** of torrents never move: they are the persisted time of adding, or with
`mtime="created"` the torrent's own date. Those of folders: see folders.py.

Errors are the builtin `FileNotFoundError`, `NotADirectoryError` and `IsADirectoryError`.
"""

from __future__ import annotations

import hashlib
import stat
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from torrentfs.metainfo.names import collision_key, safe_name
from torrentfs.vfs.branch import DIRECTORY, LOCAL_BITS, Branch, Volume
from torrentfs.vfs.folders import ROOT, SECOND, Folder, Folders, to_ns
from torrentfs.vfs.listing import Entry, Listing
from torrentfs.vfs.views import View

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torrentfs.metainfo.files import File
    from torrentfs.metainfo.torrent_file import Metainfo

__all__ = [
    "ROOT",
    "Attributes",
    "Change",
    "Entry",
    "Layout",
    "Placement",
    "Tree",
    "TreeOptions",
    "Volume",
]

Layout = Literal["name", "infohash", "flat"]

BLOCK_SIZE = 512
"""The unit of `st_blocks`, fixed by stat(2)."""
NAME_MAX = 255
"""Longest name in bytes that Linux accepts."""

_PREFIX_BITS = 63 - LOCAL_BITS
_LOCAL_MASK = (1 << LOCAL_BITS) - 1
_LAST_SECOND = 253_402_300_799
"""End of the year 9999: a creation date beyond it is a lie."""


_MOST_LINKS = 40
"""As many as Linux follows in one path."""


@dataclass(frozen=True, slots=True)
class TreeOptions:
    """How nodes look: owner, `umask` taken from 0444/0555, which date they carry, how torrents
    are laid out, and which of their files are shown."""

    uid: int = 0
    gid: int = 0
    umask: int = 0o022
    mtime: Literal["added", "created"] = "added"
    layout: Layout = "name"
    view: View = field(default_factory=View)


class Attributes(NamedTuple):
    """What stat(2) tells of a node; one time serves as mtime, ctime and atime."""

    inode: int
    mode: int
    nlink: int
    size: int
    blocks: int
    time_ns: int
    generation: int = 0


class Placement(NamedTuple):
    """A torrent and where it goes; see `Tree.add`."""

    volume: Volume
    select: Iterable[int] = ()
    folder: tuple[str, ...] = ()
    name: str | None = None


class Change(NamedTuple):
    """What came or went: `entries`, (name, inode) each, of the directory with inode `parent`.

    Of a torrent that came in new folders, or went with its folder, that is the outermost of these.
    `path` is the torrent's (`Tree.path_of_key`).
    """

    path: tuple[str, ...]
    parent: int
    entries: list[tuple[bytes, int]]


class Tree:
    """All nodes of a mount. Methods take inodes and never block."""

    def __init__(
        self,
        options: TreeOptions | None = None,
        volumes: Iterable[Volume] = (),
        *,
        folder_times: Mapping[tuple[str, ...], float] | None = None,
    ) -> None:
        self.options = options or TreeOptions()
        self._folders = Folders(folder_times or {})
        self._branches: dict[int, Branch] = {}  # prefix -> branch
        self._by_key: dict[str, Branch] = {}  # by info-hash key
        self._removed = 0
        self.hidden: set[int] = set()
        """Inodes of entries of folders that are there, but not shown yet or any more."""
        keep = ~self.options.umask
        self._file_mode = stat.S_IFREG | (0o444 & keep)
        self._program_mode = stat.S_IFREG | (0o555 & keep)
        self._directory_mode = stat.S_IFDIR | (0o555 & keep)
        self.add_many([Placement(volume) for volume in volumes])

    def __repr__(self) -> str:
        return f"<Tree of {len(self._branches)} torrents>"

    # -- what is in it

    def add(
        self,
        volume: Volume,
        select: Iterable[int] = (),
        folder: tuple[str, ...] = (),
        name: str | None = None,
        *,
        now: float | None = None,
    ) -> tuple[str, ...]:
        """Show `volume` in `folder`; return the path of its entry.

        Of the torrent only the files whose indexes are in `select`, if it is not empty. It is
        called `name`, or else what the torrent is called, if that is free. If the view leaves
        nothing of it, nothing is shown and the path is (), until it is removed. `now` (Unix
        seconds) is for a torrent that joins a mount; without it directories get the times that
        they have in a mount that starts. Raises `ValueError` if the torrent is there already.
        """
        return self.insert(Placement(volume, select, folder, name), now).path

    def add_many(self, placements: Iterable[Placement], *, now: float | None = None) -> None:
        """Add them in the order that makes names and inodes independent of the order given."""
        for placement in in_order(placements):
            self.insert(placement, now)

    def insert(self, placement: Placement, now: float | None = None) -> Change:
        """The same as `add`; return what came."""
        volume, select, path, name = placement
        key = volume.metainfo.hashes.key
        self.check_new([key])
        files = self.options.view.files(volume.metainfo, select)
        if files is None:
            path = ()
        elif self.options.layout == "infohash":
            path = (*path, key)
        folder, outermost = self._folders.reach(path, self._removed)
        wanted = volume.metainfo.name if name is None else safe_name(_encode(name))
        prefix = self._free_prefix(key)
        flat = self.options.layout == "flat"
        branch = Branch(volume, files, wanted, prefix, folder, flat=flat)
        branch.generation = self._removed
        branch.time_ns = _time_ns(volume.metainfo, volume.added, self.options.mtime)
        entries = self._list_flat(branch) if branch.flat else self._list_whole(branch)
        folder.members += 1
        self._branches[prefix] = branch
        self._by_key[key] = branch
        parent = folder
        if outermost is not None:
            parent = outermost.parent or self._folders.root
            entries = [(_encode(outermost.name), outermost.inode)]
            for inner in _up_to(folder, parent):
                inner.come(volume.added, now)
        if entries:
            parent.come(volume.added, now)
        return Change(self._path(branch), parent.inode, entries)

    def leaving(self, key: str) -> Change:
        """What goes when the torrent of info-hash `key` is removed. Raises `KeyError`."""
        branch = self._by_key[key]
        path, folder = self._path(branch), branch.folder
        gone = self._folders.leaving(folder)
        if gone is not None:
            above = gone.parent or self._folders.root
            return Change(path, above.inode, [(_encode(gone.name), gone.inode)])
        names = ((branch.name_of(number), branch.base | number) for number in branch.tops())
        return Change(path, folder.inode, [(_encode(name), inode) for name, inode in names])

    def remove(self, key: str, now: float) -> Change:
        """Stop showing the torrent of info-hash `key` at Unix time `now`; return what went.

        Raises `KeyError`.
        """
        change = self.leaving(key)
        branch = self._by_key.pop(key)
        folder = branch.folder
        for number in branch.tops():
            folder.take(branch.name_of(number), directory=branch.is_directory)
        folder.members -= 1
        del self._branches[branch.base >> LOCAL_BITS]
        self._removed += 1
        if change.entries:
            folder.touch(to_ns(now))
            self._folders.by_inode[change.parent].touch(to_ns(now))
        self._folders.leave(folder)
        return change

    def hold(self, folder: Iterable[str]) -> Folder:
        """Keep a folder that may lose its last torrent, until `let_go`; it is made if need be.

        Raises `ValueError` for one that is too deep.
        """
        held = self._folders.reach(folder, self._removed).folder
        held.members += 1
        return held

    def let_go(self, held: Folder) -> None:
        """The end of `hold`."""
        held.members -= 1
        self._folders.leave(held)

    def check_new(self, keys: Sequence[str]) -> None:
        """Raise `ValueError` if one of these is shown already, or is in `keys` twice."""
        seen: set[str] = set()
        for key in keys:
            if key in self._by_key or key in seen:
                raise ValueError(f"torrent {key} is in the tree already")
            seen.add(key)

    @property
    def volumes(self) -> Sequence[Volume]:
        """The torrents shown."""
        return [branch.volume for branch in self._branches.values()]

    @property
    def folder_times(self) -> dict[tuple[str, ...], float]:
        """When an entry last came or went, in Unix seconds, of the root `()` and every folder.

        Given to the tree of the next mount, they are the times there.
        """
        return self._folders.times

    def path_of_key(self, key: str) -> tuple[str, ...]:
        """Where the torrent of info-hash `key` is; of a flat one, its folder. Raises `KeyError`."""
        return self._path(self._by_key[key])

    def is_empty(self, key: str) -> bool:
        """Whether the view leaves nothing of the torrent of info-hash `key`. Raises `KeyError`."""
        branch = self._by_key[key]
        return branch.flat and not branch.totals()[0]

    def name_of_key(self, key: str) -> str:
        """What the torrent of info-hash `key` is called in its folder. Raises `KeyError`."""
        return self._by_key[key].name

    def volume_of_key(self, key: str) -> Volume:
        """The torrent of info-hash `key`. Raises `KeyError`."""
        return self._by_key[key].volume

    def inode_of(self, key: str, file: int) -> int:
        """The inode of a file of the torrent of info-hash `key`, shown or not."""
        return self._by_key[key].base | file

    def files_of(self, key: str) -> Iterator[tuple[int, tuple[str, ...]]]:
        """(index, path in the mount) of each file shown of a torrent, in its order: `KeyError`."""
        branch = self._by_key[key]
        above = branch.folder.path
        for number, file in enumerate(branch.volume.metainfo.files):
            if not branch.exists(number):
                continue
            if branch.flat:
                yield number, (*above, branch.name_of(number))
            else:
                yield number, (*above, branch.name, *file.path)

    def files_below(self, inode: int) -> Sequence[int] | None:
        """Indexes of the files that are shown in a directory of a torrent, or that file itself.

        None if they are all that the torrent has. `FileNotFoundError` for what is no part of one.
        """
        branch, number = self._node(inode)
        return branch.files_below(number)

    def files_shown(self, key: str) -> Sequence[int] | None:
        """The same of all of the torrent of info-hash `key`. Raises `KeyError`."""
        return self._by_key[key].files()

    def totals(self, inode: int = ROOT) -> tuple[int, int, int]:
        """(torrents, files, bytes in them) of all that is shown in the root or a folder."""
        path = self._folders.by_inode[inode].path
        branches = list(self._branches.values())
        if path:
            branches = [b for b in branches if b.folder.path[: len(path)] == path]
        totals = [branch.totals() for branch in branches]
        return len(totals), sum(files for files, _ in totals), sum(size for _, size in totals)

    # -- questions of the kernel

    def lookup(self, parent: int, name: bytes) -> int:
        """The inode of `name` in directory `parent`; `.` and `..` are names too."""
        text = name.decode("utf-8", "surrogateescape")
        if text == ".":
            self._check_directory(parent)
            return parent
        if text == "..":
            self._check_directory(parent)
            return self.parent(parent)
        folder = self._folders.by_inode.get(parent)
        if folder is not None:
            inode = folder.children.get(collision_key(text))
            if inode is None or inode in self.hidden or self._name_in_folder(inode) != text:
                raise FileNotFoundError(text)
            return inode
        branch, number = self._directory(parent)
        child = branch.lookup(number, text)
        if child is None:
            raise FileNotFoundError(text)
        return branch.base | child

    def attributes(self, inode: int) -> Attributes:
        """What stat(2) tells of `inode`."""
        folder = self._folders.by_inode.get(inode)
        if folder is not None:
            return self._describe_folder(folder)
        branch, number = self._node(inode)
        return self.describe(branch, number)

    def listing(self, inode: int) -> Listing:
        """A listing of directory `inode` as it is now; what comes later is not in it."""
        folder = self._folders.by_inode.get(inode)
        if folder is not None:
            return Listing(self, inode, None, list(folder.children.values()))
        branch, number = self._directory(inode)
        return Listing(self, inode, branch, branch.directory(number).children)

    def parent(self, inode: int) -> int:
        """The inode of the directory that holds `inode`; the root holds itself."""
        folder = self._folders.by_inode.get(inode)
        if folder is not None:
            return folder.parent.inode if folder.parent is not None else ROOT
        branch, number = self._node(inode)
        parent = branch.parent_of(number)
        return branch.folder.inode if parent is None else branch.base | parent

    def file(self, inode: int) -> tuple[Volume, int, int]:
        """(torrent, index of the file in it, size in bytes) of a file that can be opened."""
        if inode in self._folders.by_inode:
            raise IsADirectoryError(f"inode {inode}")
        branch, number = self._node(inode)
        if number & DIRECTORY:
            raise IsADirectoryError(branch.name_of(number))
        return branch.volume, number, branch.file(number).length

    def volume(self, inode: int) -> tuple[Volume, int | None] | None:
        """(torrent, index of the file or None for a directory) of `inode`; None for a folder."""
        if inode in self._folders.by_inode:
            return None
        branch, number = self._node(inode)
        return branch.volume, None if number & DIRECTORY else number

    def link_target(self, inode: int) -> bytes | None:
        """Where the symlink `inode` points; None if it is none."""
        if inode in self._folders.by_inode:
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
            names.append(self._name_in_folder(inode))
            inode = self.parent(inode)
        return tuple(reversed(names))

    def resolve(self, path: Iterable[str]) -> int:
        """The inode that the names `path` lead to from the root."""
        inode = ROOT
        for name in path:
            inode = self.lookup(inode, _encode(name))
        return inode

    def follow(self, path: Iterable[str]) -> int:
        """As `resolve`, through symbolic links as stat(2) goes; not through more than 40."""
        inode, above, rest = ROOT, list[int](), deque(path)
        links = 0
        while rest:
            name = rest.popleft()
            if name == "..":
                inode = above.pop() if above else ROOT
                continue
            found = self.lookup(inode, _encode(name))
            target = self.link_target(found)
            if target is None:
                above.append(inode)
                inode = found
                continue
            links += 1
            if links > _MOST_LINKS:
                raise FileNotFoundError(name)
            rest.extendleft(reversed(target.decode("utf-8", "surrogateescape").split("/")))
        return inode

    # -- inside

    def _list_whole(self, branch: Branch) -> list[tuple[bytes, int]]:
        """Put the torrent into its folder's listing as one entry."""
        folder, key = branch.folder, branch.volume.metainfo.hashes.key
        branch.name = folder.free_name(branch.name, key)
        inode = branch.base | branch.root
        folder.put(branch.name, inode, directory=branch.is_directory)
        return [(_encode(branch.name), inode)]

    def _list_flat(self, branch: Branch) -> list[tuple[bytes, int]]:
        """Put the torrent's files into its folder's listing."""
        folder, key = branch.folder, branch.volume.metainfo.hashes.key
        entries = []
        for number in branch.tops():
            path = branch.file(number).path
            name = path[-1]
            if collision_key(name) in folder.children:
                digest = hashlib.sha256(_encode("/".join((key, *path)))).hexdigest()
                name = branch.renamed[number] = folder.free_name(name, digest, keep_extension=True)
            folder.put(name, branch.base | number, directory=False)
            entries.append((_encode(name), branch.base | number))
        return entries

    def _path(self, branch: Branch) -> tuple[str, ...]:
        return branch.folder.path if branch.flat else (*branch.folder.path, branch.name)

    def _name_in_folder(self, inode: int) -> str:
        """The last component of the path of `inode`, which is not the root."""
        folder = self._folders.by_inode.get(inode)
        if folder is not None:
            return folder.name
        branch, number = self._node(inode)
        return branch.name_of(number)

    def _check_directory(self, inode: int) -> None:
        if inode not in self._folders.by_inode:
            self._directory(inode)

    def shows(self, branch: Branch) -> bool:
        """Whether it was not removed."""
        return self._branches.get(branch.base >> LOCAL_BITS) is branch

    def _describe_folder(self, folder: Folder) -> Attributes:
        nlink, mode = 2 + folder.subdirectories, self._directory_mode
        return Attributes(folder.inode, mode, nlink, 0, 0, folder.time_ns, folder.generation)

    def entry(self, inode: int) -> tuple[bytes, Attributes] | None:
        """Name and attributes of what lies in a folder; None if it went or is hidden."""
        if inode in self.hidden:
            return None
        folder = self._folders.by_inode.get(inode)
        if folder is not None:
            return _encode(folder.name), self._describe_folder(folder)
        branch = self._branches.get(inode >> LOCAL_BITS)
        if branch is None:
            return None
        number = inode & _LOCAL_MASK
        return _encode(branch.name_of(number)), self.describe(branch, number)

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

    def describe(self, branch: Branch, number: int) -> Attributes:
        """Attributes of a node that exists."""
        inode = branch.base | number
        time_ns, generation = branch.time_ns, branch.generation
        if number & DIRECTORY:
            nlink = 2 + branch.directory(number).subdirectories
            return Attributes(inode, self._directory_mode, nlink, 0, 0, time_ns, generation)
        return self.describe_file(branch, number, branch.file(number))

    def describe_file(self, branch: Branch, number: int, file: File) -> Attributes:
        """Attributes of the torrent's `file` of that number."""
        inode, time_ns, generation = branch.base | number, branch.time_ns, branch.generation
        if file.symlink is not None:
            target = branch.link_target(number)
            if target is not None:
                size = len(_encode(target))
                return Attributes(inode, stat.S_IFLNK | 0o777, 1, size, 0, time_ns, generation)
        mode = self._program_mode if file.executable else self._file_mode
        length = file.length
        return Attributes(inode, mode, 1, length, -(-length // BLOCK_SIZE), time_ns, generation)

    def _free_prefix(self, key: str) -> int:
        salt = 0
        while True:
            digest = hashlib.blake2b(f"{key}/{salt}".encode(), digest_size=8).digest()
            prefix = int.from_bytes(digest, "big") >> (64 - _PREFIX_BITS)
            if prefix and prefix not in self._branches:
                return prefix
            salt += 1


def in_order(placements: Iterable[Placement]) -> list[Placement]:
    """Names that were given first, then by time of adding, then by info-hash."""
    return sorted(
        placements, key=lambda p: (p.name is None, p.volume.added, p.volume.metainfo.hashes.key)
    )


def _up_to(folder: Folder, above: Folder) -> Iterator[Folder]:
    """`folder` and those that hold it, without `above`."""
    here: Folder | None = folder
    while here is not None and here is not above:
        yield here
        here = here.parent


def _encode(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _time_ns(metainfo: Metainfo, added: float, which: str) -> int:
    created = metainfo.creation_date
    if which == "created" and created is not None and 0 < created <= _LAST_SECOND:
        return created * SECOND
    return to_ns(added)
