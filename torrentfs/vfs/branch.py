"""One torrent's part of the mount: which directories and files it shows, by local number.

Nothing here is stored per file. A file's local number is its index in the torrent; a directory's
is the order in which the torrent first mentions it, with the bit `DIRECTORY` set. Both follow
from the info dictionary alone, so they are the same in every mount, whatever is selected, in
whatever order the torrent was walked, and no table from number to file is needed.

Directories are found in one pass over the files, at the first look at the torrent: mounting one of
200,000 files costs nothing, the pass a fifth of a second, and what stays is four bytes per file.
Names of one directory get a dictionary at its first lookup (`ls` and `find` need none: the kernel
takes names and attributes together).

Padding files (BEP 47) are never shown. Names are safe, unique components already
(`metainfo/torrent_file.py`); this module only arranges them.

A *flat* branch has no directories: all its files lie in the folder of the mount that the torrent
is in (`tops`), under their last component or what `renamed` gives them.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torrentfs.metainfo.files import File
    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.vfs.folders import Folder

LOCAL_BITS = 26
"""Bits of a local number: 33 million files and as many directories per torrent, which is above
what the limits of metainfo/limits.py let through."""
DIRECTORY = 1 << (LOCAL_BITS - 1)
"""Set in the local number of a directory."""
NOTHING = -1
"""The root of a flat branch: no number."""


class Volume(Protocol):
    """What the mount needs of a torrent; `engine.torrent.Torrent` is one."""

    @property
    def metainfo(self) -> Metainfo:
        """Names, sizes and hashes."""

    @property
    def added(self) -> float:
        """When the torrent was first added, Unix seconds; the same in every later mount."""

    async def read(self, file: int, offset: int, size: int) -> bytes | bytearray | memoryview:
        """Exactly `min(size, EOF - offset)` verified bytes, else `DataUnavailable`, in time."""

    def on_open(self, file: int) -> None:
        """A handle on file number `file` was opened."""

    def on_release(self, file: int) -> None:
        """A handle on file number `file` was closed for good."""

    def fail_reads(self, reason: str) -> None:
        """Fail every read that waits, and those to come that would: the torrent is removed."""

    def xattrs(self) -> Mapping[str, str]:
        """State for `--xattrs`, by the name behind `user.torrentfs.`."""


class Directory:
    """A directory of a torrent: `children` are local numbers in the torrent's order."""

    __slots__ = ("children", "name", "names", "number", "parent", "shown", "subdirectories")

    def __init__(self, number: int, name: str, parent: Directory | None) -> None:
        self.number = number
        self.name = name
        self.parent = parent
        self.children = array("I")
        self.names: dict[str, int] | None = None
        self.shown = parent is None
        self.subdirectories = 0

    def show(self) -> None:
        """Put this directory and those above it into their parents' listings."""
        directory: Directory | None = self
        while directory is not None and not directory.shown:
            directory.shown = True
            parent = directory.parent
            if parent is not None:
                parent.children.append(directory.number)
                parent.subdirectories += 1
            directory = parent


