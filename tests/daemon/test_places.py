"""Dates that never go back, and numbers of files."""

from __future__ import annotations

from tests.daemon.libraries import Clock
from torrentfs.daemon.items import Listeners
from torrentfs.daemon.places import FOLDER_TIMES, Places
from torrentfs.storage.records import Record, Records


def test_moments_only_go_forwards() -> None:
    records = Records(None)
    records.put(Record("ab", 500.0))
    records.set_fact(FOLDER_TIMES, [[[], 1000.25], [["f"], 900.0]])
    clock = Clock(1000.0)
    places = Places({}, records, Listeners(), clock)
    assert places.moment() == 1000.251  # a little behind: a thousandth further
    clock.now = 3.0
    assert places.moment() == 1001.251  # set back: a second that everybody notices
    clock.now = 5000.0
    assert places.moment() == 5000.01
