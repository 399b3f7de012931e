"""Records as text, and what is no record."""

from __future__ import annotations

from dataclasses import replace

import pytest

from torrentfs.storage.record_file import Pin, Record

KEY = "ab" * 20


def test_a_record_survives_as_text() -> None:
    record = Record(
        KEY, 1.5, folder=("a", "\udcff"), pins=(Pin(), Pin(1, 2, 3)), watched=(("/w", ()),)
    )
    record = replace(record, told="ab", said=(("/w", "cd"),))
    assert Record.parse(KEY, record.to_json()) == record


def test_what_a_newer_version_adds_is_left_out() -> None:
    text = Record(KEY, 1.5).to_json()[:-1] + ', "colour": "blue"}'
    assert Record.parse(KEY, text) == Record(KEY, 1.5)


@pytest.mark.parametrize("text", ["[]", "{}", '{"added": "x"}', '{"added": 1, "folder": 3}'])
def test_what_is_no_record(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Record.parse(KEY, text)
