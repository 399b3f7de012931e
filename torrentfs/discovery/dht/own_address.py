"""Our own address as other nodes see it (BEP 42 `ip`): believed when most of them agree.

Each answer of another node tells it. One vote for each network, the latest `VOTES` of them; an
address wins with more than half of them, and at least `QUORUM`.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING

from torrentfs.discovery.dht.addresses import GLOBAL, place, scope

if TYPE_CHECKING:
    from torrentfs.wire.krpc import Address

VOTES = 16
QUORUM = 4


class OwnAddress:
    """Collects votes; `host` is the address that won, None until one does."""

    def __init__(self) -> None:
        self.host: str | None = None
        self._votes: OrderedDict[object, str] = OrderedDict()

    def on_told(self, host: str, by: Address) -> bool:
        """The node at `by` sees us at `host`. True when that makes another address win."""
        if scope(host) != GLOBAL or scope(by[0]) != GLOBAL:
            return False
        voter = place(by)
        self._votes[voter] = host
        self._votes.move_to_end(voter)
        if len(self._votes) > VOTES:
            self._votes.popitem(last=False)
        winner, count = Counter(self._votes.values()).most_common(1)[0]
        if winner == self.host or count < QUORUM or 2 * count <= len(self._votes):
            return False
        self.host = winner
        return True
