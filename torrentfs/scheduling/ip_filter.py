"""Which addresses a user never wants to talk to (`--ip-filter`).

Three kinds of file are in use, and lines of all three may be mixed here, as no line is of two:

* eMule's `ipfilter.dat`: `001.002.003.000 - 001.002.003.255 , 100 , words`. The middle number is an
  access level; from 128 on the range is *allowed* (eMule's rule), so the line blocks nothing;
* PeerGuardian's text lists (P2P): `words:1.2.3.0-1.2.3.255`;
* lists of CIDR blocks or single addresses, IPv4 or IPv6: `1.2.3.0/24`.

Blank lines and comments (`#`, `;`, `//`) are skipped. eMule pads numbers with zeros, which are not
octal. A line that is none of these is counted, and the first one remembered, because a filter that
silently lost half of its lines protects nobody.

Ranges are merged and kept as two sorted arrays of integers for each family: the usual lists of
400,000 ranges take 6 MB, and a question a binary search.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ALLOWED_FROM = 128
"""eMule's access level from which a range is allowed."""
LONGEST_LINE = 1024
"""Bytes of a line that are looked at; a longer one is not understood."""

_V4 = r"(\d{1,3}(?:\.\d{1,3}){3})"
_DAT = re.compile(rf"\s*{_V4}\s*-\s*{_V4}\s*(?:,\s*(\d+)\s*(?:,.*)?)?$", re.DOTALL)
_P2P = re.compile(rf".*:\s*{_V4}\s*-\s*{_V4}\s*$", re.DOTALL)
_COMMENTS = ("#", ";", "//")

Range = tuple[int, int, int]
"""IP version, first and last address."""


class IpFilter:
    """Blocked ranges; made by `parse_ip_filter`."""

    __slots__ = ("_v4", "_v6", "first_bad", "ranges", "unread")

    def __init__(self, ranges: Iterable[Range], *, unread: int = 0, first_bad: str = "") -> None:
        merged: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        for version, first, last in sorted(ranges):
            known = merged[version]
            if known and first <= known[-1][1] + 1:
                known[-1] = known[-1][0], max(known[-1][1], last)
            else:
                known.append((first, last))
        self._v4 = array("I", (each for pair in merged[4] for each in pair))
        # 128 bits fit no array; IPv6 lists are short
        self._v6 = [each for pair in merged[6] for each in pair]
        self.ranges = len(merged[4]) + len(merged[6])
        """Ranges after merging."""
        self.unread = unread
        """Lines that were not understood."""
        self.first_bad = first_bad
        """The first of them: its number and how it begins."""

    def blocks(self, host: str) -> bool:
        """Whether an IP address is in a blocked range; a host name never is.

        An IPv4 address in IPv6 clothes (`::ffff:1.2.3.4`) is the IPv4 address.
        """
        if not self.ranges:
            return False
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        edges = self._v4 if isinstance(address, IPv4Address) else self._v6
        number = int(address)
        # an odd place is within a range, whose last address is still in it
        place = bisect_right(edges, number)
        return place % 2 == 1 or (place > 0 and edges[place - 1] == number)

    def __repr__(self) -> str:
        return f"<IpFilter {self.ranges} ranges>"


def parse_ip_filter(lines: Iterable[bytes]) -> IpFilter:
    """The filter that the lines of one or more files describe; never fails, see `unread`."""
    ranges: list[Range] = []
    unread = 0
    first_bad = ""
    for number, raw in enumerate(lines, 1):
        # names in lists are of any encoding; addresses are ASCII
        line = raw[: LONGEST_LINE + 1].decode("latin-1").strip().removeprefix("\u00ef\u00bb\u00bf")
        if not line or line.startswith(_COMMENTS):
            continue
        found = None if len(raw) > LONGEST_LINE else _range_of(line)
        if found is None:
            unread += 1
            first_bad = first_bad or f"line {number}: {line[:40]!r}"
        else:
            ranges += found
    return IpFilter(ranges, unread=unread, first_bad=first_bad)


def _range_of(line: str) -> list[Range] | None:
    """The range of a line, [] of one that allows; None when it is no such line."""
    dat = _DAT.match(line)
    if dat is not None:
        if dat[3] is not None and int(dat[3][:9]) >= ALLOWED_FROM:
            return []
        return _between(dat[1], dat[2])
    p2p = _P2P.match(line)
    if p2p is not None:
        return _between(p2p[1], p2p[2])
    word = line.split("#", 1)[0].strip()
    try:
        network = ip_network(word, strict=False)
    except ValueError:
        return None
    return [(network.version, int(network[0]), int(network[-1]))]


def _between(first: str, last: str) -> list[Range] | None:
    low, high = _number(first), _number(last)
    if low is None or high is None or low > high:
        return None
    return [(4, low, high)]


def _number(text: str) -> int | None:
    """`001.002.003.004` as a number."""
    value = 0
    for part in text.split("."):
        if int(part) > 255:
            return None
        value = value << 8 | int(part)
    return value
