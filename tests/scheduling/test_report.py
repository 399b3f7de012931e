"""What a picker tells of itself."""

from __future__ import annotations

import pytest

from torrentfs.metainfo.geometry import BLOCK_LENGTH, Geometry
from torrentfs.scheduling.agenda import Level, Want
from torrentfs.scheduling.picker import Picker
from torrentfs.scheduling.report import BlockVerdict, PickerConfig
from torrentfs.scheduling.source import SourceKind

MIB = 1024 * 1024


def test_statistics_count_what_happened() -> None:
    picker = Picker(Geometry(MIB, [8 * MIB]), PickerConfig(initial_queue=4, lone_queue=4))
    picker.add_source(7, SourceKind.PEER, 0.0, max_queue=250)
    picker.on_have_all(7)
    picker.on_unchoke(7, 0.0)
    picker.set_agenda([Want(0, Level.URGENT, 9.0), Want(1, Level.WINDOW, 9.0)], 0.0)
    assert len(picker.pick(7, 0.0)) == 4
    assert picker.on_block(7, 0, 0, BLOCK_LENGTH, 0.05) == BlockVerdict(True, False)
    assert not picker.on_block(7, 0, 0, BLOCK_LENGTH, 0.06).wanted
    now = picker.statistics()
    assert (now.received, now.wasted, now.hedged) == (BLOCK_LENGTH, BLOCK_LENGTH, 0)
    assert (now.open_pieces, now.idle_partials, now.urgent, now.ahead) == (1, 0, 1, 1)
    assert now.in_flight == 3
    source = now.sources[7]
    assert (source.kind, source.choking, source.snubbed) == ("peer", False, False)
    assert (source.received, source.wasted, source.in_flight) == (BLOCK_LENGTH, BLOCK_LENGTH, 3)
    assert source.rtt == pytest.approx(0.05)


def test_a_config_bounds_what_is_kept_of_what_nobody_wants() -> None:
    picker = Picker(Geometry(MIB, [8 * MIB]), PickerConfig(max_idle_partials=2))
    picker.add_source(7, SourceKind.PEER, 0.0, max_queue=250)
    picker.on_have_all(7)
    picker.on_unchoke(7, 0.0)
    for piece in range(5):
        picker.set_agenda([Want(piece, Level.URGENT, 9.0)], float(piece))
        request = picker.pick(7, float(piece))[0]
        picker.on_block(7, *request, piece + 0.05)
    picker.set_agenda([], 9.0)
    assert picker.statistics().idle_partials == 2
    assert picker.take_dropped() == [0, 1, 2]
