"""A life is waited for, whether it begins or not."""

from __future__ import annotations

from torrentfs.engine.life import Life


def test_it_begins_when_it_says_so() -> None:
    life = Life()
    assert not life.began.is_set()
    life.started()
    assert life.began.is_set()
    assert not life.ended.is_set()
