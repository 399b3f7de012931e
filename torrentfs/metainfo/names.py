"""Names that a torrent gives, made safe, unique and stable for a file system.

A component of a path comes from a stranger as any bytes. Its *safe* form is one that Linux takes,
that leads nowhere else and that fools nobody's terminal:

* bytes that are no UTF-8, `/`, control characters and the marks that turn the direction of text
  (which make `exe.gpj` read `jpg.exe`) become `_` each; so does an empty name, `.` and `..`;
* the device names of Windows (`CON`, `nul.txt`), which a share of the mount would stumble over,
  get a `_` in front;
* more than 255 bytes of UTF-8 are cut, the extension kept, and a digest put in.

Safe forms of one directory may still collide: exact duplicates, a file where a directory is
needed, names that differ only in case or in the Unicode form of an accent, names that became equal
above. Then one keeps its name (one that needed no change before one that did, then the smallest
in byte order, then the directory) and each other gets ` [8 hex digits]` of a digest of *its own*
path in the torrent, before its extension. So a name depends on which names there are, never on the
order in which files were listed or loaded. Only exact duplicates are told apart by their order.

200,000 names take some 0.1 s, because a torrent of plain names, which nearly all are, is checked
as one long string.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from typing import TYPE_CHECKING

from torrentfs.errors import InvalidTorrent
from torrentfs.metainfo import limits

if TYPE_CHECKING:
    from collections.abc import Sequence

_REPLACEMENT = "_"
# invalid UTF-8 arrives as lone surrogates (surrogateescape); C0, DEL, C1; bidirectional marks
_BAD_CHARACTERS = re.compile(
    "[/\x00-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul"] + [f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10)]
)
_DEVICE_STARTS = frozenset("\0" + device[:3] for device in _DEVICES)
_NO_NAMES = frozenset(["", ".", ".."])
_MAX_EXTENSION_BYTES = 32
_DIGEST_LENGTH = len(" [12345678]")


def safe_name(raw: bytes) -> str:
    """The safe form of one component; a pure function of its bytes (no uniqueness)."""
    text = _BAD_CHARACTERS.sub(_REPLACEMENT, raw.decode("utf-8", "surrogateescape"))
    if text in _NO_NAMES:
        return _REPLACEMENT
    if _stem(text.lower()) in _DEVICES:
        text = _REPLACEMENT + text
    if len(text.encode()) > limits.MAX_NAME_BYTES:
        text = _with_digest(text, _digest([raw]))
    return text


def collision_key(text: str) -> str:
    """What two names of one directory must not share: case and Unicode form folded away."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).casefold())


def _stem(text: str) -> str:
    return text.partition(".")[0].rstrip(" ")


