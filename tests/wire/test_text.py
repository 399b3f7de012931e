"""Words of strangers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torrentfs.wire.text import printable


@given(st.binary(max_size=400), st.integers(0, 300))
def test_any_bytes_become_short_printable_text(raw: bytes, most: int) -> None:
    text = printable(raw, most)
    assert text.isprintable()
    assert len(text) <= most


def test_plain_text_stays() -> None:
    assert printable("qBittorrent/4.6 \N{SNOWMAN}".encode()) == "qBittorrent/4.6 \N{SNOWMAN}"
    assert printable(b"a\nb\x1b[2J") == "a?b?[2J"
