"""One watch directory: which torrents its files name, and what has changed since the last look.

A look walks the directory with its sub-folders (in a thread: file systems may hang) and reads only
files that are new or look changed. Whatever tells that it is time for a look, inotify or a timer,
the look itself is the same, so nothing depends on events being complete.

**What is gone is believed with care**, for a library that is emptied makes media servers forget
everything. A file is gone only when the directory it was in was read and is the one it was seen in
(by device and inode), or still has another of the files it had. The empty directory below an
unmounted disk is neither; nor is one that cannot be read, or a link whose target is missing. Such
files are *held*: what they named stays.

**What is written just now** does not parse. That is told only when the file looked the same at two
looks, and never forgotten: it is read again as soon as it looks different.

Names that begin with a dot are skipped (editors and copying programs put their unfinished files
there). Links to directories are followed, each directory is entered once, and depth, number and
size of everything are bounded.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from torrentfs.daemon.items import WatchedFile
from torrentfs.daemon.quantities import format_size
from torrentfs.daemon.sources import PublisherSource, parse_info_hash
from torrentfs.errors import InvalidTorrent
from torrentfs.metainfo.limits import MAX_MAGNET_BYTES, MAX_PATH_DEPTH, MAX_TORRENT_BYTES
from torrentfs.metainfo.magnet import Magnet, parse_magnet, parse_publisher
from torrentfs.metainfo.torrent_file import parse_torrent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torrentfs.metainfo.torrent_file import Metainfo

log = logging.getLogger(__name__)

TORRENT, MAGNET = ".torrent", ".magnet"
MAX_MAGNET_FILE = 4 * MAX_MAGNET_BYTES
"""Bytes of a .magnet file; there is room for comments."""
MAX_NAMES = 200_000
"""Names looked at in all of a watch directory; what lies beyond is not seen, but not lost."""

Identity = tuple[int, int]
"""Device and inode of a directory."""


class Signature(NamedTuple):
    """What a file looks like: when it is the same, so is the content."""

    size: int
    mtime_ns: int
    inode: int
    device: int


@dataclass(slots=True)
class _Known:
    """A file as it was at the last look; `told` is False for one that did not parse, yet."""

    signature: Signature | None
    told: bool = True


@dataclass(frozen=True, slots=True)
class Look:
    """What a look has found: what is new or different, and what is not there any more."""

    found: tuple[WatchedFile, ...] = ()
    gone: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    """Files that cannot be looked at now, but were there."""
    trouble: str = ""
    """Why not everything can be seen, in words."""
    directories: tuple[str, ...] = ()
    unsettled: bool = False
    """Something was not whole: look again soon."""


@dataclass(slots=True)
class _Walk:
    """What one walk saw."""

    seen: dict[str, tuple[tuple[str, ...], os.stat_result | None]] = field(default_factory=dict)
    directories: dict[str, Identity] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    entered: set[Identity] = field(default_factory=set)
    names: int = 0

    @property
    def is_cut_short(self) -> bool:
        return self.names >= MAX_NAMES


class WatchDirectory:
    """The state of one watch directory; for one thread at a time."""

    def __init__(
        self,
        root: str | Path,
        *,
        held: Iterable[str] = (),
        identities: Mapping[str, Identity] | None = None,
    ) -> None:
        """`held` are the files of the last time, `identities` the directories they were seen in."""
        self.root = str(root)
        self.identities = dict(identities or {})
        self._known: dict[str, _Known] = {path: _Known(None) for path in held}

    @property
    def known(self) -> list[str]:
        """The files of the last look."""
        return list(self._known)

    def look(self) -> Look:
        """Walk, read what changed, and say what that means."""
        before = set(self._known)
        walk = _Walk()
        self._walk(walk, self.root, (), 0)
        found: list[WatchedFile] = []
        partial: list[str] = []
        hidden = [path for path, (_, about) in walk.seen.items() if about is None]
        for path, (folder, about) in walk.seen.items():
            if about is None:
                continue
            one, is_whole = self._look_at(path, folder, about)
            if not is_whole:
                partial.append(path)
            if one is not None:
                found.append(one)
        lost = [path for path in before if path not in walk.seen]
        gone = [path for path in lost if self._is_gone(path, walk, before)]
        for path in gone:
            del self._known[path]
        missing = [path for path in (*lost, *hidden) if path in self._known]
        self._remember(walk, missing)
        return Look(
            found=tuple(found),
            gone=tuple(gone),
            held=tuple(path for path in (*missing, *partial) if path in before),
            trouble=self._words(walk, len(missing)),
            directories=tuple(walk.directories),
            unsettled=bool(partial),
        )

    # --- the walk ---

    def _walk(self, walk: _Walk, path: str, folder: tuple[str, ...], depth: int) -> None:
        try:
            about = os.stat(path)
            identity = about.st_dev, about.st_ino
            if identity in walk.entered:  # by way of another link
                return
            walk.entered.add(identity)
            with os.scandir(path) as listing:
                entries = []
                for entry in listing:
                    walk.names += 1
                    if walk.is_cut_short:
                        break
                    if not entry.name.startswith("."):
                        entries.append(entry)
        except OSError as error:
            walk.unreadable[path] = (error.strerror or str(error)).lower()
            return
        walk.directories[path] = identity
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.name.lower().endswith((TORRENT, MAGNET)):
                try:
                    walk.seen[entry.path] = folder, entry.stat()
                except OSError:  # a link that leads nowhere, or a file that went just now
                    if entry.is_symlink():
                        walk.seen[entry.path] = folder, None
            elif depth < MAX_PATH_DEPTH and _is_directory(entry):
                self._walk(walk, entry.path, (*folder, entry.name), depth + 1)

    # --- one file ---

    def _look_at(
        self, path: str, folder: tuple[str, ...], about: os.stat_result
    ) -> tuple[WatchedFile | None, bool]:
        """What is to be told of a file, and whether it is whole as far as one can tell."""
        signature = Signature(about.st_size, about.st_mtime_ns, about.st_ino, about.st_dev)
        known = self._known.get(path)
        if known is not None and known.signature == signature and known.told:
            return None, True
        try:
            named = _read(path, about)
        except InvalidTorrent as error:
            if known is not None and known.signature == signature:
                known.told = True
                return WatchedFile(path, folder, trouble=str(error)), True
            self._known[path] = _Known(signature, told=False)
            return None, False
        self._known[path] = _Known(signature)
        if isinstance(named, PublisherSource):
            return WatchedFile(path, folder, publisher=named), True
        if isinstance(named, Magnet):
            return WatchedFile(path, folder, magnet=named), True
        return WatchedFile(path, folder, metainfo=named), True

    # --- what is not there any more ---

    def _is_gone(self, path: str, walk: _Walk, before: set[str]) -> bool:
        """Whether a file that is not seen was taken away, as far as one can tell."""
        if walk.is_cut_short:
            return False
        place = os.path.dirname(path)
        while place not in walk.directories:
            if place in walk.unreadable or place == self.root:
                return False
            place = os.path.dirname(place)
        if self.identities.get(place) == walk.directories[place]:
            return True
        below = place + os.sep
        return any(seen.startswith(below) and seen in before for seen in walk.seen)

    def _remember(self, walk: _Walk, missing: Iterable[str]) -> None:
        """Which directories these files were seen in; those of missing ones stay as they were."""
        kept = {}
        for path in missing:
            place = path
            while place != self.root and place:
                place = os.path.dirname(place)
                if place in self.identities:
                    kept[place] = self.identities[place]
        self.identities = {**walk.directories, **kept}

    def _words(self, walk: _Walk, held: int) -> str:
        kept = f"; {held} torrents of it stay as they were" if held else ""
        if self.root in walk.unreadable:
            reason = walk.unreadable[self.root]
            return f"the watch directory {self.root} cannot be read: {reason}{kept}"
        if walk.is_cut_short:
            return f"{self.root} has more than {MAX_NAMES} files: not all are looked at"
        if walk.unreadable:
            path, reason = next(iter(walk.unreadable.items()))
            return f"{path} cannot be read: {reason}{kept}"
        if held:
            return (
                f"{self.root} has lost {held} torrents at once, as when a disk is not mounted: "
                "they stay (torrentfs remove takes them out)"
            )
        return ""


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _read(path: str, about: os.stat_result) -> Metainfo | Magnet | PublisherSource:
    """What a file names; `InvalidTorrent`, in words without its path."""
    is_magnet = path.lower().endswith(MAGNET)
    most = MAX_MAGNET_FILE if is_magnet else MAX_TORRENT_BYTES
    if not stat.S_ISREG(about.st_mode):
        raise InvalidTorrent("not a regular file")
    if about.st_size > most:
        raise InvalidTorrent(f"{format_size(about.st_size)} is too large")
    try:
        # not to wait for a pipe that has taken the place of the file since
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise InvalidTorrent(f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    if len(data) > most:
        raise InvalidTorrent("too large")
    if is_magnet:
        return parse_magnet_file(data)
    try:
        return parse_torrent(data)
    except InvalidTorrent as error:
        raise InvalidTorrent(f"no torrent, or not all of it ({error})") from None


def parse_magnet_file(data: bytes) -> Magnet | PublisherSource:
    """What the first line names that is no comment (#), by link or info-hash; `InvalidTorrent`."""
    text = data.decode("utf-8-sig", "replace")
    for line in re.split(r"[\r\n]+", text):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        hashes = parse_info_hash(line)
        if hashes is not None:
            return Magnet(hashes)
        publisher = parse_publisher(line)
        if publisher is not None:
            return PublisherSource(line, publisher)
        return parse_magnet(line)
    raise InvalidTorrent("has no magnet link")
