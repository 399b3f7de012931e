"""Pins and prefetches of one torrent: what they mean, how they are written down and counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.engine.errands import Errands, Pin, bytes_of, pins_of, range_of
from torrentfs.errors import ConfigError
from torrentfs.metainfo.geometry import Geometry
from torrentfs.metainfo.intervals import each_of, joined

SIZES = [100, 0, 250, 64, 1]
PLAIN = Geometry(32, SIZES)
ALIGNED = Geometry(32, SIZES, aligned=True)

PINS = st.builds(
    Pin,
    st.none() | st.integers(0, len(SIZES) - 1),
    st.integers(0, 500),
    st.none() | st.integers(0, 500),
)


def data_bytes(geometry: Geometry, pins: list[Pin] | tuple[Pin, ...]) -> set[tuple[int, int]]:
    """(file, offset) of all bytes that the pins mean, by their definition."""
    found: set[tuple[int, int]] = set()
    for pin in pins:
        for part in (range_of(geometry, pin),):
            for span in geometry.files_in(part.start, len(part)):
                found |= {(span.file, span.offset + n) for n in range(span.length)}
    return found


@pytest.mark.parametrize("geometry", [PLAIN, ALIGNED], ids=["plain", "aligned"])
@given(pins=st.lists(PINS, max_size=4))
def test_pins_can_be_written_down_and_read_again(geometry: Geometry, pins: list[Pin]) -> None:
    kept = joined(range_of(geometry, pin) for pin in pins)
    written = pins_of(geometry, kept)
    assert data_bytes(geometry, written) == data_bytes(geometry, pins)
    assert pins_of(geometry, Errands(geometry, written).kept) == written


@pytest.mark.parametrize("geometry", [PLAIN, ALIGNED], ids=["plain", "aligned"])
@given(start=st.integers(0, 14), size=st.integers(0, 14))
def test_bytes_of_pieces_are_those_of_their_data(geometry: Geometry, start: int, size: int) -> None:
    pieces = range(start, min(geometry.num_pieces, start + size))
    assert bytes_of(geometry, [pieces] if pieces else []) == sum(map(geometry.piece_size, pieces))


def test_all_of_a_torrent_is_one_pin() -> None:
    assert Errands(PLAIN, [Pin()]).pins == (Pin(),)
    assert Errands(PLAIN, [Pin(0), Pin(2), Pin(3), Pin(4)]).pins == (Pin(),)
    assert Errands(PLAIN, [Pin(2)]).pins == (Pin(2),)
    assert Errands(PLAIN, [Pin(2, 10, 20)]).pins == (Pin(2, 10, 20),)
    assert Errands(PLAIN, [Pin(2, 10), Pin(3, 0, 4)]).pins == (Pin(2, 10), Pin(3, 0, 4))


def test_pins_are_taken_from_pins() -> None:
    errands = Errands(PLAIN, [Pin()])
    errands.keep(errands.without_pins([Pin(2)]))
    assert errands.pins == (Pin(0), Pin(3), Pin(4))
    assert list(each_of(errands.kept_pieces)) == [0, 1, 2, 3, 10, 11, 12]
    errands.keep(errands.with_pins([Pin(2, 0, 250)]))
    assert errands.pins == (Pin(),)


@pytest.mark.parametrize(
    "pin", [Pin(5), Pin(-1), Pin(0, -1), Pin(0, 0, -5)], ids=["5", "-1", "offset", "length"]
)
def test_what_is_not_there_cannot_be_pinned(pin: Pin) -> None:
    with pytest.raises(ConfigError):
        range_of(PLAIN, pin)
