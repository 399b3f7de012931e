"""What lies at a path of the user's: the files that a torrent is made of, each with its stamp.

Nothing is read here, only listed. The rules are those that people know from other makers:

* a file gives a torrent of one file, a directory one of all files below it, empty ones included;
* symbolic links are followed (mktorrent, torf, libtorrent do so); one that leads nowhere, or back
  to a directory above itself, is an error that names it;
* what is hidden (its name begins with a dot) is left out, unless asked for or named itself
  (transmission and WebTorrent do so): nobody means to publish `.git` or `.ssh`;
* what is neither file nor directory (sockets, pipes, devices) is left out;
* what may not be read is an error, before anything is hashed: a torrent that silently lacks a file
  is worse than none.

What was left out is counted, to be told. Files come in the order of a v2 tree (`metainfo.create`).

The *stamp* of a file is its inode, size, mtime and ctime: whoever changes a file changes its stamp,
except through a shared memory mapping, where the kernel may note it some seconds late.
"""

from __future__ import annotations

import fnmatch
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from torrentfs.errors import ConfigError, StorageError
from torrentfs.metainfo import limits
from torrentfs.metainfo.create import raw_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torrentfs.metainfo.torrent_file import Metainfo

_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
"""O_NONBLOCK: a pipe that took a file's place is not waited for; without meaning for files."""


class PayloadChanged(StorageError):
    """A file is not what it was when it was listed."""


