"""Proof of single blocks: the leaf hashes of pieces that are wanted in blocks (BEP 52).

A read of a v2 or hybrid torrent is answered as soon as the blocks under it are here and match
their leaves, long before the piece is whole. The leaves are asked of a peer in the same breath as
the blocks, so they cost no round trip; they are believed because they hash to the piece.

Not every peer gives leaves (libtorrent has them only for what it hashed itself). Who rejects a
request, or leaves it unanswered, is left alone for a while and another is asked; while there
is nobody, `is_provable` is False, and pieces are wanted whole as in a v1 torrent. A peer whose
leaves do not match the piece lies, and loses the connection.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from torrentfs.metainfo.geometry import BLOCK_LENGTH
from torrentfs.scheduling.agenda import ALL
from torrentfs.scheduling.ledger import bits
from torrentfs.wire.leaf_exchange import LeafRuns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torrentfs.engine.peer import Peer
    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.scheduling.agenda import Agenda, Want
    from torrentfs.scheduling.picker import Picker, SourceId
    from torrentfs.wire.messages import Hashes, HashReject, HashRequest

log = logging.getLogger(__name__)

SMALLEST = 128 * 1024
"""Bytes of a piece from which blocks are worth more than simplicity: a read has as much."""

PATIENCE = 1.0
"""Seconds beyond what a source should need, after which another is asked for the leaves."""

ALONE = 2.0
"""The same where there is no other, and what follows is to fetch whole pieces."""

ALONE_AND_PROVED = 4.0
"""The same of one that has given leaves before: it is busy, it does not refuse."""

MOST_NEEDED = 4.0
"""What a source is thought to need at most: after a stall it may look as slow as anything."""

REST = 60.0
"""Seconds for which no leaves are asked of a peer that has rejected a request."""

SHORT_REST = 5.0
"""The same of one that did not answer in time: it may have been busy. Doubled by each silence."""

LONGEST_REST = 600.0
"""The same of one that never answers: each time costs a read some seconds."""

MAX_PIECES = 2048
"""Pieces whose leaves are kept: 4 MiB if one run of each is known."""


class _Asking:
    """A run of leaves under way: of whom it was asked, and when somebody else will be."""

    __slots__ = ("asked", "request", "until")

    def __init__(self, request: HashRequest) -> None:
        self.request = request
        self.asked: list[SourceId] = []
        self.until = float("inf")


class Leaves:
    """The leaf hashes of one torrent, as far as they are needed."""

    def __init__(
        self,
        metainfo: Metainfo,
        picker: Picker,
        *,
        on_leaves: Callable[[int], None],
        on_provable: Callable[[], None],
    ) -> None:
        """`on_leaves(piece)`: more of its blocks can be checked; `on_provable`: what
        `is_provable` says may have changed."""
        self._metainfo = metainfo
        self._picker = picker
        self._on_leaves = on_leaves
        self._on_provable = on_provable
        self._runs = LeafRuns(metainfo)
        self._givers: dict[SourceId, Peer] = {}
        self._resting: dict[SourceId, float] = {}
        self._gave: set[SourceId] = set()
        self._late: set[SourceId] = set()
        self._silences: dict[SourceId, int] = {}
        """How often a source has not answered, since it last did."""
        self._known: dict[int, dict[int, bytes]] = {}
        self._asking: dict[tuple[int, int], _Asking] = {}
        self._hopeless: set[int] = set()
        self._seen: Sequence[Want] | None = None

    @staticmethod
    def are_of_use(metainfo: Metainfo) -> bool:
        """Whether blocks of this torrent can be proved, and its pieces are large enough."""
        return metainfo.has_v2 and metainfo.geometry.piece_length >= SMALLEST

    def on_layers(self, metainfo: Metainfo) -> None:
        """The same torrent, with more piece layers: more of its pieces have a tree."""
        self._runs = LeafRuns(metainfo)
        self._hopeless.clear()
        self._on_provable()

    # --- what is known -------------------------------------------------------------------------

    def is_provable(self, piece: int) -> bool:
        """Whether blocks of `piece` can be proved, now or when an answer comes."""
        if piece in self._hopeless or not (self._givers or piece in self._known):
            return False
        tree = self._runs.tree(piece)
        return tree is not None and tree.levels > 0

    def leaf(self, piece: int, block: int) -> bytes | None:
        """The hash of a block, if known. Padding has none."""
        known = self._known.get(piece)
        if known is None:
            return None
        tree = self._runs.tree(piece)
        if tree is None or not tree.leaf_bytes(block * BLOCK_LENGTH, BLOCK_LENGTH):
            return None
        run, place = divmod(block, tree.run)
        leaves = known.get(run)
        return None if leaves is None else leaves[place * 32 : place * 32 + 32]

    def covered(self, piece: int, begin: int, length: int) -> int:
        """How many of these bytes a leaf is made of: the rest is padding."""
        tree = self._runs.tree(piece)
        return 0 if tree is None else tree.leaf_bytes(begin, length)

    def forget(self, piece: int) -> None:
        """The piece is stored, or given up."""
        self._known.pop(piece, None)
        self._hopeless.discard(piece)

    # --- asking --------------------------------------------------------------------------------

    def follow(self, agenda: Agenda, now: float) -> None:
        """Ask for the leaves of what is wanted in blocks."""
        self._want(agenda.urgent, now)
        if agenda.rest is not self._seen:
            self._seen = agenda.rest
            self._want(agenda.rest, now)

    def _want(self, wants: Iterable[Want], now: float) -> None:
        stored = self._picker.ledger.stored
        for want in wants:
            if want.blocks == ALL or want.piece in stored:
                continue
            tree = self._runs.tree(want.piece)
            if tree is None:
                continue
            known = self._known.get(want.piece, {})
            for run in dict.fromkeys(block // tree.run for block in bits(want.blocks)):
                # behind the file there is only padding
                if run not in known and run * tree.run * BLOCK_LENGTH < tree.size:
                    self._ask(want.piece, run, now)

    def _ask(self, piece: int, run: int, now: float) -> None:
        asking = self._asking.get((piece, run))
        if asking is None:
            asking = self._asking[piece, run] = _Asking(self._runs.request(piece, run))
        elif asking.asked:
            return
        self._ask_next(piece, run, asking, now)

    def _ask_next(self, piece: int, run: int, asking: _Asking, now: float) -> None:
        """Ask the source that should answer first of those that were not asked."""
        choked = False
        for source in self._picker.soonest(piece, now):
            peer = self._givers.get(source)
            if peer is not None and peer.choked and source not in asking.asked:
                choked = True  # it serves the piece (BEP 6, allowed fast), but no hashes yet
            elif peer is not None and source not in asking.asked:
                asking.asked.append(source)
                patience = self._patience(source, asking)
                needed = min(2.0 * self._picker.arrival(source, now), MOST_NEEDED)
                asking.until = now + patience + needed
                peer.sender.send(asking.request)
                return
        asking.until = float("inf")
        if self._picker.is_served(piece) and not choked:
            self._give_up(piece)
        else:
            asking.asked.clear()  # who unchokes us to give the blocks may give the leaves too

    def _patience(self, source: SourceId, asking: _Asking) -> float:
        if any(other not in asking.asked for other in self._givers):
            return PATIENCE
        return ALONE_AND_PROVED if source in self._gave else ALONE

    def _give_up(self, piece: int) -> None:
        for key in [key for key in self._asking if key[0] == piece]:
            del self._asking[key]
        if piece not in self._hopeless:
            log.debug("nobody gives the block hashes of piece %d", piece)
            self._hopeless.add(piece)
            self._on_provable()

    def next_check(self) -> float:
        """When `check` has something to do although nothing happens."""
        return min((asking.until for asking in self._asking.values()), default=float("inf"))

    def check(self, now: float) -> None:
        """Ask others where a source does not answer, and where nobody could be asked before."""
        for (piece, run), asking in list(self._asking.items()):
            if (piece, run) not in self._asking:
                continue  # given up with another run of its piece
            if not asking.asked:
                self._ask_next(piece, run, asking, now)
            elif now >= asking.until:
                self._on_silence(asking.asked[-1], now)
                self._ask_next(piece, run, asking, now)

    def _on_silence(self, source: SourceId, now: float) -> None:
        self._late.add(source)
        if source in self._resting:
            return  # of several questions
        silences = self._silences.get(source, 0)
        self._silences[source] = silences + 1
        self._rest(source, now + min(LONGEST_REST, SHORT_REST * 2 ** min(silences, 10)))

    # --- peers ---------------------------------------------------------------------------------

    def on_offer(self, peer: Peer, now: float) -> None:
        """A peer has more, or serves us now."""
        if peer.speaks_v2 and not (peer.source in self._givers or peer.source in self._resting):
            self._givers[peer.source] = peer
            if self._hopeless or len(self._givers) == 1:
                self._hopeless.clear()
                self._on_provable()
        self.check(now)

    def on_gone(self, source: SourceId, now: float) -> None:
        """A source has left: others are asked for what it owed."""
        self._resting.pop(source, None)
        self._gave.discard(source)
        self._late.discard(source)
        self._silences.pop(source, None)
        if self._givers.pop(source, None) is not None:
            self._turn_away(source, now)

    def _rest(self, source: SourceId, until: float) -> None:
        self._resting[source] = until
        self._givers.pop(source, None)
        if not self._givers:
            self._on_provable()

    def tick(self, peers: Iterable[Peer], now: float) -> None:
        """Once a second: who rested long enough may be asked again."""
        if self._resting:
            for peer in peers:
                if now >= self._resting.get(peer.source, float("inf")):
                    del self._resting[peer.source]
                    self.on_offer(peer, now)

    def _turn_away(self, source: SourceId, now: float) -> None:
        for (piece, run), asking in list(self._asking.items()):
            if asking.asked and asking.asked[-1] == source and (piece, run) in self._asking:
                self._ask_next(piece, run, asking, now)

    def on_hashes(self, source: SourceId, message: Hashes) -> None:
        """An answer; `RemoteProtocolError` when it is a lie. One nobody asked for is ignored.

        One that came too late ends the rest of its giver: it does not refuse.
        """
        if source in self._resting and source in self._late:
            self._late.discard(source)
            self._silences.pop(source, None)
            self._resting[source] = float("-inf")
        for (piece, run), asking in list(self._asking.items()):
            request = asking.request
            if (
                source in asking.asked
                and request.index == message.index
                and request.pieces_root == message.pieces_root
            ):
                leaves = self._runs.accept(piece, run, message)
                self._gave.add(source)
                self._silences.pop(source, None)
                del self._asking[piece, run]
                self._keep(piece, run, leaves)

    def _keep(self, piece: int, run: int, leaves: bytes) -> None:
        if piece in self._picker.ledger.stored:
            return
        self._known.setdefault(piece, {})[run] = leaves
        if len(self._known) > MAX_PIECES:
            del self._known[next(iter(self._known))]
        self._on_leaves(piece)

    def on_reject(self, source: SourceId, message: HashReject, now: float) -> None:
        """A source does not give leaves: it is not asked again for a while."""
        for asking in list(self._asking.values()):
            if asking.asked and asking.asked[-1] == source and message.base_layer == 0:
                self._late.discard(source)
                self._rest(source, now + REST)
                self._turn_away(source, now)
                return

    def __repr__(self) -> str:
        return f"<Leaves of {len(self._known)} pieces, {len(self._asking)} runs asked>"
