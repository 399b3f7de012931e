"""What goes into and comes out of a picker besides blocks: its settings and its statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torrentfs.scheduling.source import SourceId


@dataclass(frozen=True, slots=True)
class PickerConfig:
    """Sizes in bytes, times in seconds."""

    initial_queue: int = 8
    """Blocks asked of a source never measured (slow start doubles it per round trip)."""
    lone_queue: int = 64
    """Blocks asked at once of an unmeasured source under a waiting read that nobody else serves."""
    max_queue: int = 2048
    """Blocks in flight to one source at most, whatever it allows (32 MiB)."""
    max_idle_partials: int = 512
    """Partly received pieces kept although nobody wants them now."""
    max_idle_bytes: int = 32 * 1024 * 1024
    """The same in bytes of their buffers: whole pieces, or the blocks that came of those opened
    for some blocks only."""
    snub_seconds: float = 1.5
    """Overdue by this, a source loses its blocks to others."""
    hedge_share: float = 0.03
    """Duplicate bytes allowed per byte received, beyond `hedge_burst`: no more hedges then."""
    hedge_burst: int = 512 * 1024
    min_span: int = 256 * 1024
    max_span: int = 16 * 1024 * 1024
    span_seconds: float = 0.5
    """A web seed's span lasts about this long."""


class BlockVerdict(NamedTuple):
    """`wanted` False: drop the bytes (duplicate, late or never asked; counted as waste)."""

    wanted: bool
    piece_complete: bool


class SourceStatistics(NamedTuple):
    """One source, for people and tests; bytes, seconds, bytes per second, blocks."""

    kind: str
    received: int
    wasted: int
    hedged: int
    rate: float
    rtt: float
    in_flight: int
    depth: int
    choking: bool
    snubbed: bool


class PickerStatistics(NamedTuple):
    """The picker at one moment; bytes and counts."""

    received: int
    wasted: int
    hedged: int
    open_pieces: int
    idle_partials: int
    urgent: int
    ahead: int
    in_flight: int
    sources: dict[SourceId, SourceStatistics]
