"""The order of wants."""

from __future__ import annotations

from torrentfs.scheduling.agenda import Agenda, Level, Want


def test_urgent_wants_lead_and_the_rest_keeps_its_order() -> None:
    wants = [Want(3, Level.WINDOW, 1.0), Want(1, Level.URGENT, 2.0), Want(2, Level.HINT, 3.0)]
    agenda = Agenda.of(wants)
    assert [want.piece for want in agenda] == [1, 3, 2]
    assert len(agenda) == 3
    assert agenda[0].piece == 1
    assert list(agenda[1:]) == [wants[0], wants[2]]
