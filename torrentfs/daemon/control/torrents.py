"""`/api/v1/torrents`: what is in the mount, and adding and removing.

A source that is posted is a link, a URL or an info-hash, never a path: who may ask here over TCP
may not make the daemon read files. A .torrent is posted as it is.
"""

from functools import partial
from typing import Annotated, Any

import trio
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from torrentfs.daemon.control import describe, piecemap
from torrentfs.daemon.control.contract import Item, Subject
from torrentfs.daemon.control.errors import find, responses
from torrentfs.daemon.control.models import (
    MAX_PATH,
    AddTorrent,
    BlockedRead,
    ChangeTorrent,
    FileList,
    PeerList,
    PieceMap,
    ReadList,
    Torrent,
    TorrentList,
    TrackerList,
)
from torrentfs.daemon.sources import FileSource, parse_source
from torrentfs.errors import ConfigError

TORRENT = "application/x-bittorrent"
KINDS = (TORRENT, "application/octet-stream")
FEW_FILES = 2000
"""More are listed in a thread."""

Key = Annotated[
    str, Path(max_length=MAX_PATH, description="Info-hash, its first digits, name, or path")
]
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/AddTorrent"}},
            TORRENT: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


def folder_of(text: str) -> tuple[str, ...]:
    """The names of `films/new`; `ConfigError` for what is no folder."""
    names = tuple(name for name in text.split("/") if name)
    if len(names) > 32 or any(
        name in (".", "..") or not name.isprintable() or len(name.encode()) > 255 for name in names
    ):
        raise ConfigError("the folder must be up to 32 plain names, like films/new")
    return names


