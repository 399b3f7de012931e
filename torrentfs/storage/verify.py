"""Checks pieces against the torrent's hashes, away from the trio thread.

Used for what comes from disk and is not known to be intact (see `store`). At most as many checks
run at once as there are processors: more would only wait for each other.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from torrentfs.metainfo.checking import check_piece

if TYPE_CHECKING:
    from torrentfs.metainfo.torrent_file import Metainfo


class Verifier:
    """Hashes pieces in worker threads."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(len(os.sched_getaffinity(0)))

    async def is_right(self, metainfo: Metainfo, piece: int, data: bytes | bytearray) -> bool:
        """True when `data` is exactly that piece.

        A piece whose hash is not known (a v2 layer yet to be fetched) cannot be trusted: False.
        """
        try:
            return await trio.to_thread.run_sync(
                check_piece, metainfo, piece, data, limiter=self._limiter
            )
        except LookupError:
            return False