class Stamp(NamedTuple):
    """How a file looked: equal stamps mean equal content."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """The stamp in what `stat` gave."""
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )


class PayloadFile(NamedTuple):
    """One file: its path below the root (`()` if it is the root), and how it looked."""

    path: tuple[str, ...]
    stamp: Stamp
    executable: bool

    @property
    def length(self) -> int:
        """Bytes."""
        return self.stamp.size


@dataclass(frozen=True, slots=True)
class LeftOut:
    """How many entries were not taken, by reason; a directory counts as one."""

    hidden: int = 0
    excluded: int = 0
    special: int = 0

    def __str__(self) -> str:
        words = {
            "hidden": self.hidden,
            "excluded": self.excluded,
            "neither file nor directory": self.special,
        }
        return ", ".join(f"{count} {word}" for word, count in words.items() if count)


@dataclass(frozen=True, slots=True)
class Payload:
    """The files at `root`, an absolute path, in tree order."""

    root: str
    name: str
    files: Sequence[PayloadFile]
    left_out: LeftOut = LeftOut()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.length for file in self.files)

    def place(self, number: int) -> str:
        """Where file `number` is."""
        return os.path.join(self.root, *self.files[number].path)

    def open(self, number: int) -> int:
        """A descriptor of file `number`, which still has its stamp; `PayloadChanged`."""
        place = self.place(number)
        try:
            fd = os.open(place, _OPEN)
        except OSError as error:
            raise unreadable(place, error) from error
        try:
            self.check(number, fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def check(self, number: int, fd: int) -> None:
        """`PayloadChanged` unless the open file `number` still has its stamp."""
        if Stamp.of(os.fstat(fd)) != self.files[number].stamp:
            raise changed(self.place(number))

    def check_all(self) -> None:
        """`PayloadChanged` when any file has another stamp by now, or is gone."""
        for number, file in enumerate(self.files):
            place = self.place(number)
            try:
                now = Stamp.of(os.stat(place))
            except OSError as error:
                raise unreadable(place, error) from error
            if now != file.stamp:
                raise changed(place)


def shown(place: str | os.PathLike[str]) -> str:
    """A path as a message or log line may have it: bytes that are no text become `\\xNN`."""
    text = os.fsencode(place).decode("utf-8", "backslashreplace")
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def changed(place: str) -> PayloadChanged:
    """The error to raise when the file at `place` is being written to."""
    return PayloadChanged(
        f"{shown(place)} changed while it was read: try again when it is complete"
    )


def unreadable(place: str, error: OSError) -> PayloadChanged:
    """The error to raise when a file that was listed cannot be read."""
    return PayloadChanged(f"cannot read {shown(place)}: {_reason(error)}")


def open_original(place: str) -> int:
    """Open a file for reading, without waiting. `OSError`."""
    return os.open(place, _OPEN)


def list_payload(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    hidden: bool = False,
    exclude: Sequence[str] = (),
) -> Payload:
    """The files at `path`; `ConfigError` when they make no torrent.

    `exclude` are patterns of the shell, each for a name or for a path below `path`.
    """
    root = os.path.abspath(path)
    said = shown(path)
    if name is None:
        name = os.path.basename(root)
        if not name:
            raise ConfigError(f"{said} has no name that a torrent could have: give it one (--name)")
    _check_name(name)
    try:
        status = os.stat(root)
    except OSError as error:
        raise ConfigError(f"cannot read {said}: {_reason(error)}") from error
    listing = _Listing(root, hidden=hidden, exclude=exclude)
    if stat.S_ISREG(status.st_mode):
        files = [_taken((), root, status)]
    elif stat.S_ISDIR(status.st_mode):
        files = sorted(listing.walk((), (_identity(status),)), key=lambda file: raw_path(file.path))
    else:
        raise ConfigError(f"{said} is neither a file nor a directory")
    payload = Payload(root, name, files, listing.left_out())
    if not payload.size:
        what = "has no files" if not files else "has nothing but empty files"
        if stat.S_ISREG(status.st_mode):
            what = "is empty"
        left_out = f" (left out: {payload.left_out})" if str(payload.left_out) else ""
        raise ConfigError(f"{said} {what}: there is nothing to make a torrent of{left_out}")
    return payload


def payload_of(metainfo: Metainfo, path: str | os.PathLike[str]) -> Payload:
    """The files at `path` that a torrent was made of, in its order; `ConfigError`.

    What else lies there does not matter; nor do empty files and links, which have no payload.
    """
    root = os.path.abspath(path)
    files = []
    for file in metainfo.files:
        if file.pad:
            continue
        below = () if metainfo.is_single_file else tuple(map(os.fsdecode, file.raw_path))
        if any(name in ("", ".", "..") or "/" in name for name in below):
            raise ConfigError(f"{shown('/'.join(below))} in the torrent is no path of a file")
        stamp = Stamp(0, 0, 0, 0, 0)
        place = os.path.join(root, *below)
        if file.length:
            try:
                status = os.stat(place)
            except OSError as error:
                raise ConfigError(f"cannot read {shown(place)}: {_reason(error)}") from error
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"{shown(place)} is not a file, as the torrent has it")
            stamp = Stamp.of(status)
            if stamp.size != file.length:
                raise ConfigError(
                    f"{shown(place)} has {stamp.size} bytes, the torrent says {file.length}"
                )
        files.append(PayloadFile(below, stamp, file.executable))
    return Payload(root, metainfo.name, files)


class _Listing:
    """One walk; counts what it leaves out."""

    def __init__(self, root: str, *, hidden: bool, exclude: Sequence[str]) -> None:
        self._root = root
        self._with_hidden = hidden
        self._exclude = exclude
        self._hidden = self._excluded = self._special = 0
        self._files = 0

    def left_out(self) -> LeftOut:
        return LeftOut(self._hidden, self._excluded, self._special)

    def walk(
        self, path: tuple[str, ...], above: tuple[tuple[int, int], ...]
    ) -> Iterator[PayloadFile]:
        """The files below the directory `path`; `above` are the identities of it and its parents.

        The recursion is as deep as the directories are, which has a limit.
        """
        if len(path) >= limits.MAX_PATH_DEPTH:
            raise ConfigError(
                f"{shown(self._place(path))}: a torrent has at most {limits.MAX_PATH_DEPTH} levels"
            )
        try:
            with os.scandir(self._place(path)) as entries:
                found = list(entries)
        except OSError as error:
            raise ConfigError(
                f"cannot read {shown(self._place(path))}: {_reason(error)}"
            ) from error
        for entry in found:
            below = (*path, entry.name)
            if entry.name.startswith(".") and not self._with_hidden:
                self._hidden += 1
                continue
            if self._is_excluded(below):
                self._excluded += 1
                continue
            try:
                status = entry.stat()
            except OSError as error:
                raise ConfigError(self._broken(entry, error)) from error
            if stat.S_ISDIR(status.st_mode):
                identity = _identity(status)
                if identity in above:
                    raise ConfigError(
                        f"{shown(entry.path)} is a link back to a directory above it: "
                        "leave it out with --exclude"
                    )
                yield from self.walk(below, (*above, identity))
            elif stat.S_ISREG(status.st_mode):
                self._files += 1
                if self._files > limits.MAX_FILES:
                    raise ConfigError(
                        f"{shown(self._root)}: a torrent has at most {limits.MAX_FILES} files"
                    )
                yield _taken(below, entry.path, status)
            else:
                self._special += 1

    def _place(self, path: tuple[str, ...]) -> str:
        return os.path.join(self._root, *path)

    def _is_excluded(self, path: tuple[str, ...]) -> bool:
        whole = "/".join(path)
        return any(
            fnmatch.fnmatchcase(path[-1], pattern) or fnmatch.fnmatchcase(whole, pattern)
            for pattern in self._exclude
        )

    def _broken(self, entry: os.DirEntry[str], error: OSError) -> str:
        if entry.is_symlink() and isinstance(error, FileNotFoundError):
            return f"{shown(entry.path)} is a link to nothing: leave it out with --exclude"
        return f"cannot read {shown(entry.path)}: {_reason(error)}"


def _taken(path: tuple[str, ...], place: str, status: os.stat_result) -> PayloadFile:
    if not os.access(place, os.R_OK):
        raise ConfigError(f"cannot read {shown(place)}: permission denied")
    return PayloadFile(path, Stamp.of(status), bool(status.st_mode & stat.S_IXUSR))


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _check_name(name: str) -> None:
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise ConfigError(f"{name!r} cannot be the name of a torrent: it is one file name")
    if len(os.fsencode(name)) > limits.MAX_NAME_BYTES:
        raise ConfigError(f"the name of a torrent has at most {limits.MAX_NAME_BYTES} bytes")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
