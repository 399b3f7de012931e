"""What sources tell, and what follows from it without a decision."""

from __future__ import annotations

from torrentfs.metainfo.bitfield import Bitfield
from torrentfs.metainfo.geometry import Geometry
from torrentfs.scheduling.agenda import Level, Want
from torrentfs.scheduling.picker import Picker
from torrentfs.scheduling.roster import Roster
from torrentfs.scheduling.source import SourceKind

MIB = 1024 * 1024


def make(stored: Bitfield | None = None) -> Roster:
    roster = Roster(Geometry(MIB, [8 * MIB]), stored=stored)
    roster.add_source(1, SourceKind.PEER, 0.0, max_queue=250)
    return roster


def test_a_source_is_interesting_while_it_has_what_we_lack() -> None:
    stored = Bitfield(8)
    stored.add(3)
    roster = make(stored)
    roster.on_have(1, 3)
    assert not roster.is_interesting(1)
    roster.on_have(1, 4)
    assert roster.is_interesting(1)
    roster.on_dont_have(1, 4)
    assert not roster.is_interesting(1)
    roster.on_have_all(1)
    assert roster.is_interesting(1)


def test_what_changes_what_may_be_asked_calls_for_attention() -> None:
    roster = make()
    assert not roster.attention, "a peer says first what it has"
    roster.on_have_all(1)
    assert roster.attention
    roster.attention = False
    roster.on_unchoke(1, 0.0)
    assert roster.attention
    roster.attention = False
    roster.on_have(1, 3)
    assert not roster.attention, "it had all"


def test_a_source_owes_what_it_was_asked_for() -> None:
    picker = Picker(Geometry(MIB, [8 * MIB]))
    picker.add_source(1, SourceKind.PEER, 0.0, max_queue=250)
    picker.on_have_all(1)
    picker.on_unchoke(1, 0.0)
    assert not picker.is_owing(1)
    picker.set_agenda([Want(0, Level.URGENT, 9.0)], 0.0)
    picker.pick(1, 0.0)
    assert picker.is_owing(1)
    picker.on_choke(1, 0.1, keeps_requests=False)
    assert not picker.is_owing(1)
    assert not picker.is_owing(2)


def test_who_would_answer_first() -> None:
    picker = Picker(Geometry(65536, [65536 * 4]))
    for name in (1, 2, 3):
        picker.add_source(name, SourceKind.PEER, 0.0, max_queue=9)
    picker.add_source(4, SourceKind.WEB_SEED, 0.0, max_queue=2)
    assert picker.soonest(0, 0.0) == []
    assert picker.is_served(0)  # by the web seed, which has no hashes
    for name in (1, 2):
        picker.on_have_all(name)
        picker.on_unchoke(name, 0.0)
        pace = picker.ledger.sources[name].pace
        pace.rtt, pace.rate = 0.3 / name, 1e6
    assert picker.soonest(0, 0.0) == [2, 1]
    assert picker.arrival(2, 0.0) < picker.arrival(1, 0.0)
    picker.ledger.sources[2].snubbed = True
    assert picker.soonest(0, 0.0) == [1, 2]
