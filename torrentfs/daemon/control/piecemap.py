"""A torrent's pieces as a short text, for a page to draw: which are here, wanted, missing. Pure.

`runs` is exact: `12h3m1p` means 12 pieces here, 3 missing, 1 partly here. `buckets` says how full
each of a number of equal parts is, and `marks` what else is to be said of each, for torrents of
very many pieces and for narrow screens.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torrentfs.metainfo.bitfield import Bitfield

MAX_RUNS = 65_536
"""More runs than this are not told one by one: half a megabyte that nobody can look at."""
MAX_BUCKETS = 4096

_RUN = re.compile(rb"h+|m+|w+|p+")


def piece_states(have: Bitfield, partial: Iterable[int] = (), wanted: Iterable[int] = ()) -> bytes:
    """One letter per piece: `h` here, `p` partly here, `w` wanted (asked or to be), `m` missing."""
    size = have.size
    if not size:
        return b""
    bits = format(int.from_bytes(bytes(have)), f"0{-(-size // 8) * 8}b")[:size]
    states = bytearray(bits.encode().translate(bytes.maketrans(b"01", b"mh")))
    for letter, pieces in ((b"w", wanted), (b"p", partial)):
        for piece in pieces:
            if 0 <= piece < size and states[piece] != ord("h"):
                states[piece] = ord(letter)
    return bytes(states)


def runs(states: bytes) -> str | None:
    """`12h3m1p`: how many of each in a row; None when there are more than `MAX_RUNS` runs."""
    parts: list[str] = []
    for found in _RUN.finditer(states):
        if len(parts) >= MAX_RUNS:
            return None
        parts.append(f"{len(found[0])}{chr(found[0][0])}")
    return "".join(parts)


def buckets(states: bytes, count: int) -> list[int]:
    """How full each of `count` equal parts is, in percent; 100 only where every piece is here.

    Fewer than `count` where there are fewer pieces.
    """
    size = len(states)
    return [
        100 * states.count(b"h", start, stop) // (stop - start)
        for start, stop in _edges(size, min(count, size))
    ]


def marks(states: bytes, count: int) -> str:
    """A letter for each of the parts: `w` wanted in it, else `p` some here, `h` all, `m` none."""
    return "".join(
        next(
            (letter for letter in "wp" if states.find(letter.encode(), start, stop) >= 0),
            _mixed(states.count(b"h", start, stop), stop - start),
        )
        for start, stop in _edges(len(states), min(count, len(states)))
    )


def _mixed(have: int, size: int) -> str:
    return "h" if have == size else "p" if have else "m"


def _edges(size: int, count: int) -> Iterator[tuple[int, int]]:
    """Where each of `count` parts begins and ends."""
    return pairwise(size * n // count for n in range(count + 1)) if count else iter(())