class Branch:
    """The files and directories of `volume`, or of it those whose indexes are in `select`.

    An empty `select` is all of them, None is nothing at all; an index that the torrent does not
    have selects nothing. `name` is the entry in `folder`; `prefix` makes inodes of local numbers.
    `generation` tells the inodes of a torrent that was removed and added again from those that
    somebody may still hold.
    """

    __slots__ = (
        "_directories",
        "_files",
        "_shown",
        "_totals",
        "_visible",
        "base",
        "flat",
        "folder",
        "generation",
        "name",
        "renamed",
        "root",
        "time_ns",
        "volume",
    )

    def __init__(
        self,
        volume: Volume,
        select: Iterable[int] | None,
        name: str,
        prefix: int,
        folder: Folder,
        *,
        flat: bool = False,
    ) -> None:
        metainfo = volume.metainfo
        self.volume = volume
        self.name = name
        self.folder = folder
        self.base = prefix << LOCAL_BITS
        self.generation = 0
        self.time_ns = 0
        self.renamed: dict[int, str] = {}
        self._files: Sequence[File] = metainfo.files
        self._visible = _mask(select, len(self._files))
        self._directories: list[Directory] | None = None
        self._totals: tuple[int, int] | None = None
        self._shown: dict[tuple[str, ...], int] | None = None
        self.root = DIRECTORY
        self.flat = flat and not metainfo.is_single_file
        if select is None:
            self.flat, self.root = True, NOTHING
        elif metainfo.is_single_file:
            self._visible = None
            self.root = next((n for n, f in enumerate(self._files) if not f.pad), 0)
        elif self.flat:
            self.root = NOTHING
            self._hide_broken_links()

    @property
    def is_directory(self) -> bool:
        """Whether the torrent is a directory of the mount (else one file, or flat)."""
        return self.root == DIRECTORY

    def tops(self) -> Iterable[int]:
        """The local numbers that lie in `folder`."""
        if not self.flat:
            return (self.root,)
        visible = self._visible
        return (
            number
            for number, file in enumerate(self._files)
            if not file.pad and (visible is None or visible[number])
        )

    def _hide_broken_links(self) -> None:
        """A flat branch shows no symlink to a directory, or to a file that is not shown."""
        if not any(file.symlink is not None for file in self._files):
            return
        shown = {f.path: n for n, f in enumerate(self._files) if self.exists(n)}
        before = 0
        while len(shown) != before:  # a link may lead to a link
            before = len(shown)
            files = self._files
            shown = {
                path: number
                for path, number in shown.items()
                if (target := files[number].symlink) is None or target in shown
            }
        self._visible = _mask(shown.values(), len(self._files))
        self._shown = shown

    def exists(self, number: int) -> bool:
        """Whether `number` names something that is shown."""
        if number & DIRECTORY:
            if not self.is_directory:
                return False
            if number == DIRECTORY:
                return True
            directories = self.directories
            index = number ^ DIRECTORY
            return index < len(directories) and directories[index].shown
        if not self.is_directory and not self.flat:
            return number == self.root
        return (
            number < len(self._files)
            and not self._files[number].pad
            and (self._visible is None or self._visible[number] == 1)
        )

    def file(self, number: int) -> File:
        """The torrent's file of that number."""
        return self._files[number]

    def directory(self, number: int) -> Directory:
        """The directory of that number, which exists."""
        return self.directories[number ^ DIRECTORY]

    def lookup(self, number: int, name: str) -> int | None:
        """The local number of `name` in directory `number`, or None."""
        directory = self.directory(number)
        names = directory.names
        if names is None:
            names = {self.name_of(child): child for child in directory.children}
            directory.names = names
        return names.get(name)

    def name_of(self, number: int) -> str:
        """The last path component of a file or directory of the torrent."""
        if number == self.root:
            return self.name
        if number & DIRECTORY:
            return self.directory(number).name
        return self.renamed.get(number) or self._files[number].path[-1]

    def parent_of(self, number: int) -> int | None:
        """The directory that holds `number`; None for what lies in `folder`."""
        if number == self.root or self.flat:
            return None
        if number & DIRECTORY:
            parent = self.directory(number).parent
            return parent.number if parent is not None else None
        here: int | None = DIRECTORY
        for name in self._files[number].path[:-1]:
            here = self.lookup(here, name) if here is not None else None
        return here

    def files_below(self, number: int) -> Sequence[int] | None:
        """The files shown of a directory, or the file `number`; None if that is all there are."""
        if not number & DIRECTORY:
            return [number]
        if number == self.root and self._visible is None:
            return None
        found: list[int] = []
        below = [number]
        while below:
            for child in self.directory(below.pop()).children:
                (below if child & DIRECTORY else found).append(child)
        return sorted(found)

    def files(self) -> Sequence[int] | None:
        """All files shown; None if that is all there are."""
        if self._visible is None:
            return None if self.is_directory or self.flat else [self.root]
        return [number for number in range(len(self._files)) if self.exists(number)]

    def totals(self) -> tuple[int, int]:
        """(number of files shown, bytes in them)."""
        if not self.is_directory and not self.flat:
            return 1, self._files[self.root].length
        if self._totals is None:
            count = size = 0
            for number, file in enumerate(self._files):
                if not file.pad and (self._visible is None or self._visible[number]):
                    count += 1
                    size += file.length
            self._totals = count, size
        return self._totals

    def link_target(self, number: int) -> str | None:
        """Where a symlink points, relative to the directory it is in; None for other files.

        The target is confined to the torrent (BEP 47, checked at parsing). `..` occurs only in
        front, where it climbs real directories, so it stays confined in the mount. A torrent of
        a single file has no inside to point to.
        """
        file = self._files[number]
        if file.symlink is None:
            return None
        if self.flat:
            assert self._shown is not None  # there is a link
            return self.name_of(self._shown[file.symlink])
        if not self.is_directory:
            return None
        here, there = file.path[:-1], file.symlink
        shared = 0
        while shared < min(len(here), len(there)) and here[shared] == there[shared]:
            shared += 1
        parts = ("..",) * (len(here) - shared) + there[shared:]
        return "/".join(parts) or "."

    @property
    def directories(self) -> list[Directory]:
        """All directories, found at first use; index = number without its `DIRECTORY` bit."""
        if self._directories is None:
            self._directories = self._find_directories()
        return self._directories

    def _find_directories(self) -> list[Directory]:
        root = Directory(DIRECTORY, "", None)
        directories = [root]
        by_path: dict[tuple[str, ...], Directory] = {(): root}
        visible = self._visible
        last: tuple[str, ...] = ()
        here = root
        for number, file in enumerate(self._files):
            if file.pad:
                continue
            path = file.path[:-1]
            if path != last:
                last = path
                here = by_path.get(path) or _make(path, by_path, directories)
            if visible is None or visible[number]:
                if not here.shown:
                    here.show()
                here.children.append(number)
        return directories


def _mask(select: Iterable[int] | None, count: int) -> bytearray | None:
    """A byte per file, 1 if it is selected; None if all are."""
    chosen = None if select is None else set(select)
    if chosen is not None and not chosen:
        return None
    mask = bytearray(count)
    for number in chosen or ():
        if 0 <= number < count:
            mask[number] = 1
    return mask


def _make(
    path: tuple[str, ...],
    by_path: dict[tuple[str, ...], Directory],
    directories: list[Directory],
) -> Directory:
    """Make the directory `path` and those above it that are not there yet, topmost first."""
    here = by_path[()]
    for depth in range(1, len(path) + 1):
        prefix = path[:depth]
        found = by_path.get(prefix)
        if found is None:
            found = Directory(DIRECTORY | len(directories), prefix[-1], here)
            directories.append(found)
            by_path[prefix] = found
        here = found
    return here
