"""Which small files belong to a video, by their names, and what they may cost."""

from __future__ import annotations

import pytest

from tests.storage.torrents import KIB, make
from torrentfs.metainfo.siblings import LARGEST, MOST, pieces_of_siblings, siblings_of

NAMES = [
    "Film.mkv",
    "Film.en.srt",
    "Film-poster.jpg",
    "Film.nfo",
    "Filmed.srt",
    "Film.mkv.txt",
    "other.srt",
    "Subs/Film.fr.srt",
    "Subs/2_English.srt",
    "Subs/Film/3_German.srt",
    "Subs/Other/3_German.srt",
    "Extras/Film.srt",
    "Other.mkv",
]
FILES = tuple((name, 40_000 if name.endswith("mkv") else 3000) for name in NAMES)


def test_they_are_told_by_their_names() -> None:
    metainfo = make(FILES).metainfo
    assert [NAMES[n] for n in siblings_of(metainfo, 0)] == [
        "Film.en.srt",
        "Film-poster.jpg",
        "Film.nfo",
        "Subs/Film.fr.srt",
        "Subs/Film/3_German.srt",
    ]
    other = siblings_of(metainfo, NAMES.index("Other.mkv"))
    assert [NAMES[n] for n in other] == ["Subs/Other/3_German.srt"]


def test_in_a_folder_for_subtitles_any_name_will_do() -> None:
    files = (("a.mkv", 9), ("a.nfo", 9), ("subs/2_English.srt", 9), ("subs/3_German.SRT", 9))
    assert siblings_of(make(files).metainfo, 0) == [1, 2, 3]


@pytest.mark.parametrize("name", ["Film.srt", "Film", ".mkv", "Film.mp3"])
def test_who_is_no_video_has_none(name: str) -> None:
    assert siblings_of(make(((name, 9), ("Film.en.srt", 9), ("..srt", 9))).metainfo, 0) == []


def test_a_single_file_has_none() -> None:
    assert siblings_of(make(40_000, name="Film.mkv").metainfo, 0) == []


def test_hidden_files_stay_away() -> None:
    assert siblings_of(make(FILES).metainfo, 0, [range(1), range(3, 4)]) == [3]


def test_they_are_small_and_few() -> None:
    sizes = [LARGEST, LARGEST + 1, LARGEST, LARGEST, LARGEST - 5, 6, 5]
    files = (("a.mkv", 9), *((f"a.{n}.srt", size) for n, size in enumerate(sizes)))
    metainfo = make(files, piece_length=64 * KIB).metainfo
    assert siblings_of(metainfo, 0) == [1, 3, 4, 5, 7]
    assert sum(metainfo.files[n].length for n in (1, 3, 4, 5, 7)) == MOST


def test_large_pieces_are_not_worth_it_unless_they_come_anyway() -> None:
    small = make(
        (("a.mkv", 5 * MOST), ("gap", 9 * MOST), ("b.srt", 9), ("a.srt", 9)), piece_length=4 * MOST
    )
    assert pieces_of_siblings(small.metainfo, 0) == []
    beside = make((("a.mkv", 5 * MOST), ("a.srt", 9)), piece_length=4 * MOST)
    assert pieces_of_siblings(beside.metainfo, 0) == [range(1, 2)]
    cheap = make((("a.mkv", MOST), ("gap", MOST), ("a.srt", 9)), piece_length=64 * KIB)
    assert pieces_of_siblings(cheap.metainfo, 0) == [range(128, 129)]
