"""The largest uTP datagram that a path carries whole, sought while data flows (BEP 29, RFC 8899).

A connection begins with packets that nearly every path carries. Now and then one goes out as a
*probe*: an ordinary packet, filled up to the size that is tried by an extension that nobody reads,
and sent so that nobody may cut it (DF). If it is acknowledged, packets have that size from now on.
If it is lost, its data goes again without what filled it: unlike a packet with more data in it,
which could never be sent in a smaller one (its number is taken), it fits whatever the path is. A
lost probe says nothing about congestion, and one may be lost by chance: `TRIES` of a size must be.

The first size tried is that of Ethernet, which most paths have; then the search halves what is
left until that is less than `NEAR`. The kernel refuses what is too large for our own interface at
once, so this one's size need not be known. What was found less than the largest is looked into
again after `AGAIN` seconds. Silence makes packets small at once; those in flight keep their size,
so a connection whose IPv6 path became narrow, with nobody telling the kernel, is given up.

Larger packets than Ethernet's are not tried: buffers of many clients, libtorrent's among them,
have 1500 bytes, and some would take the first part of a longer one for the whole.

Pure: `now` is an argument, in seconds.
"""

from __future__ import annotations

USUAL = 1232
"""Bytes of a datagram that every IPv6 path carries (1280 with its headers); over IPv4 nearly every
one does, and a narrower one may cut it: only probes are sent with DF."""

LEAST = 548
"""What any IPv4 host must take (576 with its headers): for paths that lose what was cut."""

LARGEST_IPV4, LARGEST_IPV6 = 1472, 1452
"""What fits Ethernet's 1500 bytes."""

NEAR = 16
"""Bytes that are not worth another probe."""

TRIES = 2
"""Probes of a size that must be lost before it counts as too large."""

AGAIN = 600.0
"""Seconds after which a path is tried again that was found narrow (RFC 8899, 5.1.1)."""


class PathMtu:
    """The size of one connection's packets, and of its next probe; bytes with the uTP header."""

    __slots__ = ("_again", "_ceiling", "_floor", "_largest", "_lost", "probing", "size")

    def __init__(self, *, ipv6: bool = False) -> None:
        self.size = USUAL
        """Of packets: what arrived as a probe, or is taken to."""
        self.probing = 0
        """The size of the probe that is under way, or 0; there is one at a time."""
        self._floor = USUAL if ipv6 else LEAST
        self._largest = LARGEST_IPV6 if ipv6 else LARGEST_IPV4
        self._ceiling = self._largest
        self._lost = 0  # probes of the size that is tried
        self._again = float("inf")

    def next_probe(self, now: float) -> int:
        """The size to try next, 0 if nothing is to be tried now."""
        if self.probing:
            return 0
        if now >= self._again:
            self._again = float("inf")
            self._ceiling, self._lost = self._largest, 0
        if self._ceiling == self._largest > self.size:
            return self._largest
        gap = self._ceiling - self.size
        return self.size + (gap + 1) // 2 if gap >= NEAR else 0

    def on_sent(self, size: int) -> None:
        """A probe of `size` is under way."""
        self.probing = size

    def on_arrived(self, now: float) -> None:
        """The probe was acknowledged."""
        self.size = max(self.size, self.probing)
        self._end_probe(now)

    def on_lost(self, now: float) -> None:
        """The probe is lost: too large, or bad luck."""
        self._lost += 1
        if self._lost < TRIES:
            self.probing = 0
        else:
            self.on_refused(now)

    def on_refused(self, now: float) -> None:
        """The probe is too large, for certain."""
        self._ceiling = max(self.size, min(self._ceiling, self.probing - 1))
        self._end_probe(now)

    def on_silence(self) -> None:
        """Nothing comes back: the path may be narrower than it was. The search begins again."""
        self.probing = self._lost = 0
        self.size = USUAL if self.size > USUAL else self._floor
        self._ceiling = self._largest
        self._again = float("inf")

    def _end_probe(self, now: float) -> None:
        self.probing = self._lost = 0
        if self._ceiling - self.size < NEAR and self.size < self._largest:
            self._again = now + AGAIN

    def __repr__(self) -> str:
        return f"<PathMtu {self.size}, at most {self._ceiling}>"
