"""The files of one torrent by path, for who reads it without a mount.

Paths are those below the torrent's own entry in a mount, with `/` between names: `a/b.mkv` for
what a mount shows as `NAME/a/b.mkv`; a single-file torrent has its one file, under its name.
Padding is left out, and so is what a selection (BEP 53) leaves out. A symbolic link (BEP 47) is the
file that it leads to; one that leads to no file is left out.

Nothing is read of the payload for any of this.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from torrentfs.metainfo.files import File
    from torrentfs.metainfo.torrent_file import Metainfo

_SHOWN = 8
"""Names that an error lists."""
_COMPARED = 2000
"""Names among which a misspelt one is looked for: comparing is slow."""


class Contents:
    """The paths of one torrent, in its order."""

    def __init__(self, metainfo: Metainfo, selected: Collection[int] = ()) -> None:
        """With `selected`, of several files those of these numbers only."""
        self.name = metainfo.name
        self.files: dict[str, int] = {}
        """File number by path."""
        self._table: Sequence[File] = metainfo.files
        self._directories: dict[str, dict[str, str]] | None = None
        if metainfo.is_single_file:
            number = next(n for n, file in enumerate(metainfo.files) if not file.pad)
            self.files[metainfo.name] = number
            return
        links: dict[str, tuple[str, ...]] = {}
        plain: dict[str, int] = {}
        for number, file in enumerate(metainfo.files):
            if file.pad:
                continue
            path = "/".join(file.path)
            if file.symlink is not None:
                links[path] = file.symlink
            else:
                plain[path] = number
            if not selected or number in selected:
                self.files[path] = number
        for path in links:
            if path not in self.files:
                continue
            target = _follow(path, links, plain)
            if target is None:
                del self.files[path]
            else:
                self.files[path] = target

    def size(self, path: str) -> int:
        """Bytes of the file `path`, which exists."""
        return self._table[self.files[path]].length

    def number(self, path: str) -> int:
        """The number of a file. `FileNotFoundError` says what there is, `IsADirectoryError`."""
        found = self.files.get(path)
        if found is not None:
            return found
        found = self.files.get(path.strip("/"))
        if found is not None:
            return found
        if self.is_directory(path):
            raise IsADirectoryError(f"{path or self.name!r} is a directory: {self._some(path)}")
        raise FileNotFoundError(f"no {path!r} in {self.name}: {self._like(path)}")

    def only(self) -> str:
        """The path of the one file that there is; `IsADirectoryError` where there are more."""
        if len(self.files) == 1:
            return next(iter(self.files))
        raise IsADirectoryError(f"{self.name} has {len(self.files)} files: {self._some('')}")

    def is_directory(self, path: str) -> bool:
        """Whether `path` is a directory; the empty one is the torrent itself."""
        return path.strip("/") in self._tree

    def children(self, path: str) -> Iterator[tuple[str, str]]:
        """`(name, path)` of what is in directory `path`; `FileNotFoundError`."""
        found = self._tree.get(path.strip("/"))
        if found is None:
            raise FileNotFoundError(f"no directory {path!r} in {self.name}")
        return iter(found.items())

    @property
    def _tree(self) -> dict[str, dict[str, str]]:
        """Directories, each with its children; made at the first question."""
        if self._directories is None:
            tree: dict[str, dict[str, str]] = {"": {}}
            for path in self.files:
                child = path
                while True:
                    parent, _, name = child.rpartition("/")
                    known = tree.get(parent)
                    if known is not None:
                        known[name] = child
                        break
                    tree[parent] = {name: child}
                    child = parent
            self._directories = tree
        return self._directories

    def _like(self, path: str) -> str:
        """What the user may have meant, or some of what there is."""
        wanted = path.strip("/")
        inside = wanted.removeprefix(self.name + "/")
        if inside in self.files:
            return f"paths are without the torrent's name, {inside!r}"
        paths = list(self.files)[:_COMPARED]
        close = difflib.get_close_matches(wanted, paths, 3)
        if close:
            return f"did you mean {' or '.join(map(repr, close))}?"
        return self._some("")

    def _some(self, path: str) -> str:
        start = f"{path.strip('/')}/".lstrip("/")
        inside = [name for name in self.files if name.startswith(start)]
        shown = ", ".join(map(repr, inside[:_SHOWN]))
        left = len(inside) - _SHOWN
        return f"there is {shown} and {left} more" if left > 0 else f"there is {shown}"

    def __repr__(self) -> str:
        return f"<Contents of {self.name!r}, {len(self.files)} files>"


def _follow(path: str, links: dict[str, tuple[str, ...]], plain: dict[str, int]) -> int | None:
    """The file that a link leads to, over other links; None for none, or for a circle."""
    for _ in range(len(links)):
        path = "/".join(links[path])
        if path in plain:
            return plain[path]
        if path not in links:
            return None
    return None
