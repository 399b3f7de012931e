"""Bencoding: malformed input gives `BencodingError`; what decodes encodes to an equal value."""

from __future__ import annotations

from collections.abc import Iterable

from torrentfs.metainfo import bencoding
from torrentfs.metainfo.bencoding import BencodingError

MODULES = ["torrentfs.metainfo.bencoding"]


def seeds() -> Iterable[bytes]:
    """Well-formed values of each kind, and nesting."""
    yield b"i0e"
    yield b"i-42e"
    yield b"0:"
    yield b"11:hello world"
    yield b"li1e3:abcli2eee"
    yield b"d1:ai1e1:bd1:clee2:zz0:e"
    yield b"d8:msg_typei1e5:piecei0e10:total_sizei34256eexxxxxxxx"
    yield b"l" * 40 + b"e" * 40
    yield b"d5:filesld6:lengthi1e4:pathl1:a1:beed6:lengthi2e4:pathl1:a1:ceee"


def one_input(data: bytes) -> None:
    """Decode in each way; they must agree."""
    try:
        value, end = bencoding.decode_prefix(data)
    except BencodingError:
        value, end = None, 0
    if end:
        assert bencoding.decode(data[:end]) == value
        assert bencoding.decode(bencoding.encode(value)) == value
