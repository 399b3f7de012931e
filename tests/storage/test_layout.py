"""Where bytes lie: against a byte-by-byte account."""

from __future__ import annotations

import pytest

from tests.storage.torrents import KIB, Sample, make
from torrentfs.storage.layout import Layout

FILES = (("a/empty", 0), ("a/one", 70_001), ("b/three", 50_000), ("four", 3), ("two", 16 * KIB))
SAMPLES = {
    "v1": make(FILES, piece_length=16 * KIB),
    "hybrid": make(FILES, piece_length=16 * KIB, version="hybrid"),
    "v2": make(FILES, piece_length=16 * KIB, version="v2"),
    "single": make(100_000, piece_length=16 * KIB),
}


@pytest.fixture(params=SAMPLES)
def sample(request: pytest.FixtureRequest) -> Sample:
    return SAMPLES[request.param]


def files_of(sample: Sample) -> dict[int, bytes]:
    """The true contents of each file, from piece space."""
    geometry = sample.metainfo.geometry
    space = b"".join(piece.ljust(geometry.piece_length, b"\0") for piece in sample.pieces)
    return {
        number: space[geometry.file_starts[number] :][: geometry.file_lengths[number]]
        for number in range(len(sample.metainfo.files))
    }


def test_runs_put_each_byte_at_its_place_and_no_padding_anywhere(sample: Sample) -> None:
    layout = Layout(sample.metainfo)
    runs = layout.runs(list(enumerate(sample.pieces)))
    written = {n: bytearray(len(data)) for n, data in files_of(sample).items()}
    for run in runs:
        place = run.offset
        for buffer in run.buffers:
            written[run.file][place : place + len(buffer)] = buffer
            place += len(buffer)
    for number, data in files_of(sample).items():
        assert written[number] == data
    assert not any(layout.is_pad(run.file) for run in runs)
    assert len({run.file for run in runs}) == len(runs)  # one run for each file


def test_pieces_in_a_range_of_a_file(sample: Sample) -> None:
    layout = Layout(sample.metainfo)
    geometry = sample.metainfo.geometry
    for file, data in files_of(sample).items():
        for start, end in ((0, 1), (0, len(data)), (len(data) - 1, len(data)), (5000, 20_000)):
            if 0 <= start < end <= len(data):
                places = range(geometry.file_starts[file] + start, geometry.file_starts[file] + end)
                wanted = {place // geometry.piece_length for place in places}
                assert set(layout.pieces_in(file, start, end)) == wanted


def test_padding_that_is_not_zeros_is_noticed() -> None:
    sample = SAMPLES["hybrid"]
    layout = Layout(sample.metainfo)
    for number, piece in enumerate(sample.pieces):
        assert layout.pads_are_zero(number, piece)
        spans = list(layout.spans(number, 0, len(piece)))
        place = 0
        for span in spans:
            harmed = bytearray(piece)
            harmed[place + span.length - 1] ^= 1
            assert layout.pads_are_zero(number, harmed) == (not layout.is_pad(span.file))
            place += span.length


def test_paths_are_the_torrents_own(sample: Sample) -> None:
    layout = Layout(sample.metainfo)
    for number, file in enumerate(sample.metainfo.files):
        assert layout.path(number) == "/".join(("sample", *file.path))


def test_only_what_is_too_long_for_a_system_call_has_a_number() -> None:
    deep = ("/".join(["ü" * 100] * 20), 1)
    layout = Layout(make((("short", 1), deep)).metainfo)
    paths = [layout.path(n) for n in range(len(layout.files)) if not layout.is_pad(n)]
    assert "sample/short" in paths
    assert [path for path in paths if path.startswith(".long/")]
    assert all(len(path.encode()) < 4096 for path in paths)