def _digest(parts: Sequence[bytes]) -> str:
    """Eight hex digits of a digest of `parts`, their borders included."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()[:8]


def _cut(text: str, size: int) -> str:
    """As much of the front of `text` as fits into `size` bytes of UTF-8."""
    return text.encode()[: max(0, size)].decode("utf-8", "ignore")


def _with_digest(text: str, digest: str) -> str:
    """`text` with ` [digest]` before its extension, cut to what a file system takes."""
    stem, dot, extension = text.rpartition(".")
    if not stem or len(extension.encode()) > _MAX_EXTENSION_BYTES:
        stem, dot, extension = text, "", ""
    room = limits.MAX_NAME_BYTES - _DIGEST_LENGTH - len((dot + extension).encode())
    return f"{_cut(stem, room)} [{digest}]{dot}{extension}"


def _plain_names(raw: Sequence[bytes]) -> tuple[list[str], list[str]] | None:
    """(names, collision keys) when every name is safe as it is, checked all at once; else None."""
    if not raw or max(map(len, raw)) > limits.MAX_NAME_BYTES:
        return None
    try:
        text = b"\0".join(raw).decode()
    except UnicodeDecodeError:
        return None
    if "/" in text or text.count("\0") != len(raw) - 1 or not text.replace("\0", "").isprintable():
        return None
    folded = "\0" + collision_key(text)
    keys = folded[1:].split("\0")
    if not _NO_NAMES.isdisjoint(keys):
        return None
    if any(start in folded for start in _DEVICE_STARTS) and not _DEVICES.isdisjoint(
        map(_stem, keys)
    ):
        return None
    return text.split("\0"), keys


class NameTree:
    """The directories and files of a torrent by their raw names, and then by safe ones.

    `add` files in torrent order, then `resolve` once. Directory 0 is the root.
    """

    __slots__ = (
        "_children",
        "_last",
        "directory_names",
        "directory_parents",
        "file_names",
        "file_parents",
    )

    def __init__(self) -> None:
        self._children: dict[tuple[int, bytes], int] = {}
        self._last: tuple[tuple[bytes, ...], int] = ((), 0)
        self.directory_names = [b""]
        self.directory_parents = [0]
        self.file_names: list[bytes] = []
        self.file_parents: list[int] = []

    def __len__(self) -> int:
        return len(self.file_names)

    def add(self, directory: tuple[bytes, ...], name: bytes) -> None:
        """Add the next file."""
        if directory is not self._last[0]:
            number = 0
            for (
                part
            ) in directory:  # keyed by parent: whole paths as keys would grow as depth squared
                key = (number, part)
                found = self._children.get(key)
                number = self._add_directory(key) if found is None else found
            self._last = (directory, number)
        self.file_parents.append(self._last[1])
        self.file_names.append(name)

    def _add_directory(self, key: tuple[int, bytes]) -> int:
        number = self._children[key] = len(self.directory_names)
        if number > limits.MAX_FILES:
            raise InvalidTorrent(f"the torrent has more than {limits.MAX_FILES} directories")
        self.directory_parents.append(key[0])
        self.directory_names.append(key[1])
        return number

    def find_directory(self, raw: Sequence[bytes]) -> int | None:
        """The number of the directory whose raw path is given, or None."""
        number: int | None = 0
        for part in raw:
            if number is None:
                return None
            number = self._children.get((number, part))
        return number

    def same_files(self, other: NameTree) -> bool:
        """True when both have the same raw paths in the same order."""
        return (
            self.file_names == other.file_names
            and self.file_parents == other.file_parents
            and self.directory_names == other.directory_names
            and self.directory_parents == other.directory_parents
        )

    def raw_path(self, file: int) -> tuple[bytes, ...]:
        """The components of one file as they came."""
        return (*self._raw_directory(self.file_parents[file]), self.file_names[file])

    def _raw_directory(self, number: int) -> tuple[bytes, ...]:
        path: list[bytes] = []
        while number:
            path.append(self.directory_names[number])
            number = self.directory_parents[number]
        return tuple(reversed(path))

    def resolve(self) -> ResolvedNames:
        """Give every file and directory its safe, unique, stable name."""
        raw = self.directory_names[1:] + self.file_names
        parents = self.directory_parents[1:] + self.file_parents
        plain = _plain_names(raw)
        names, keys = plain or _safe_names(raw)
        if len(set(keys)) != len(keys) and len(set(zip(parents, keys, strict=True))) != len(keys):
            self._separate(raw, parents, names, keys)
            plain = None
        return self._assemble(names, altered=plain is None)

    def _separate(
        self, raw: list[bytes], parents: list[int], names: list[str], keys: list[str]
    ) -> None:
        """Change `names` in place until no two of one directory share their key."""
        num_directories = len(self.directory_names) - 1
        groups: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
        for entry, place in enumerate(zip(parents, keys, strict=True)):
            groups[place].append(entry)
        taken = set(groups)
        for place in sorted(place for place, group in groups.items() if len(group) > 1):
            group = groups[place]
            group.sort(key=lambda e: (names[e].encode() != raw[e], raw[e], e >= num_directories, e))
            twins: defaultdict[tuple[bytes, bool], int] = defaultdict(int)
            directory = self._raw_directory(place[0])
            for rank, entry in enumerate(group):
                kind = (raw[entry], entry >= num_directories)
                ordinal = twins[kind]
                twins[kind] += 1
                if rank == 0:
                    continue
                name = names[entry]
                attempt = 0
                while (place[0], collision_key(name)) in taken:
                    salt = b"%d %d %d" % (kind[1], ordinal, attempt)
                    name = _with_digest(names[entry], _digest([*directory, raw[entry], salt]))
                    attempt += 1
                names[entry] = name
                taken.add((place[0], collision_key(name)))

    def _assemble(self, names: list[str], *, altered: bool) -> ResolvedNames:
        split = len(self.directory_names) - 1
        directories = _DirectoryPaths(self.directory_parents, names[:split])
        paths = [
            (*directories[parent], name)
            for parent, name in zip(self.file_parents, names[split:], strict=True)
        ]
        raw_paths: dict[int, tuple[bytes, ...]] = {}
        if altered:
            for file, path in enumerate(paths):
                raw = self.raw_path(file)
                if raw != tuple(name.encode() for name in path):
                    raw_paths[file] = raw
        return ResolvedNames(paths, raw_paths, self, directories)


class _DirectoryPaths(dict[int, tuple[str, ...]]):
    """Safe paths of the directories that were asked for (those that hold files)."""

    def __init__(self, parents: list[int], names: list[str]) -> None:
        super().__init__({0: ()})
        self._parents = parents
        self._names = names

    def __missing__(self, number: int) -> tuple[str, ...]:
        path: list[str] = []
        above = number
        while above:
            path.append(self._names[above - 1])
            above = self._parents[above]
        self[number] = tuple(reversed(path))
        return self[number]


class ResolvedNames:
    """What `NameTree.resolve` found.

    `paths[i]` are the safe components of file `i`; `raw_paths[i]` its raw ones, only where they
    are not simply the UTF-8 of `paths[i]`.
    """

    __slots__ = ("_by_raw", "_directories", "_tree", "paths", "raw_paths")

    def __init__(
        self,
        paths: list[tuple[str, ...]],
        raw_paths: dict[int, tuple[bytes, ...]],
        tree: NameTree,
        directories: _DirectoryPaths,
    ) -> None:
        self.paths = paths
        self.raw_paths = raw_paths
        self._tree = tree
        self._directories = directories
        self._by_raw: dict[tuple[bytes, ...], tuple[str, ...]] | None = None

    def entry(self, raw: tuple[bytes, ...]) -> tuple[str, ...] | None:
        """The safe path of the directory or file whose raw path is given, or None."""
        number = self._tree.find_directory(raw)
        if number is not None:
            return self._directories[number]
        if self._by_raw is None:
            plain = {tuple(n.encode() for n in path): path for path in self.paths}
            changed = {raw: self.paths[file] for file, raw in self.raw_paths.items()}
            self._by_raw = plain | changed
        return self._by_raw.get(raw)

    def top_level_keys(self) -> set[str]:
        """Collision keys of what lies directly in the root."""
        return {collision_key(path[0]) for path in self.paths}


def _safe_names(raw: Sequence[bytes]) -> tuple[list[str], list[str]]:
    safe = {name: safe_name(name) for name in dict.fromkeys(raw)}
    names = [safe[name] for name in raw]
    return names, [collision_key(name) for name in names]
