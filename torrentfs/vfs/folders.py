"""The directories of the mount itself: the root and the folders that torrents are put in. Pure.

A folder comes with its first torrent and goes with its last. Its requested name passes the rules
of `metainfo/names.py`, so it is one that Linux takes and that leads nowhere else.

**Names** of one folder, of torrents and of folders alike, never differ in case or Unicode form
only. Who is there keeps its name; who comes gets ` [8 hex digits]`, a torrent of its info-hash, a
folder of its path. A folder asked for by the exact name of one that is there is that one.

**Inodes** of folders follow from their paths: 63 bits of a hash, with the bit `FOLDER` set, which
no number inside a torrent has (limits.MAX_FILES is far below it). So a folder's inode is the same
in every mount and never that of anything in a torrent.

**Times** move only when an entry of that very folder comes or goes, and only forwards: with a
clock that was set back they move by a second, because media servers that see the same time see no
change. What came of times is given out (`Folders.times`) and taken in again at the next start.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from torrentfs.metainfo.limits import MAX_NAME_BYTES, MAX_PATH_DEPTH
from torrentfs.metainfo.names import collision_key, safe_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ROOT = 1
"""The root's inode, fixed by FUSE."""
FOLDER = 1 << 24
"""Set in the inode of every folder but the root, and in no inode of a torrent."""

SECOND = 1_000_000_000
_PAST_FOLDERS = 10_000
_EXTENSION_BYTES = 32
_STEM_BYTES = MAX_NAME_BYTES - len(" [12345678]")


class Folder:
    """A directory of the mount. `children` are inodes by the folded name."""

    __slots__ = (
        "children",
        "folders",
        "generation",
        "inode",
        "members",
        "name",
        "parent",
        "path",
        "subdirectories",
        "time_ns",
        "touched_ns",
    )

    def __init__(
        self, inode: int, path: tuple[str, ...], parent: Folder | None, time_ns: int
    ) -> None:
        self.inode = inode
        self.path = path
        self.name = path[-1] if path else ""
        self.parent = parent
        self.children: dict[str, int] = {}
        self.members = 0
        """Torrents that lie in this folder."""
        self.folders = 0
        self.subdirectories = 0
        self.time_ns = time_ns
        self.touched_ns = 0
        self.generation = 0

    def put(self, name: str, inode: int, *, directory: bool) -> None:
        """List `inode` under a name that is free (`free_name`)."""
        self.children[collision_key(name)] = inode
        self.subdirectories += directory

    def take(self, name: str, *, directory: bool) -> None:
        """List it no more."""
        del self.children[collision_key(name)]
        self.subdirectories -= directory

    def touch(self, now_ns: int) -> None:
        """An entry comes or goes at `now_ns`; several of one moment are one change."""
        if now_ns != self.touched_ns:
            self.touched_ns = now_ns
            late = now_ns <= self.time_ns
            self.time_ns = self.time_ns + SECOND if late else now_ns

    def come(self, added: float, now: float | None) -> None:
        """An entry of Unix time `added` comes at `now`; None: it was there when the mount began."""
        if now is None:
            self.time_ns = max(self.time_ns, to_ns(added))
        else:
            self.touch(to_ns(now))

    def free_name(self, name: str, digest: str, *, keep_extension: bool = False) -> str:
        """`name`, or with ` [...]` of as much of the hex digits `digest` as makes it unique.

        Raises `ValueError` if even all of them do not.
        """
        if collision_key(name) not in self.children:
            return name
        stem, extension = _split(name) if keep_extension else (name, "")
        for digits in (8, 16, 24, 32, len(digest)):
            suffix = f" [{digest[:digits]}]{extension}"
            candidate = clip(stem, MAX_NAME_BYTES - len(suffix.encode())) + suffix
            if collision_key(candidate) not in self.children:
                return candidate
        raise ValueError(f"no free name for {name!r}")


class Reached(NamedTuple):
    """A folder and, when it had to be made, the outermost of those that were made for it."""

    folder: Folder
    outermost: Folder | None