def make_router(subject: Subject) -> APIRouter:
    """The routes, for one mount."""
    router = APIRouter(tags=["torrents"])
    library = subject.library
    uploads = trio.CapacityLimiter(1)  # one .torrent of 512 MiB in memory at a time

    @router.get("/torrents", responses=responses(404))
    async def list_torrents(
        name: Annotated[
            str | None,
            Query(max_length=MAX_PATH, description="Only the one of this key, name or path"),
        ] = None,
    ) -> TorrentList:
        """All torrents, those without metadata too, in the order of adding."""
        if name is not None:
            found = describe.of_item(find(library, name))
            return TorrentList.model_construct(torrents=[found])
        return TorrentList.model_construct(torrents=describe.torrents(subject))

    @router.post(
        "/torrents",
        status_code=201,
        response_model=Torrent,
        responses=responses(400, 409, 415, 502, 503, 504),
        openapi_extra=_BODY,
    )
    async def add_torrent(
        request: Request,
        folder: Annotated[
            str, Query(max_length=MAX_PATH, description="For a .torrent: where to put it")
        ] = "",
    ) -> Torrent:
        """Add one: JSON that names it, or the .torrent itself.

        A .torrent or a URL of one is in the mount when this answers; of a link the metadata is
        looked for first, and its state is `metadata` until then.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            item = await _add_named(await request.body())
        elif kind in KINDS:
            async with uploads:
                data = await request.body()
                if not data:
                    raise HTTPException(400, "the body is empty: post a .torrent")
                item = await library.add_torrent(data, folder=folder_of(folder))
        else:
            raise HTTPException(415, f"post application/json or {TORRENT}")
        return describe.of_item(item)

    async def _add_named(body: bytes) -> Item:
        try:
            wanted = AddTorrent.model_validate_json(body)
        except ValidationError as error:
            raise RequestValidationError(error.errors()) from None
        source = parse_source(wanted.source)
        if isinstance(source, FileSource):
            raise HTTPException(400, "a path is not taken here: post the .torrent itself")
        return await library.add(source, folder=folder_of(wanted.folder), paused=wanted.paused)

    @router.get("/torrents/{torrent}", responses=responses(404))
    async def get_torrent(torrent: Key) -> Torrent:
        """One torrent."""
        return describe.of_item(find(library, torrent))

    @router.patch("/torrents/{torrent}", responses=responses(400, 404, 409))
    async def change_torrent(torrent: Key, change: ChangeTorrent) -> Torrent:
        """Pause it, or go on."""
        item = find(library, torrent)
        if change.paused is True:
            await library.pause(item.key)
        elif change.paused is False:
            await library.resume(item.key)
        return describe.of_item(find(library, item.key))

    @router.delete(
        "/torrents/{torrent}",
        status_code=204,
        response_class=Response,
        responses=responses(404, 409),
    )
    async def remove_torrent(
        torrent: Key,
        evict: Annotated[bool, Query(description="Take its pieces out of the cache too")] = False,
    ) -> None:
        """Take it out of the mount; open files can be read until they are closed."""
        await library.remove(find(library, torrent).key, evict=evict)

    @router.get("/torrents/{torrent}/files", responses=responses(404))
    async def list_files(
        torrent: Key,
        offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    ) -> FileList:
        """The files of a torrent that the mount shows, a part at a time."""
        item = find(library, torrent)
        work = partial(describe.files, subject, item, offset, offset + limit)
        many = item.metainfo is not None and len(item.metainfo.files) > FEW_FILES
        return await trio.to_thread.run_sync(work) if many else work()

    @router.get("/torrents/{torrent}/peers", responses=responses(404))
    async def list_peers(torrent: Key) -> PeerList:
        """The peers and web seeds that are connected."""
        volume = find(library, torrent).volume
        found = describe.peers(volume) if volume is not None else []
        return PeerList.model_construct(peers=found)

    @router.get("/torrents/{torrent}/trackers", responses=responses(404))
    async def list_trackers(torrent: Key, scrape: bool = False) -> TrackerList:
        """The trackers that are asked, and what they said; none while the torrent sleeps.

        With `scrape` they are asked for their counts of peers first, unless they told them lately.
        """
        volume = find(library, torrent).volume
        living = volume.torrent if volume is not None else None
        if scrape and living is not None and living.inactive is None:
            await living.scrape()
        return describe.trackers(volume)

    @router.get("/torrents/{torrent}/pieces", responses=responses(404, 409, 503))
    async def show_pieces(
        torrent: Key,
        buckets: Annotated[int, Query(ge=0, le=piecemap.MAX_BUCKETS)] = 0,
    ) -> PieceMap:
        """Which pieces are here, and where programs read. A torrent that sleeps is opened."""
        item = find(library, torrent)
        if item.volume is None:
            raise HTTPException(409, f"the metadata of {item.name} is not known yet")
        return await piece_map(await item.volume.wake(), buckets)

    @router.get("/reads", responses=responses())
    async def list_reads() -> ReadList:
        """The reads that wait for bytes now, and why."""
        return ReadList.model_construct(reads=blocked_reads(subject))

    return router


async def piece_map(living: Any, buckets: int) -> PieceMap:
    """The map of an engine.torrent.Torrent."""
    have = living.store.have.copy()
    begun = living.picker.partial_pieces()
    agenda = living.heads.agenda(trio.current_time())
    wanted = [want.piece for want in agenda]
    heads = describe.heads(living)

    def draw() -> PieceMap:
        states = piecemap.piece_states(have, begun, wanted)
        return PieceMap.model_construct(
            pieces=have.size,
            piece_length=living.metainfo.geometry.piece_length,
            have=have.count,
            runs=None if buckets else piecemap.runs(states),
            buckets=piecemap.buckets(states, buckets) if buckets else None,
            marks=piecemap.marks(states, buckets) if buckets else None,
            partial=states.count(b"p"),
            wanted=states.count(b"w"),
            heads=heads,
        )

    return await trio.to_thread.run_sync(draw) if have.size > 20_000 else draw()


def blocked_reads(subject: Subject, most: int = 500) -> list[BlockedRead]:
    """The reads of all torrents that wait, the longest first."""
    found = [
        read for item in subject.library.items.values() for read in describe.reads(subject, item)
    ]
    return sorted(found, key=lambda read: -read.since)[:most]
