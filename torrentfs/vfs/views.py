"""Which files of torrents a mount shows: `--select`, `--exclude` and `--min-size`. Pure.

A file is shown if it matches one of `select` (or there is none), none of `exclude`, and has at
least `min_size` bytes. A torrent of which nothing is left is not shown at all, like a directory
that a filter of rclone empties: a media server would make an item of it.

**Patterns** are those of the shell. `*` and `?` stand for anything but `/`, `[a-z]` for one of
these characters, `[!a-z]` for one of the others.

* Without a `/` a pattern is for the name of a file, wherever in the torrent: `*.mkv`, `sample*`.
* With one it is for the whole path inside the torrent, without its own name: `CD1/*.flac`.
  `**` stands for any number of directories: `**/extras/*`. A `/` in front makes a path of a name:
  `/*.nfo` are those that lie in no directory.
* With a `/` at its end it is for a directory and all that is in it: `Extras/` anywhere, `CD1/raw/`
  at that path.

Case and the Unicode form of accents do not count. A single-file torrent has no directories; its
file has the name of the torrent.
"""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torrentfs.metainfo.intervals import joined
from torrentfs.metainfo.magnet import file_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torrentfs.metainfo.torrent_file import Metainfo

    Matcher = Callable[[Sequence[str]], bool]

_ANY_DIRECTORIES = "**"


@dataclass(frozen=True, slots=True)
class View:
    """What is shown; `min_size` in bytes. Equal patterns make equal views."""

    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    min_size: int = 0
    _wanted: tuple[Matcher, ...] = field(init=False, repr=False, compare=False)
    _unwanted: tuple[Matcher, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_wanted", tuple(map(_matcher, self.select)))
        object.__setattr__(self, "_unwanted", tuple(map(_matcher, self.exclude)))

    @property
    def shows_all(self) -> bool:
        """Whether nothing is filtered away."""
        return not (self.select or self.exclude or self.min_size)

    def files(self, metainfo: Metainfo, within: Iterable[int] = ()) -> Sequence[int] | None:
        """The indexes of the files shown; of those in `within` only, if it is not empty.

        None if none is left; `()`, as for `Tree.add`, if it is all of them.
        """
        chosen = frozenset(within)
        if self.shows_all:
            return sorted(chosen)
        single = metainfo.is_single_file
        count = 0
        found: list[int] = []
        for number, file in enumerate(metainfo.files):
            if file.pad:
                continue
            count += 1
            if chosen and number not in chosen and not single:
                continue
            if file.length >= self.min_size and self._takes(file.path or (metainfo.name,)):
                found.append(number)
        if not found:
            return None
        return found if len(found) < count else ()

    def ranges(self, metainfo: Metainfo, within: Sequence[range]) -> Sequence[range]:
        """The same as ranges of indexes, empty for all; `within` where nothing is left."""
        if self.shows_all:
            return within
        numbers = self.files(metainfo, file_numbers(within, len(metainfo.files)))
        return within if numbers is None else joined(range(n, n + 1) for n in numbers)

    def _takes(self, path: Sequence[str]) -> bool:
        if not (self._wanted or self._unwanted):
            return True
        plain = [_plain(name) for name in path]
        if self._wanted and not any(matches(plain) for matches in self._wanted):
            return False
        return not any(matches(plain) for matches in self._unwanted)


def _plain(name: str) -> str:
    """Without what does not count."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _matcher(pattern: str) -> Matcher:
    """What tells whether a path of plain names matches `pattern`."""
    plain = _plain(pattern)
    below = plain.endswith("/")
    body = plain.strip("/") if below else plain.removeprefix("/")
    parts = [part for part in body.split("/") if part]
    if not parts:
        return lambda _path: below  # "/" is the torrent, "" no file
    if "/" not in plain:
        matches = _name_matcher(parts[0])
        return lambda path: matches(path[-1])
    if below and len(parts) == 1 and not plain.startswith("/"):
        parts.insert(0, _ANY_DIRECTORIES)
    steps = [None if part == _ANY_DIRECTORIES else _name_matcher(part) for part in parts]
    return lambda path: _matches_path(steps, path, below=below)


def _name_matcher(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(fnmatch.translate(pattern)).match
    return lambda name: compiled(name) is not None


def _matches_path(
    steps: Sequence[Callable[[str], bool] | None], path: Sequence[str], *, below: bool
) -> bool:
    """Whether the steps lead through all of `path`, or to a directory above its end if `below`.

    All ways are followed at once, so it takes steps times components, whatever the pattern.
    """
    end = len(steps)
    places = _with_skips(steps, {0})
    for name in path:
        if below and end in places:
            return True
        after = set()
        for place in places:
            if place == end:
                continue
            step = steps[place]
            if step is None:
                after.add(place)
            elif step(name):
                after.add(place + 1)
        places = _with_skips(steps, after)
    return end in places and not below


def _with_skips(steps: Sequence[Callable[[str], bool] | None], places: set[int]) -> set[int]:
    """`places`, and those behind a `**` that stands for nothing."""
    for place in sorted(places):
        while place < len(steps) and steps[place] is None:
            place += 1
            places.add(place)
    return places