class Folders:
    """All folders of a mount, by inode; `times` of an earlier one, Unix seconds by path."""

    def __init__(self, times: Mapping[tuple[str, ...], float]) -> None:
        self._past = {path: to_ns(seconds) for path, seconds in times.items()}
        self.root = Folder(ROOT, (), None, self._past.get((), 0))
        self.by_inode = {ROOT: self.root}

    @property
    def times(self) -> dict[tuple[str, ...], float]:
        """When an entry last came or went in each folder, Unix seconds by path; () is the root."""
        return {folder.path: folder.time_ns / SECOND for folder in self.by_inode.values()}

    def reach(self, path: Iterable[str], generation: int = 0) -> Reached:
        """The folder at `path`, made with those above it if it is not there.

        Raises `ValueError` if the path is deeper than `limits.MAX_PATH_DEPTH`.
        """
        names = [safe_name(name.encode("utf-8", "surrogateescape")) for name in path]
        if len(names) > MAX_PATH_DEPTH:
            raise ValueError(f"folders may be {MAX_PATH_DEPTH} deep, not {len(names)}")
        here, outermost = self.root, None
        for name in names:
            below = self._child(here, name)
            if below is None:
                digest = hashlib.sha256("/".join((*here.path, name)).encode()).hexdigest()
                free = here.free_name(name, digest)
                # who asked for it in vain before has made what is called so
                below = self._child(here, f"{clip(name, _STEM_BYTES)} [{digest[:8]}]")
                if below is None or free == name:
                    below = self._make(here, free, generation)
                    outermost = outermost or below
            here = below
        return Reached(here, outermost)

    def leaving(self, folder: Folder) -> Folder | None:
        """The outermost folder that goes when `folder` loses a torrent; None if it stays."""
        outermost = None
        members, folders = folder.members - 1, folder.folders
        while folder.parent is not None and not members and not folders:
            outermost, folder = folder, folder.parent
            members, folders = folder.members, folder.folders - 1
        return outermost

    def leave(self, folder: Folder) -> None:
        """Remove `folder` and those above it in which nothing is left."""
        while folder.parent is not None and not folder.members and not folder.folders:
            parent = folder.parent
            parent.take(folder.name, directory=True)
            parent.folders -= 1
            del self.by_inode[folder.inode]
            if len(self._past) >= _PAST_FOLDERS:
                self._past.clear()
            self._past[folder.path] = folder.time_ns
            folder = parent

    def _child(self, folder: Folder, name: str) -> Folder | None:
        """The folder in `folder` of that very name."""
        child = self.by_inode.get(folder.children.get(collision_key(name), 0))
        return child if child is not None and child.name == name else None

    def _make(self, parent: Folder, name: str, generation: int) -> Folder:
        path = (*parent.path, name)
        folder = Folder(self._free_inode(path), path, parent, self._past.get(path, 0))
        folder.generation = generation
        parent.put(name, folder.inode, directory=True)
        parent.folders += 1
        self.by_inode[folder.inode] = folder
        return folder

    def _free_inode(self, path: tuple[str, ...]) -> int:
        salt = 0
        while True:
            text = "/".join((*path, "")) + str(salt)
            digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
            inode = int.from_bytes(digest, "big") >> 1 | FOLDER
            if inode not in self.by_inode:
                return inode
            salt += 1


def clip(name: str, size: int) -> str:
    """`name`, cut at a character's end to at most `size` bytes of UTF-8."""
    data = name.encode("utf-8", "surrogateescape")
    return data[: max(size, 0)].decode("utf-8", "ignore") if len(data) > size else name


def to_ns(seconds: float) -> int:
    """Whole milliseconds: what a float of the present surely holds."""
    return round(seconds * 1000) * 1_000_000


def _split(name: str) -> tuple[str, str]:
    """A name without its extension, and the extension with its dot (or nothing)."""
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode("utf-8", "surrogateescape")) > _EXTENSION_BYTES:
        return name, ""
    return stem, dot + extension
