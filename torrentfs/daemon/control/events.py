"""`/api/v1/events`: what changes, as server-sent events.

A client first gets a `snapshot` of the mount and its torrents, then a `change` at most once a
second, with the torrents that are not as they were and the keys of those that are gone. With
`?torrent=` a `detail` of one torrent comes beside: pieces, peers, read heads, reads that wait.

The mount is described once a second for all clients together, and not at all while there is none.
What a client was told last is kept by reference, not in a queue: a slow client is told less often,
and costs no memory. Without news a comment is sent, so that both ends notice when the other has
gone.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

import trio
from fastapi import APIRouter, Query, Response
from starlette.exceptions import HTTPException

from torrentfs.daemon.control import describe
from torrentfs.daemon.control.contract import Subject
from torrentfs.daemon.control.errors import find, responses
from torrentfs.daemon.control.leaving import Receive, Scope, Send, end_with
from torrentfs.daemon.control.models import MAX_PATH
from torrentfs.daemon.control.torrents import piece_map

INTERVAL = 1.0
HEARTBEAT = 15.0
"""Seconds without news after which a comment is sent."""
MAX_SUBSCRIBERS = 16
DETAIL_BUCKETS = 512
"""Parts of the piece map in a `detail` of a torrent of more pieces than this."""


class Picture:
    """The mount at one moment, as JSON values; never changed once made."""

    __slots__ = ("status", "torrents")

    def __init__(
        self, status: Mapping[str, Any], torrents: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self.status = status
        self.torrents = torrents


def changes(old: Picture, new: Picture) -> dict[str, Any] | None:
    """What a `change` has to say, or None."""
    changed = [torrent for key, torrent in new.torrents.items() if torrent != old.torrents.get(key)]
    removed = [key for key in old.torrents if key not in new.torrents]
    if not changed and not removed and new.status == old.status:
        return None
    return {"status": new.status, "torrents": changed, "removed": removed}


def event(name: str, data: Mapping[str, Any]) -> bytes:
    """An event as it is sent."""
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


class Watch:
    """Describes the mount, at most once in `INTERVAL`, for whoever asks."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._picture: Picture | None = None
        self._at = float("-inf")
        self.subscribers = 0

    def look(self) -> Picture:
        """The mount, not older than `INTERVAL`."""
        now = trio.current_time()
        if self._picture is None or now >= self._at + INTERVAL:
            known = describe.torrents(self._subject)
            status = describe.status(self._subject, known).model_dump()
            torrents = {torrent.key: torrent.model_dump() for torrent in known}
            old = self._picture.torrents if self._picture is not None else {}
            same = {key: old[key] for key, torrent in torrents.items() if old.get(key) == torrent}
            self._picture = Picture(status, torrents | same)  # one copy of what stays the same
            self._at = now
        return self._picture

    async def follow(self, torrent: str | None, tell: Callable[[bytes], Awaitable[None]]) -> None:
        """Tell one client, until cancelled."""
        told = self.look()
        detail: Mapping[str, Any] | None = None
        all_of_it = {"status": told.status, "torrents": list(told.torrents.values())}
        await tell(event("snapshot", all_of_it))
        quiet_since = trio.current_time()
        while True:
            if torrent is not None:
                seen = await self._detail(torrent)
                if seen != detail:
                    detail = seen
                    await tell(event("detail", seen))
            await trio.sleep(INTERVAL)
            picture = self.look()
            news = changes(told, picture)
            now = trio.current_time()
            if news is not None:
                told, quiet_since = picture, now
                await tell(event("change", news))
            elif now >= quiet_since + HEARTBEAT:
                quiet_since = now
                await tell(b": nothing new\n\n")

    async def _detail(self, key: str) -> dict[str, Any]:
        item = self._subject.library.items.get(key)
        if item is None:
            return {"key": key, "gone": True}
        living = item.volume.torrent if item.volume is not None else None
        pieces = None
        if living is not None:
            many = living.store.have.size > DETAIL_BUCKETS * 8
            pieces = (await piece_map(living, DETAIL_BUCKETS if many else 0)).model_dump()
        peers = describe.peers(item.volume) if item.volume is not None else []
        return {
            "key": key,
            "pieces": pieces,
            "peers": [peer.model_dump() for peer in peers],
            "reads": [read.model_dump() for read in describe.reads(self._subject, item)],
        }


class EventStream(Response):
    """The events for one client, until it goes."""

    media_type = "text/event-stream"

    def __init__(self, watch: Watch, torrent: str | None) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._watch = watch
        self._torrent = torrent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; 503 when too many follow already."""
        watch = self._watch
        if watch.subscribers >= MAX_SUBSCRIBERS:
            raise HTTPException(503, "too many follow the events", {"retry-after": "5"})

        async def tell(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        watch.subscribers += 1
        try:
            head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(head)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(end_with, receive, nursery.cancel_scope)
                await watch.follow(self._torrent, tell)
        finally:
            watch.subscribers -= 1


def make_router(subject: Subject) -> APIRouter:
    """The routes, for one mount."""
    router = APIRouter(tags=["events"])
    watch = Watch(subject)

    @router.get(
        "/events",
        response_class=Response,
        responses={
            **responses(404, 503),
            200: {
                "description": "`snapshot`, then `change` and `detail`, see docs/api.md",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
        },
    )
    async def follow_events(
        torrent: Annotated[
            str | None, Query(max_length=MAX_PATH, description="Of this one tell details too")
        ] = None,
    ) -> EventStream:
        """What changes, until the client goes."""
        key = find(subject.library, torrent).key if torrent is not None else None
        return EventStream(watch, key)

    return router
