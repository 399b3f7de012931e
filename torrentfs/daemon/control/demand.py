"""`/api/v1/why`, `pins`, `prefetches`, `evict`: what is to be here of a torrent, and why it is not.

All of them take a path of the mount: a file, a directory of a torrent, or a torrent; or the
info-hash of a torrent, whose files may lie beside those of others.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from starlette.exceptions import HTTPException

from torrentfs.daemon.control.contract import Item, Subject
from torrentfs.daemon.control.describe import clean
from torrentfs.daemon.control.errors import find, locate, responses
from torrentfs.daemon.control.models import (
    MAX_PATH,
    Demand,
    Evict,
    Freed,
    PinList,
    PrefetchList,
    PrefetchState,
    SourceOfPiece,
    WhyReport,
)
from torrentfs.daemon.control.pinning import kept_of, path_of, pin_list, pins_of_files
from torrentfs.storage.records import Pin

MOST_LISTED = 1000
"""Pins in one answer."""

MOST_FILES = 1000
"""That are taken one by one at a time."""


def make_router(subject: Subject) -> APIRouter:
    """The routes, for one mount."""
    router = APIRouter(tags=["demand"])
    library = subject.library

    def what(path: str) -> tuple[Item, Any, list[int] | None]:
        """The torrent at a path, its volume, and the files that are shown there; None: all."""
        tree = subject.tree
        whole = library.by_hash(path)
        item, file = (whole, None) if whole is not None else locate(library, path)
        if item.volume is None:
            raise HTTPException(409, f"the metadata of {item.name} is not known yet")
        if file is not None:
            return item, item.volume, [file]
        if whole is not None and whole.path is None:
            return item, item.volume, []
        files = tree.files_shown(whole.key) if whole is not None else tree.files_below(at(path))
        return item, item.volume, None if files is None else list(files)

    def at(path: str) -> int:
        inode: int = subject.tree.follow(part for part in path.split("/") if part)
        return inode

    def meant(demand: Demand, *, is_wanted: bool = True) -> tuple[Item, Any, list[Pin]]:
        """The torrent, its volume, and the bytes: shown ones, if they are wanted."""
        offset, length = demand.offset, demand.length
        item, volume, files = what(demand.path)
        if files == [] and is_wanted:
            why = f": {clean(item.trouble)}" if item.trouble else ""
            raise HTTPException(409, f"{item.name} is not listed{why}")
        files = files or None  # what is hidden now may have been pinned before
        if not offset and length is None:
            return item, volume, pins_of_files(volume.metainfo, files)
        if files is None:
            files = [n for n, each in enumerate(volume.metainfo.files) if not each.pad]
        if len(files) > MOST_FILES:
            raise HTTPException(400, f"{demand.path} has more than {MOST_FILES} files")
        return item, volume, [Pin(file, offset, length) for file in files]

    @router.get("/why", responses=responses(400, 404, 409, 503))
    async def explain(
        path: Annotated[str, Query(max_length=MAX_PATH, description="A file of the mount")],
        offset: Annotated[int, Query(ge=0, le=2**62)] = 0,
    ) -> WhyReport:
        """Which piece a byte of a file needs, who has it, who was asked, and why it is not here.

        A torrent that sleeps is opened for that; nobody is asked for anything."""
        _, volume, files = what(path)
        if files is None or len(files) != 1:
            raise HTTPException(400, f"{path} is not a file")
        return report_of(await volume.why(files[0], offset))

    @router.get("/pins", responses=responses(404))
    async def list_pins(
        torrent: Annotated[
            str | None, Query(max_length=MAX_PATH, description="Of this one only: its key")
        ] = None,
        limit: Annotated[int, Query(ge=0, le=MOST_LISTED)] = MOST_LISTED,
    ) -> PinList:
        """What is pinned."""
        if torrent is None:
            return await pin_list(kept_of(library.items.values()), limit)
        item = find(library, torrent)
        whole: list[Pin] = []
        if item.metainfo is not None and item.path is not None:
            whole = pins_of_files(item.metainfo, subject.tree.files_shown(item.key))
        return await pin_list(kept_of([item]), limit, whole=whole)

    @router.post("/pins", responses=responses(400, 404, 409, 503))
    async def pin(demand: Demand) -> PinList:
        """Fetch it in the background, below all that is read, and never evict it.

        400 with how much room there is, when it is more than the cache has for pins."""
        item, _, pins = meant(demand)
        await library.pin(item.key, pins)
        return await pin_list(kept_of([find(library, item.key)]), MOST_LISTED, pins)

    @router.post("/pins/remove", responses=responses(400, 404, 409, 503))
    async def unpin(demand: Demand) -> PinList:
        """Do not keep it any longer; it goes when its room is needed."""
        item, _, pins = meant(demand, is_wanted=False)
        await library.unpin(item.key, pins)
        return await pin_list(kept_of([find(library, item.key)]), MOST_LISTED)

    @router.get("/prefetches", responses=responses())
    async def list_prefetches() -> PrefetchList:
        """The prefetches that are under way."""
        found = [
            state_of(item, each)
            for item in library.items.values()
            if item.volume is not None
            for each in item.volume.errands.prefetches.values()
        ]
        return PrefetchList(prefetches=found)

    @router.post("/prefetches", status_code=201, responses=responses(400, 404, 409, 503))
    async def prefetch(demand: Demand) -> PrefetchList:
        """Fetch it in the background, once.

        400 with how much room there is, when it is more than the cache has beside all that is
        pinned or prefetched now."""
        item, volume, pins = meant(demand)
        path = "/".join(part for part in demand.path.split("/") if part)
        return PrefetchList(prefetches=[state_of(item, volume.prefetch_all(pins, path))])

    @router.delete(
        "/prefetches/{torrent}/{number}",
        status_code=204,
        response_class=Response,
        responses=responses(404),
    )
    async def cancel(torrent: str, number: int) -> None:
        """Give one up."""
        volume = find(library, torrent).volume
        each = volume.errands.prefetches.get(number) if volume is not None else None
        if each is None:
            raise HTTPException(404, f"there is no prefetch {number} under way")
        each.cancel()

    @router.post("/evict", responses=responses(400, 404, 409, 503))
    async def evict(wanted: Evict) -> Freed:
        """Drop what is cached of it; the disk is free at once. Pinned pieces stay, unless asked."""
        item, _, files = what(wanted.path)
        names = tuple(part for part in wanted.path.split("/") if part)
        if files is None or wanted.path == item.key or names == item.path:
            return Freed(freed=await library.evict(item.key, None, pinned=wanted.pinned))
        if len(files) > MOST_FILES:
            raise HTTPException(400, f"{wanted.path} has more than {MOST_FILES} files")
        freed = 0
        for file in files:
            freed += await library.evict(item.key, file, pinned=wanted.pinned)
        return Freed(freed=freed)

    return router


def state_of(item: Item, each: Any) -> PrefetchState:
    """One prefetch; the range is that of each of its files."""
    first = each.pins[0]
    is_run = bool(each.path) and first.file is None  # whole files, side by side
    return PrefetchState(
        key=item.key,
        number=each.number,
        path=clean(each.path) or path_of(item.name, item.metainfo, first.file),
        offset=0 if is_run else first.offset,
        length=None if is_run else first.length,
        pieces=each.total,
        missing=each.missing,
        trouble=clean(each.trouble),
    )


def report_of(found: Any) -> WhyReport:
    """An engine.why.Why."""
    return WhyReport(
        piece=found.piece,
        block=found.block,
        state=found.state,
        words=clean(found.words),
        size=found.size,
        received=found.received,
        progress=found.progress,
        waits=found.waits,
        deadline=found.deadline,
        retry=found.retry,
        peers=found.peers,
        sources=[
            SourceOfPiece(
                name=clean(each.name),
                kind=each.kind,
                client=clean(each.client),
                choked=each.choked,
                asked=each.asked,
                since=each.since,
                rate=each.rate,
                failure=clean(each.failure),
            )
            for each in found.holders
        ],
    )
