"""Which bytes of a file a request asks for: `Range`, `If-Range` (RFC 9110, 13 and 14). Pure."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime

_ONE = re.compile(r"\s*bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*", re.IGNORECASE | re.ASCII)


class Unsatisfiable(Exception):
    """The range begins behind the end of the file (416)."""


def parse_range(header: str | None, size: int) -> range | None:
    """The bytes asked for of a file of `size`, or None for all of it.

    What is no range of bytes, and several ranges at once, mean the whole file, as the RFC allows.
    Raises `Unsatisfiable`.
    """
    found = _ONE.fullmatch(header) if header is not None else None
    if found is None:
        return None
    first, last = found.groups()
    if first == "":
        if last == "":
            return None
        length = min(int(last), size)
        if length == 0:
            raise Unsatisfiable
        return range(size - length, size)
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise Unsatisfiable
    return range(start, min(size, int(last) + 1) if last else size)


def may_resume(if_range: str | None, etag: str, modified: int) -> bool:
    """Whether a `Range` counts, beside this `If-Range`; `modified` in seconds since 1970."""
    if if_range is None:
        return True
    value = if_range.strip()
    if value.startswith(('"', "W/")):
        return value == etag  # a weak one never counts
    try:
        return int(parsedate_to_datetime(value).timestamp()) == modified
    except (ValueError, OverflowError):
        return False


def is_known(if_none_match: str | None, etag: str) -> bool:
    """Whether the client has this content already (304)."""
    if if_none_match is None:
        return False
    known = [value.strip().removeprefix("W/") for value in if_none_match.split(",")]
    return etag in known or "*" in known
