"""Who is woken, and what is never asked twice."""

from __future__ import annotations

from torrentfs.metainfo.geometry import Geometry
from torrentfs.scheduling.hedging import hedge, next_wakeup, to_wake
from torrentfs.scheduling.picker import Level, Picker, SourceKind, Want

MIB = 1024 * 1024


def make() -> Picker:
    picker = Picker(Geometry(MIB, [8 * MIB]))
    for name in (1, 2):
        picker.add_source(name, SourceKind.PEER, 0.0, max_queue=250)
        picker.on_have_all(name)
        picker.on_unchoke(name, 0.0)
    return picker


def test_no_block_is_asked_twice_of_one_source_or_beyond_the_budget() -> None:
    for duplicates, expected in ((0, True), (10 * MIB, False)):
        picker = make()
        picker.set_agenda([Want(0, Level.URGENT, 9.0)], 0.0)
        picker.pick(1, 0.0)
        picker.duplicates = duplicates
        asked = hedge(picker, picker.ledger.sources[2], 50, 2.0)
        assert bool(asked) is expected
        again = hedge(picker, picker.ledger.sources[2], 50, 2.0)
        assert not set(asked) & set(again)
        assert hedge(picker, picker.ledger.sources[1], 50, 2.0) == []


def test_read_ahead_is_never_hedged() -> None:
    picker = make()
    picker.set_agenda([Want(0, Level.WINDOW, 9.0)], 0.0)
    picker.pick(1, 0.0)
    assert hedge(picker, picker.ledger.sources[2], 50, 1.0) == []


def test_it_wakes_for_late_blocks_while_a_read_waits() -> None:
    picker = make()
    assert to_wake(picker, 0.0) == []
    picker.set_agenda([Want(0, Level.URGENT, 9.0)], 0.0)
    assert sorted(to_wake(picker, 0.0)) == [1, 2]
    picker.pick(1, 0.0)
    to_wake(picker, 0.1)
    wake = next_wakeup(picker, 0.1)
    assert wake is not None
    assert 0.1 <= wake <= 0.121
