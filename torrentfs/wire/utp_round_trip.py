"""How long a uTP packet and its acknowledgement take, and how long one waits for them (BEP 29).

Mean and variation are smoothed as TCP does (RFC 6298); only packets that were sent once are
measured. Seconds throughout.
"""

from __future__ import annotations

FIRST_TIMEOUT, SHORTEST_TIMEOUT, LONGEST_TIMEOUT = 1.0, 0.5, 16.0


class RoundTrip:
    """The estimate of one connection."""

    __slots__ = ("mean", "timeout", "variation")

    def __init__(self) -> None:
        self.mean: float | None = None
        """None before the first measure."""
        self.variation = 0.0
        self.timeout = FIRST_TIMEOUT
        """Silence after which everything in flight counts as lost."""

    @property
    def bound(self) -> float:
        """What nearly every packet is acknowledged within."""
        if self.mean is None:
            return FIRST_TIMEOUT
        return self.mean + max(4 * self.variation, 0.01)

    def on_sample(self, sample: float) -> None:
        """A packet took so long."""
        if self.mean is None:
            self.mean, self.variation = sample, sample / 2
        else:
            error = sample - self.mean
            self.variation += (abs(error) - self.variation) / 4
            self.mean += error / 8

    def on_progress(self) -> None:
        """Something was acknowledged: as patient as the line deserves, from now on."""
        if self.mean is not None:
            wanted = self.mean + 4 * self.variation
            self.timeout = min(max(wanted, SHORTEST_TIMEOUT), LONGEST_TIMEOUT)

    def on_timeout(self) -> None:
        """Nothing was: twice as patient."""
        self.timeout = min(2 * self.timeout, LONGEST_TIMEOUT)

    def __repr__(self) -> str:
        mean = "unknown" if self.mean is None else f"{self.mean * 1000:.1f} ms"
        return f"<RoundTrip {mean}>"
