"""The peers that gave us data before are the first to be dialled at the next start.

Trackers need a second to answer, and may be gone; who served a torrent last time often still does.
So addresses of useful peers are kept in the catalog (at most 50 per torrent, for 30 days after the
last use, across restarts and power cuts), read before the torrent starts, and told to the peer
book, which dials them at once.

Kept is what can be dialled: the address that we dialled (if that was a name, where it led), or that
of a caller with the port that it said it listens on (BEP 10 `p`). A WebRTC peer has no such
address. Who is banned is forgotten. A private torrent keeps its peers too: they came from its own
tracker, and are used for this torrent alone (BEP 27).

It costs nothing while blocks move: after some seconds, then every few minutes, and at the end,
there is a look at who has given more than at the last look, and one commit if anybody has.
"""

from __future__ import annotations

import time
from ipaddress import ip_address
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torrentfs.engine.peer import Peer
    from torrentfs.metainfo.hashes import InfoHashes
    from torrentfs.scheduling.peerbook import PeerBook
    from torrentfs.storage.tiered import Cache

Address = tuple[str, int]

SOON = 12.0
"""Seconds to the first look: a mount that is killed early has somebody to begin with, too."""

EVERY = 180.0
"""Seconds between two looks; a crash forgets no more."""

MOST = 50
"""Addresses remembered between two looks; the catalog keeps no more."""

END_WITHIN = 2.0
"""Seconds that the last commit may take: a disk that hangs must not keep a mount from ending."""


class Regulars:
    """The useful peers of one torrent; `run` keeps them."""

    def __init__(
        self,
        hashes: InfoHashes,
        cache: Cache,
        book: PeerBook,
        peers: Callable[[], Iterable[Peer]],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`peers()` are those connected; `clock` tells seconds since 1970."""
        self._hashes = hashes
        self._cache = cache
        self._book = book
        self._peers = peers
        self._clock = clock
        self._kept: set[Address] = set()
        self._useful: dict[Address, None] = {}
        self._seen: dict[int, int] = {}

    async def recall(self) -> Sequence[Address]:
        """Who was useful before, those of late first."""
        found = await self._cache.peers(self._hashes, self._clock())
        self._kept.update(found)
        return found

    async def run(self) -> None:
        """Keep them until cancelled, and once more then."""
        try:
            await trio.sleep(SOON)
            while True:
                await self.keep()
                await trio.sleep(EVERY)
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(END_WITHIN):
                await self.keep()

    def on_gone(self, peer: Peer) -> None:
        """A peer has left."""
        self._look_at(peer)
        self._seen.pop(peer.source, None)

    async def keep(self) -> None:
        """Write down who was useful since the last time, if anybody was."""
        for peer in self._peers():
            self._look_at(peer)
        is_banned = self._book.is_banned
        found, self._useful = self._useful, {}
        useful = [address for address in found if not is_banned(address)]
        unwanted = [address for address in self._kept if is_banned(address)]
        if not (useful or unwanted):
            return
        try:
            await self._cache.keep_peers(self._hashes, useful, unwanted, self._clock())
        except BaseException:  # cancelled: `run` does it once more
            self._useful = found | self._useful
            raise
        self._kept.difference_update(unwanted)
        self._kept.update(useful)

    def _look_at(self, peer: Peer) -> None:
        if peer.downloaded > self._seen.get(peer.source, 0):
            self._seen[peer.source] = peer.downloaded
            address = self._address_of(peer)
            if address is not None:
                self._useful.pop(address, None)
                self._useful[address] = None
                if len(self._useful) > MOST:
                    del self._useful[next(iter(self._useful))]

    def _address_of(self, peer: Peer) -> Address | None:
        """Where a peer can be dialled, if anywhere."""
        if peer.kind == "webrtc":
            return None
        if self._book.knows(peer.address):
            return peer.address if _is_ip(peer.address[0]) else peer.remote
        port = peer.listen_port
        return None if port is None else (peer.remote[0], port)

    def __repr__(self) -> str:
        return f"<Regulars {len(self._kept)} kept, {len(self._useful)} new>"


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
