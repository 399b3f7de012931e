"""The sources of a torrent, and the facts they tell: what they have, whether they serve us.

The part of the picker that decides nothing. A fact changes what a source may be asked for, frees
what it will not bring, and sets `attention` when somebody should pick because of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.metainfo.bitfield import Bitfield
from torrentfs.metainfo.geometry import BLOCK_LENGTH
from torrentfs.scheduling.ledger import Ledger, Request
from torrentfs.scheduling.report import PickerConfig
from torrentfs.scheduling.source import MAX_ALLOWED_FAST, Source, SourceId, SourceKind

if TYPE_CHECKING:
    from torrentfs.metainfo.geometry import Geometry


class Roster:
    """Sources by name; they live in the ledger, whose blocks they hold."""

    def __init__(
        self,
        geometry: Geometry,
        config: PickerConfig | None = None,
        stored: Bitfield | None = None,
    ) -> None:
        """`stored`: what we have from earlier (copied)."""
        self.geometry = geometry
        self.config = config or PickerConfig()
        self.ledger = Ledger(geometry)
        if stored is not None:
            self.ledger.stored = stored.copy()
        self.attention = False
        """Something happened for which sources should pick; reset by `hedging.to_wake`."""

    def add_source(self, source: SourceId, kind: SourceKind, now: float, *, max_queue: int) -> None:
        """A connection was made. `max_queue`: its reqq; for a web seed, spans at once."""
        if source in self.ledger.sources:
            raise ValueError(f"source {source} exists")
        limit = max(1, min(max_queue, self.config.max_queue))
        if kind is SourceKind.WEB_SEED:
            limit = max(1, max_queue)
        new = Source(source, kind, self.geometry.num_pieces,
                     initial=self.config.initial_queue, limit=limit)  # fmt: skip
        self.ledger.sources[source] = new
        if kind is SourceKind.WEB_SEED:
            self._count_lacking(new)
            self.attention = True

    def set_max_queue(self, source: SourceId, max_queue: int) -> None:
        """Its reqq became known (BEP 10 handshake comes after the first messages)."""
        self.ledger.sources[source].pace.limit = max(1, min(max_queue, self.config.max_queue))

    def remove_source(self, source: SourceId, now: float) -> None:
        """The connection is gone; what was in flight to it is free again."""
        gone = self.ledger.sources[source]
        self._release_all(gone)
        del self.ledger.sources[source]
        for piece in self.ledger.open.values():
            if piece.sole == source:
                piece.sole = None
        self.attention = True

    def on_bitfield(self, source: SourceId, pieces: Bitfield) -> None:
        """What it has, all at once."""
        known = self.ledger.sources[source]
        known.has = pieces.copy()
        known.has_all = pieces.complete
        self._has_changed(known)

    def on_have_all(self, source: SourceId) -> None:
        """It is a seed."""
        known = self.ledger.sources[source]
        known.has.fill()
        known.has_all = True
        self._has_changed(known)

    def on_have(self, source: SourceId, piece: int) -> None:
        """It got one more. `IndexError` outside the torrent."""
        known = self.ledger.sources[source]
        if known.has_all or not known.has.add(piece):
            return
        known.has_all = known.has.complete
        if piece not in self.ledger.stored:
            known.lacking += 1
        if self.ledger.is_wanted(piece):
            known.forget_reach()
            self.attention = True

    def on_dont_have(self, source: SourceId, piece: int) -> None:
        """It lost one (BEP 54); what was asked of it there is free again."""
        known = self.ledger.sources[source]
        if known.has_all:
            known.has = Bitfield.full(self.geometry.num_pieces)
            known.has_all = False
        if not known.has.discard(piece):
            return
        known.forget_reach()
        known.lacking -= piece not in self.ledger.stored
        per = self.ledger.per_piece
        for block_id in [b for b in known.in_flight if b // per == piece]:
            self.ledger.release(known, block_id)
        self._unsole(known)

    def _has_changed(self, source: Source) -> None:
        source.forget_reach()
        self._count_lacking(source)
        self.attention = True

    def _count_lacking(self, source: Source) -> None:
        if source.has_all:
            source.lacking = self.geometry.num_pieces - len(self.ledger.stored)
        else:
            theirs = int.from_bytes(bytes(source.has))
            source.lacking = (theirs & ~int.from_bytes(bytes(self.ledger.stored))).bit_count()

    def on_unchoke(self, source: SourceId, now: float) -> None:
        """It serves us now."""
        known = self.ledger.sources[source]
        known.choking = False
        known.avoid.clear()
        known.forget_reach()
        self.attention = True

    def on_choke(self, source: SourceId, now: float, keeps_requests: bool) -> None:
        """It stopped serving. Without the fast extension the queue is gone (BEP 3); with it each
        request will be answered or rejected (BEP 6)."""
        known = self.ledger.sources[source]
        known.choking = True
        known.forget_reach()
        if not keeps_requests:
            self._release_all(known)
            known.cancelled.clear()
        self._unsole(known)
        self.attention = True

    def on_allowed_fast(self, source: SourceId, piece: int) -> None:
        """It serves this piece even while choking (BEP 6)."""
        known = self.ledger.sources[source]
        if len(known.allowed) < MAX_ALLOWED_FAST and 0 <= piece < self.geometry.num_pieces:
            known.allowed.add(piece)
            known.forget_reach()
            self.attention = True

    def on_reject(self, source: SourceId, request: Request, now: float) -> None:
        """It will not answer one request (BEP 6). Asking again at once would loop: the piece is
        left to others for half a second."""
        known = self.ledger.sources[source]
        if request.begin % BLOCK_LENGTH or not 0 <= request.piece < self.geometry.num_pieces:
            return
        block_id = request.piece * self.ledger.per_piece + request.begin // BLOCK_LENGTH
        if block_id not in known.in_flight:
            known.cancelled.pop(block_id, None)
            return
        self.ledger.release(known, block_id)
        known.allowed.discard(request.piece)
        if not known.choking:
            known.avoid.add(request.piece)
            known.avoid_until = now + 0.5
        known.forget_reach()
        self._unsole(known)

    def _release_all(self, source: Source) -> None:
        for block_id in list(source.in_flight):
            self.ledger.release(source, block_id)
        source.spans.clear()

    def _unsole(self, source: Source) -> None:
        for piece in self.ledger.open.values():
            if piece.sole == source.name and not source.serves(piece.number):
                piece.sole = None
                self.attention = True

    def unsole_silent(self, source: Source) -> None:
        """A piece that was to come from `source` alone may come from others: it is silent."""
        for piece in self.ledger.open.values():
            if piece.sole == source.name:
                piece.sole = None

    def is_interesting(self, source: SourceId) -> bool:
        """Whether it has a piece that we have not: only then may it be asked one day. This does
        not wait for demand, so that the first read finds the source unchoked."""
        return self.ledger.sources[source].lacking > 0

    def is_owing(self, source: SourceId) -> bool:
        """Whether it has yet to bring what it was asked for, or was silent when last asked."""
        known = self.ledger.sources.get(source)
        return known is not None and (known.snubbed or bool(known.in_flight))

    def is_served(self, piece: int) -> bool:
        """Whether any source may be asked for `piece` now."""
        return any(source.serves(piece) for source in self.ledger.sources.values())

    def soonest(self, piece: int, now: float) -> list[SourceId]:
        """The peers that serve `piece`, the one that would answer first in front."""
        ready = sorted(
            (source.snubbed, self.arrival(name, now), name)
            for name, source in self.ledger.sources.items()
            if source.kind is SourceKind.PEER and source.serves(piece)
        )
        return [name for _, _, name in ready]

    def arrival(self, source: SourceId, now: float) -> float:
        """Seconds until what is asked of this source now should be here."""
        known = self.ledger.sources[source]
        return known.pace.arrival(len(known.in_flight), now)
