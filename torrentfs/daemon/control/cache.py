"""`/api/v1/cache`: what is on disk, making room, and reading it again against its hashes.

The cache is shared by all mounts of its directory, so what is told and shrunk is all of it, but for
what other processes have open. Verifying reads everything and may take long: it is for one at a
time, and ends when the client goes.
"""

from typing import Any

import trio
from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException

from torrentfs.daemon.control import describe
from torrentfs.daemon.control.contract import Item, Subject
from torrentfs.daemon.control.errors import find, responses
from torrentfs.daemon.control.leaving import end_with
from torrentfs.daemon.control.models import (
    CachedTorrent,
    CacheUse,
    Freed,
    Prune,
    Verified,
    Verify,
)
from torrentfs.daemon.outcome import cause_of
from torrentfs.metainfo.hashes import InfoHashes
from torrentfs.metainfo.torrent_file import parse_torrent

MOST_NAMED = 100
"""Torrents that no mount of ours lists whose names are looked up: each is parsed for that."""


def make_router(subject: Subject) -> APIRouter:
    """The routes, for one mount."""
    router = APIRouter(tags=["cache"])
    verifying = trio.CapacityLimiter(1)

    @router.get("/cache", responses=responses(503))
    async def show_cache() -> CacheUse:
        """What takes how much on disk, the largest first; of all mounts that share the cache."""
        cache, items = subject.session.cache, subject.library.items
        found: list[CachedTorrent] = []
        unknown = 0
        for use in await cache.uses():
            if not use.used:
                continue
            item = items.get(use.key)
            name = item.name if item is not None else ""
            if item is None and unknown < MOST_NAMED:
                unknown += 1
                name = await name_of(cache, use.key)
            found.append(
                CachedTorrent.model_construct(
                    key=use.key,
                    name=describe.clean(name),
                    used=use.used,
                    open=use.open,
                    listed=item is not None,
                )
            )
        return CacheUse.model_construct(cache=describe.cache(subject.session), torrents=found)

    @router.post("/cache/prune", responses=responses(503))
    async def prune_cache(prune: Prune) -> Freed:
        """Shrink it now; the limit that it may grow to again stays."""
        return Freed(freed=await subject.session.cache.shrink(prune.size))

    @router.post("/cache/verify", responses=responses(404, 409, 503))
    async def verify_cache(request: Request, verify: Verify) -> Verified:
        """Read what is on disk of one torrent, or of all, and check it. Damaged pieces are
        forgotten, and fetched anew when they are read."""
        if verify.torrent is None:
            items = list(subject.library.items.values())
        else:
            items = [find(subject.library, verify.torrent)]
        try:
            verifying.acquire_nowait()
        except trio.WouldBlock:
            raise HTTPException(409, "the cache is being verified already") from None
        total = Verified(pieces=0, bytes=0, bad=0)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(end_with, request.receive, nursery.cancel_scope)
                for item in items:
                    await verify_item(item, total)
                nursery.cancel_scope.cancel()
        except ExceptionGroup as group:
            raise cause_of(group) from group
        finally:
            verifying.release()
        return total

    return router


async def verify_item(item: Item, total: Verified) -> None:
    """Verify what is on disk of one torrent, and count it."""
    if item.volume is None:
        return
    async with item.volume.awake() as torrent:
        store: Any = torrent.store
        geometry = torrent.metainfo.geometry
        for piece in range(geometry.num_pieces):
            if piece not in store.have:
                continue
            good = await store.verify(piece)
            if good is not None:
                total.pieces += 1
                total.bytes += geometry.piece_size(piece)
                total.bad += not good


async def name_of(cache: Any, key: str) -> str:
    """What a torrent is called of which there is but the info-hash; empty when it is forgotten."""
    digest = bytes.fromhex(key)
    hashes = InfoHashes(v1=digest) if len(digest) == 20 else InfoHashes(v2=digest)
    stored = await cache.metadata(hashes)
    if stored is None:
        return ""
    try:
        return (await trio.to_thread.run_sync(parse_torrent, stored.torrent)).name
    except ValueError:
        return ""
