"""Ranges of RFC 9110, and what a client has already."""

from __future__ import annotations

import pytest

from torrentfs.daemon.control.ranges import Unsatisfiable, is_known, may_resume, parse_range


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-", range(100)),
        ("bytes=0-0", range(1)),
        ("bytes=10-19", range(10, 20)),
        ("Bytes = 10 - 19", range(10, 20)),
        ("bytes=90-1000", range(90, 100)),
        ("bytes=99-", range(99, 100)),
        ("bytes=-1", range(99, 100)),
        ("bytes=-1000", range(100)),
        (None, None),
        ("", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=5-4", None),
        ("bytes=0-1,5-6", None),
        ("items=0-1", None),
        ("bytes=a-b", None),
        ("bytes=٠-١", None),
        ("bytes=" + "9" * 50 + "-", None),
    ],
)
def test_a_range_is_a_part_of_the_file(header: str | None, expected: range | None) -> None:
    assert parse_range(header, 100) == expected


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=100-", 100), ("bytes=-0", 100), ("bytes=0-", 0), ("bytes=-5", 0)]
)
def test_a_range_behind_the_end_is_none(header: str, size: int) -> None:
    with pytest.raises(Unsatisfiable):
        parse_range(header, size)


@pytest.mark.parametrize(
    ("if_range", "expected"),
    [
        (None, True),
        ('"a-1"', True),
        ('"a-2"', False),
        ('W/"a-1"', False),
        ("Tue, 14 Nov 2023 22:13:20 GMT", True),
        ("Tue, 14 Nov 2023 22:13:21 GMT", False),
        ("yesterday", False),
    ],
)
def test_a_range_counts_only_of_the_same_file(if_range: str | None, expected: bool) -> None:
    assert may_resume(if_range, '"a-1"', 1_700_000_000) is expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [(None, False), ('"a"', True), ('W/"a"', True), ('"b", "a"', True), ('"b"', False),
     ("*", True), ("", False)],
)  # fmt: skip
def test_what_the_client_has_is_known(header: str | None, expected: bool) -> None:
    assert is_known(header, '"a"') is expected
