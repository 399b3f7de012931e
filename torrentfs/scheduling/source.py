"""What the picker knows of one source: a peer connection or a web seed.

`reach` answers "which positions of a lane can this source serve" as a mask. It is computed once per
lane and source, not once per pick: -1 (all ones) for a source that has everything, which is most of
them, otherwise a mask that is made again when the lane or what the source has changes.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from torrentfs.metainfo.bitfield import Bitfield
from torrentfs.metainfo.geometry import BLOCK_LENGTH
from torrentfs.scheduling.rates import MIN_DEPTH, Pace

if TYPE_CHECKING:
    from torrentfs.scheduling.lateness import Look
    from torrentfs.scheduling.ledger import Lane

SourceId = int
"""Given by the engine, never reused."""

MAX_CANCELLED = 2048
"""Withdrawn blocks remembered per source; more than any peer lets us queue."""

FIRST_PROBE, LAST_PROBE = 2.0, 30.0
"""Seconds between two tries of a source that is silent: doubled from the first to the last."""

MAX_ALLOWED_FAST = 512
"""Pieces of the allowed-fast set kept per source (BEP 6 suggests 10)."""


class SourceKind(Enum):
    """How a source is asked."""

    PEER = "peer"
    """By block, with `Picker.pick`."""
    WEB_SEED = "web seed"
    """By span, with `Picker.pick_span`; it has every piece and never chokes."""


class Source:
    """One source: what it has, whether it may be asked, what is in flight to it."""

    __slots__ = (
        "_probe_pause", "_reach", "allowed", "avoid", "avoid_until", "cancelled", "choking", "has",
        "has_all", "hedged",
        "in_flight", "kind", "lacking", "looked", "name", "pace", "probe_at",
        "received", "snubbed", "spans", "wasted",
    )  # fmt: skip

    def __init__(
        self, name: SourceId, kind: SourceKind, num_pieces: int, *, initial: int, limit: int
    ) -> None:
        self.name = name
        self.kind = kind
        self.pace = Pace(initial=initial, limit=limit)
        self.has = Bitfield(0 if kind is SourceKind.WEB_SEED else num_pieces)
        self.has_all = kind is SourceKind.WEB_SEED
        self.choking = kind is SourceKind.PEER
        self.allowed: set[int] = set()
        self.avoid: set[int] = set()
        """Pieces it has just rejected a block of; not asked again for a moment."""
        self.avoid_until = 0.0
        self.in_flight: dict[int, float] = {}
        """Block id -> when it was asked, in the order of asking."""
        self.cancelled: dict[int, bool] = {}
        """Block ids of withdrawn requests, and of probes (True), whose bytes may yet come."""
        self.spans: dict[tuple[int, int], None] = {}
        """Spans under way at a web seed: (start, length) of piece space."""
        self.snubbed = False
        """Silent for long while asked; believed again with its next block."""
        self.probe_at = 0.0
        """When it is tried again while it is silent."""
        self._probe_pause = FIRST_PROBE
        self.lacking = 0
        """Pieces that it has and we have not stored."""
        self.received = 0
        self.wasted = 0
        self.hedged = 0
        self.looked: Look | None = None
        """The last look at late blocks of others that it took its part of."""
        self._reach: dict[int, tuple[int, int]] = {}

    def has_piece(self, piece: int) -> bool:
        """Whether it has announced `piece`."""
        return self.has_all or piece in self.has

    def serves(self, piece: int) -> bool:
        """Whether it may be asked for `piece` now."""
        if self.choking:
            return piece in self.allowed and self.has_piece(piece)
        return (self.has_all or piece in self.has) and piece not in self.avoid

    @property
    def usable(self) -> bool:
        """Whether it may be asked for anything at all now."""
        return not self.choking or bool(self.allowed)

    def forget_reach(self) -> None:
        """What it has or serves has changed."""
        self._reach.clear()

    def reach(self, lane: Lane) -> int:
        """Mask of the positions of `lane` that it serves now."""
        if self.has_all and not self.choking and not self.avoid:
            return -1
        known = self._reach.get(id(lane))
        if known is not None and known[0] == lane.serial:
            return known[1]
        mask = 0
        if self.usable:
            serves = self.serves
            for position, piece in enumerate(lane.pieces):
                if serves(piece):
                    mask |= 1 << position
        self._reach[id(lane)] = (lane.serial, mask)
        return mask

    def arrival(self, now: float, more: int = 0) -> float:
        """Seconds until a block under a read, asked of it now behind `more` others, would be here.

        A peer answers in order. A web seed with a request to spare does not: the answer begins at
        once, and shares the line with those under way.
        """
        pace = self.pace
        lanes = len(self.spans)
        if self.kind is SourceKind.PEER or lanes >= pace.limit:
            # of an idle one, which may be at the end of a burst, all but a first block seem far
            return pace.arrival(len(self.in_flight) + more, now)
        block = BLOCK_LENGTH / (pace.rate or pace.assumed)
        overdue = pace.silence(now) if self.in_flight else 0.0
        return max(pace.arrival(0, now), overdue) + (more * (lanes + 1) + lanes) * block

    def line(self, now: float) -> tuple[float, float]:
        """(seconds to its first byte, bytes per second) of what is asked of it now, for `share`."""
        lanes = len(self.spans)
        rate = self.pace.rate or self.pace.assumed
        if lanes and lanes < self.pace.limit:
            rate /= lanes + 1
        return max(0.0, self.arrival(now) - BLOCK_LENGTH / rate), rate

    def on_cancelled(self, block_id: int, *, is_probe: bool = False) -> None:
        """Its request was withdrawn, or is a probe; the bytes may come all the same."""
        self.cancelled[block_id] = is_probe
        if len(self.cancelled) > MAX_CANCELLED:
            del self.cancelled[next(iter(self.cancelled))]

    def on_probed(self, block_id: int, now: float) -> None:
        """It was asked for a block that another brings, to see whether it is there again."""
        self.on_cancelled(block_id, is_probe=True)
        self.probe_at = now + self._probe_pause
        self._probe_pause = min(LAST_PROBE, 2.0 * self._probe_pause)

    def on_sign(self, now: float, *, measured: bool) -> None:
        """It brought something that it was asked for, some time: it is there again.

        Unless `measured`, all that is known of its pace is its silence: it begins anew, or nobody
        would ask it for anything, ever.
        """
        self.snubbed = False
        if not measured:
            self.pace = Pace(initial=MIN_DEPTH, limit=self.pace.limit)
            self.pace.on_asked(now)
        self.probe_at = 0.0
        self._probe_pause = FIRST_PROBE

    def __repr__(self) -> str:
        state = "snubbed" if self.snubbed else "choking" if self.choking else "open"
        return f"<Source {self.name} {self.kind.value} {state}, {len(self.in_flight)} in flight>"
