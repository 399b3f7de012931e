"""Directories as programs list them: for a while, in parts, as entries come and go. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torrentfs.vfs.branch import DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torrentfs.vfs.branch import Branch
    from torrentfs.vfs.tree import Attributes, Tree


class Entry(NamedTuple):
    """A line of a directory listing; `next_id` resumes the listing behind it."""

    name: bytes
    attributes: Attributes
    next_id: int


class Listing:
    """An open directory: `.`, `..`, then its entries, each with the place where it ends.

    Places are positions in a sequence that never changes, so a listing resumed at any place it
    has given skips nothing and repeats nothing. What went since it was opened is left out: the
    kernel keeps the entries that it is given. The listing of a directory that itself went raises
    `FileNotFoundError`.
    """

    __slots__ = ("_branch", "_children", "_inode", "_tree")

    def __init__(
        self, tree: Tree, inode: int, branch: Branch | None, children: Sequence[int]
    ) -> None:
        self._tree = tree
        self._inode = inode
        self._branch = branch
        self._children = children

    def __len__(self) -> int:
        return 2 + len(self._children)

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """The entries from place `start` on (0, or a `next_id` of this listing)."""
        tree, branch = self._tree, self._branch
        if branch is not None and not tree.shows(branch):
            raise FileNotFoundError(f"inode {self._inode}")
        if start <= 0:
            yield Entry(b".", tree.attributes(self._inode), 1)
        if start <= 1:
            yield Entry(b"..", tree.attributes(tree.parent(self._inode)), 2)
        first = max(start, 2)
        if branch is None:
            for place in range(first, 2 + len(self._children)):
                found = tree.entry(self._children[place - 2])
                if found is not None:
                    yield Entry(*found, place + 1)
            return
        children = self._children
        for place in range(first, 2 + len(children)):
            number = children[place - 2]
            if number & DIRECTORY:
                name, about = branch.name_of(number), tree.describe(branch, number)
            else:  # made once: a torrent has its files in columns
                file = branch.file(number)
                name, about = file.path[-1], tree.describe_file(branch, number, file)
            yield Entry(name.encode("utf-8", "surrogateescape"), about, place + 1)
