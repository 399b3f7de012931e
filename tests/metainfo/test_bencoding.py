"""Bencoding: what bencode.py gets wrong is right here."""

from __future__ import annotations

import pytest

from torrentfs.metainfo import bencoding, limits
from torrentfs.metainfo.bencoding import BencodingError, Cursor, PlainFile


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"i0e", 0),
        (b"i-7e", -7),
        (b"i18446744073709551615e", 2**64 - 1),
        (b"0:", b""),
        (b"12:hello world!", b"hello world!"),
        (b"le", []),
        (b"l1:a12:hello world!100:" + b"x" * 100 + b"i1ee", [b"a", b"hello world!", b"x" * 100, 1]),
        (b"de", {}),
        (b"d1:bi1e1:ai2ee", {b"a": 2, b"b": 1}),  # keys out of order
        (b"d12:hello world!d0:leee", {b"hello world!": {b"": []}}),
    ],
)
def test_decode(data: bytes, value: object) -> None:
    assert bencoding.decode(data) == value
    assert bencoding.decode(memoryview(data)) == value
    assert bencoding.decode_prefix(data + b"tail") == (value, len(data))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"e",
        b"ie",
        b"i 1e",
        b"i1 e",
        b"i+1e",
        b"i1_0e",
        b"i01e",
        b"i-0e",
        b"i-e",
        b"i1",
        b"i" + b"1" * 1000 + b"e",
        b"5:abcd",
        b"05:abcde",
        b"-1:a",
        b" 1:a",
        b"1_0:aaaaaaaaaa",
        b"99999999999999999999:a",
        b"1",
        b"l",
        b"li1e",
        b"l2:a",
        b"l22:a",
        b"l1:ae1:b",
        b"d",
        b"d1:a",
        b"d1:ae",
        b"di1ei1ee",
        b"dlei1ee",
        b"d1:ai1e1:ai2ee",
        b"i1etail",
        b"i1e\n",
        "i١e".encode(),
    ],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(BencodingError) as caught:
        bencoding.decode(data)
    assert "\n" not in str(caught.value)


def test_nesting_is_counted() -> None:
    assert bencoding.decode(b"l" * 32 + b"e" * 32, max_depth=32)
    for opening in (b"l", b"d1:a"):
        with pytest.raises(BencodingError, match="depth"):
            bencoding.decode(opening * 100_000, max_depth=32)


def test_lists_and_dictionaries_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CONTAINERS", 10)
    assert len(bencoding.decode(b"l" + b"le" * 9 + b"e")) == 9
    with pytest.raises(BencodingError, match="number of lists"):
        bencoding.decode(b"l" + b"le" * 5 + b"d1:xdee" * 5 + b"e")


def test_size_is_capped() -> None:
    with pytest.raises(BencodingError, match="over the limit"):
        bencoding.decode_prefix(b"100:" + bytes(100), max_size=100)


def test_encode_sorts_keys_and_takes_encoded_parts() -> None:
    value = {b"b": bencoding.encoded(b"d1:zi1e1:ai2ee"), b"a": ("ä", 1, [b"x"])}
    assert bencoding.encode(value) == b"d1:al2:\xc3\xa4i1el1:xee1:bd1:zi1e1:ai2eee"


def test_cursor_walks() -> None:
    cursor = Cursor(b"d1:ali1ei2ee1:b3:xyz1:cd1:dleee rest")
    seen: list[object] = []
    for key in cursor.dictionary():
        if cursor.at_list():
            seen.append((key, list(cursor.items())))
        elif cursor.at_string():
            seen.append((key, cursor.string_span()))
        elif cursor.at_dictionary():
            seen.append((key, cursor.value()))
    assert seen == [(b"a", [1, 2]), (b"b", (17, 20)), (b"c", {b"d": []})]
    assert cursor.position == 31


@pytest.mark.parametrize("data", [b"d1:a", b"d1:ai1e", b"d1:ai1e1:ai2ee", b"i1e", b"d", b""])
def test_cursor_refuses(data: bytes) -> None:
    cursor = Cursor(data)
    with pytest.raises(BencodingError):
        [cursor.value() for _ in cursor.dictionary()]


def test_plain_files_share_their_directory() -> None:
    entries = [
        {b"length": 1, b"path": [b"d", b"sub", b"a"]},
        {b"length": 2, b"path": [b"d", b"sub", b"b"]},
        {b"length": 3, b"path": [b"d", b"sub", b"c", b"deeper"]},
        {b"length": 4, b"path": [b"top"]},
        {b"length": 5, b"path": [b"d", b"x"], b"attr": b"x"},
        {b"length": 6, b"path": []},
        {b"length": 7, b"path": [1]},
        {b"length": -1, b"path": [b"a"]},
        {b"length": 8, b"path": [b"d", b"sub", b"x" * 300]},
        7,
    ]
    got = list(Cursor(bencoding.encode(entries)).plain_files())
    assert got == [
        PlainFile(1, (b"d", b"sub"), b"a"),
        PlainFile(2, (b"d", b"sub"), b"b"),
        PlainFile(3, (b"d", b"sub", b"c"), b"deeper"),
        PlainFile(4, (), b"top"),
        *entries[4:8],
        PlainFile(8, (b"d", b"sub"), b"x" * 300),
        7,
    ]
    assert got[0].directory is got[1].directory


def test_plain_leaf() -> None:
    root = bytes(range(32))
    cursor = Cursor(bencoding.encode({b"": {b"length": 5, b"pieces root": root}}))
    assert cursor.plain_leaf() == (5, root)
    assert Cursor(b"d0:d6:lengthi0eee").plain_leaf() == (0, b"")
    assert Cursor(b"d0:d4:attr1:x6:lengthi0eee").plain_leaf() is None
