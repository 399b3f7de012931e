"""The small files that belong to a video: subtitles, its description, its picture.

Who plays a film reads them a moment later, one by one, each for a round trip. They are told by
their names: `Film.en.srt` and `Film-poster.jpg` beside `Film.mkv`, what is in a folder `Subs`
beside it, and there, if there is one, in the folder of the film (`Subs/Film/2_English.srt`).
Where some in `Subs` are named after the film, the others are of other films.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torrentfs.metainfo.torrent_file import Metainfo

VIDEOS = frozenset({
    "avi", "flv", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "ogm", "ogv", "ts",
    "vob", "webm", "wmv",
})  # fmt: skip
SMALL = frozenset({"ass", "cue", "idx", "jpg", "nfo", "srt", "sub", "vtt"})
FOLDERS = frozenset({"sub", "subs", "subtitle", "subtitles"})

LARGEST = 1 << 20
"""Bytes of one such file."""
MOST = 4 << 20
"""Bytes of all of them, and of the pieces that they cost; more only for large videos (`SHARE`)."""
SHARE = 64
"""The pieces may cost one part in so many of the video."""
NEAR = 500
"""Files looked at before and after the video: a torrent may have 100,000."""


def siblings_of(metainfo: Metainfo, video: int, shown: Sequence[range] = ()) -> list[int]:
    """The numbers of the small files that belong to file number `video`; those of its name first.

    Of those that are `shown` (none: all), up to `MOST` bytes. Empty for what is no video.
    """
    if metainfo.is_single_file:
        return []
    *folder, name = metainfo.files[video].path
    stem, _, kind = name.rpartition(".")
    if kind.lower() not in VIDEOS or not stem:
        return []
    found: list[tuple[int, int]] = []
    files = metainfo.files
    for number in range(max(0, video - NEAR), min(len(files), video + NEAR)):
        file = files[number]
        if file.pad or not 0 < file.length <= LARGEST:
            continue
        if file.path[-1].rpartition(".")[2].lower() not in SMALL:
            continue
        if shown and not any(number in part for part in shown):
            continue
        rank = _rank(list(file.path), folder, stem)
        if rank is not None:
            found.append((rank, number))
    if any(rank < 2 and len(files[number].path) > len(folder) + 1 for rank, number in found):
        found = [(rank, number) for rank, number in found if rank < 2]  # they go by name here
    chosen: list[int] = []
    room = MOST
    for _, number in sorted(found):
        if files[number].length <= room:
            room -= files[number].length
            chosen.append(number)
    return chosen


def _rank(path: list[str], folder: list[str], stem: str) -> int | None:
    """How sure it is that a small file belongs to the video (0: very); None: it does not."""
    depth = len(folder)
    if path[:depth] != folder:
        return None
    rest = path[depth:]
    name = rest[-1]
    named = name.startswith(stem) and name[len(stem) : len(stem) + 1] in (".", "-", "_")
    if len(rest) == 1:
        return 0 if named else None
    if rest[0].lower() not in FOLDERS:
        return None
    if len(rest) == 2:
        return 0 if named else 2
    return 1 if len(rest) == 3 and rest[1] == stem else None


def pieces_of_siblings(metainfo: Metainfo, video: int, shown: Sequence[range] = ()) -> list[range]:
    """The pieces of `siblings_of`, as long as they do not cost more than that is worth."""
    geometry = metainfo.geometry
    room = max(MOST, metainfo.files[video].length // SHARE)
    own = geometry.pieces_of_file(video)  # will be fetched anyway
    wanted: dict[int, None] = {}
    for number in siblings_of(metainfo, video, shown):
        pieces = [p for p in geometry.pieces_of_file(number) if p not in own and p not in wanted]
        cost = sum(map(geometry.piece_size, pieces))
        if cost <= room:
            room -= cost
            wanted.update(dict.fromkeys(geometry.pieces_of_file(number)))
    return [range(piece, piece + 1) for piece in sorted(wanted)]
