"""The mount in the words of the API: from what the engine knows to `models`.

Text that came from outside (names of clients, words of trackers) may hold half of a surrogate
pair, which is no UTF-8 and so no JSON: `clean` replaces it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import trio

from torrentfs import __version__
from torrentfs.daemon.control import models
from torrentfs.engine.privacy import proxy_words
from torrentfs.metainfo.intervals import covers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torrentfs.daemon.control.contract import Item, Subject, Volume
    from torrentfs.discovery.websocket_statistics import SignallingStatistics
    from torrentfs.engine.stats import TorrentStatistics, WebRtcStatistics

FILES = "/files/"


def clean(text: str) -> str:
    """`text` as JSON can carry it."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8", "replace")


def url_of(path: Sequence[str]) -> str:
    """Where `/files` has a path of the mount."""
    return FILES + "/".join(
        quote(name.encode("utf-8", "surrogateescape"), safe="") for name in path
    )


def of_item(item: Item) -> models.Torrent:
    """One torrent."""
    volume, metainfo = item.volume, item.metainfo
    now: TorrentStatistics | None = volume.statistics() if volume is not None else None
    return models.Torrent.model_construct(
        key=item.key,
        name=clean(item.name),
        path=clean("/".join(item.path)) if item.path is not None else None,
        url=url_of(item.path) if item.path is not None else None,
        state=item.state,
        trouble=clean(_trouble(item)),
        source=clean(item.source),
        origin=item.origin,
        folder=clean("/".join(item.folder)),
        added=item.added,
        size=now.size if now else 0,
        files=_file_count(item),
        pieces=now.pieces_total if now else 0,
        pieces_have=now.pieces_have if now else 0,
        piece_length=metainfo.geometry.piece_length if metainfo is not None else 0,
        progress=now.progress if now else 0.0,
        private=metainfo.private if metainfo is not None else False,
        download_rate=now.download_rate if now else 0.0,
        upload_rate=now.upload_rate if now else 0.0,
        downloaded=now.downloaded if now else 0,
        uploaded=now.uploaded if now else 0,
        wasted=now.wasted if now else 0,
        hash_failures=now.hash_failures if now else 0,
        blocked_reads=now.waiting_reads if now else 0,
        peers=len(now.peers) if now else 0,
        received=dict(now.bytes_by_kind) if now else {},
        publications=[
            models.Publication.model_construct(
                id=publication.id,
                link=clean(publication.link),
                sequence=publication.sequence,
                asked=publication.asked or None,
                is_coming=publication.coming is item,
                trouble=clean(publication.trouble),
            )
            for publication in item.published
        ],
    )


def _trouble(item: Item) -> str:
    """What goes wrong, or stands in the way of something newer."""
    return item.trouble or next((one.trouble for one in item.published if one.trouble), "")


def _file_count(item: Item) -> int:
    if item.metainfo is None:
        return 0
    return len(item.metainfo.files) - item.metainfo.files.num_pads


def torrents(subject: Subject) -> list[models.Torrent]:
    """All of them, in the order of adding."""
    items = sorted(subject.library.items.values(), key=lambda item: (item.added, item.key))
    return [of_item(item) for item in items]


def status(subject: Subject, known: Iterable[models.Torrent]) -> models.Status:
    """The mount; `known` are its torrents as just described."""
    session = subject.session
    total = models.Status.model_construct(
        version=__version__,
        pid=os.getpid(),
        mountpoint=clean(str(subject.mountpoint)),
        started=subject.started,
        port=session.port,
        http=subject.http,
        torrents={},
        size=0,
        have=0,
        download_rate=0.0,
        upload_rate=0.0,
        downloaded=0,
        uploaded=0,
        wasted=0,
        hash_failures=0,
        blocked_reads=0,
        peers=0,
        received={},
        limits=limits(session),
        cache=cache(session),
        webrtc=webrtc(session),
        proxy=clean(proxy_words(session.config)),
        trouble=clean(session.trouble),
    )
    for torrent in known:
        total.torrents[torrent.state] = total.torrents.get(torrent.state, 0) + 1
        total.size += torrent.size
        total.have += int(torrent.size * torrent.progress)
        total.download_rate += torrent.download_rate
        total.upload_rate += torrent.upload_rate
        total.downloaded += torrent.downloaded
        total.uploaded += torrent.uploaded
        total.wasted += torrent.wasted
        total.hash_failures += torrent.hash_failures
        total.blocked_reads += torrent.blocked_reads
        total.peers += torrent.peers
        for kind, amount in torrent.received.items():
            total.received[kind] = total.received.get(kind, 0) + amount
    return total


def limits(session: Any) -> models.Limits:
    """What may be changed, as it is now."""
    return models.Limits(
        download_limit=session.limits.download.rate,
        upload_limit=session.limits.upload.rate,
        max_active=session.dormitory.turns.places,
    )


def cache(session: Any) -> models.Cache:
    """The cache as it is now."""
    config, now = session.cache.config, session.cache.statistics()
    return models.Cache.model_construct(
        directory=clean(str(config.directory)),
        size=config.size,
        used=now.disk_bytes + now.idle_bytes + now.others_bytes,
        memory=now.memory_bytes,
        memory_limit=config.memory_limit,
        unwritten=now.unwritten_bytes,
        trouble=clean(now.disk_trouble or ""),
    )


def webrtc(session: Any) -> models.WebRtc | None:
    """Browsers as peers, for all torrents; None: off, or not used so far."""
    now: WebRtcStatistics | None = session.signalling and session.signalling.statistics()
    if now is None:
        return None
    bridge = now.bridge
    return models.WebRtc.model_construct(
        workers=list(bridge.workers),
        restarts=bridge.restarts,
        connections=bridge.connections,
        offers=bridge.offers,
        open=bridge.open,
        trouble=clean(bridge.trouble),
        signalling=_signalling(now.signalling),
    )


def _signalling(now: SignallingStatistics) -> models.Signalling:
    return models.Signalling.model_construct(
        offers_sent=now.offers_sent,
        answers_received=now.answers_received,
        offers_received=now.offers_received,
        answers_sent=now.answers_sent,
        dropped=now.dropped,
    )


def peers(volume: Volume) -> list[models.Peer]:
    """Who is connected."""
    return [
        models.Peer.model_construct(
            address=clean(peer.address),
            kind=peer.kind,
            client=clean(peer.client),
            progress=peer.progress,
            downloaded=peer.downloaded,
            uploaded=peer.uploaded,
            download_rate=peer.download_rate,
            upload_rate=peer.upload_rate,
            flags=clean(peer.flags),
        )
        for peer in volume.statistics().peers
    ]


def trackers(volume: Volume | None) -> models.TrackerList:
    """What the trackers said last."""
    swarm = getattr(volume.torrent, "swarm", None) if volume is not None else None
    if swarm is None or swarm.trackers is None:
        return models.TrackerList(trackers=[], signalling=None)
    signalling = swarm.trackers.signalling()
    found = [
        models.Tracker.model_construct(
            url=clean(tracker.url),
            tier=tracker.tier,
            announces=tracker.announces,
            failures=tracker.failures,
            error=clean(tracker.last_error or ""),
            warning=clean(tracker.warning or ""),
            peers=tracker.peers,
            seeders=tracker.seeders,
            leechers=tracker.leechers,
            downloaded=tracker.downloaded,
            counted=tracker.counted,
            scrape_error=clean(tracker.scrape_error or ""),
            next_announce=tracker.next_announce,
        )
        for tracker in swarm.trackers.statistics()
    ]
    return models.TrackerList.model_construct(
        trackers=found, signalling=_signalling(signalling) if signalling is not None else None
    )


def files(subject: Subject, item: Item, start: int, stop: int) -> models.FileList:
    """The files that the mount shows of a torrent, from number `start` to before `stop`."""
    metainfo = item.metainfo
    if metainfo is None or item.path is None:
        return models.FileList(total=0, files=[])
    shown = [
        (index, place)
        for index, place in subject.tree.files_of(item.key)
        if metainfo.files[index].symlink is None
    ]
    torrent = item.volume.torrent if item.volume is not None else None
    have = torrent.store.have if torrent is not None else None
    geometry = metainfo.geometry
    kept = item.volume.errands.kept if item.volume is not None else ()
    found = [
        models.File.model_construct(
            index=index,
            path=clean("/".join(place)),
            url=url_of(place),
            size=geometry.file_lengths[index],
            have=None if have is None else _have_of(geometry, have, index),
            pinned=bool(kept) and _is_kept(geometry, kept, index),
        )
        for index, place in shown[start:stop]
    ]
    return models.FileList.model_construct(total=len(shown), files=found)


def _is_kept(geometry: Any, kept: Any, index: int) -> bool:
    """Whether all of a file is in these bytes of piece space."""
    start, length = geometry.file_starts[index], geometry.file_lengths[index]
    return length > 0 and covers(kept, range(start, start + length))


def _have_of(geometry: Any, have: Any, index: int) -> int:
    """Bytes of a file that are here."""
    length = geometry.file_lengths[index]
    if not length:
        return 0
    start = geometry.file_starts[index]
    size = geometry.piece_length
    first, last = start // size, (start + length - 1) // size
    if have.complete:
        return int(length)
    total = 0
    for piece in range(first, last + 1):
        if piece in have:
            total += min(start + length, (piece + 1) * size) - max(start, piece * size)
    return total


def heads(torrent: Any) -> list[models.ReadHead]:
    """Where programs read in a living torrent."""
    geometry = torrent.metainfo.geometry
    return [
        models.ReadHead.model_construct(
            file=place.file,
            offset=place.offset,
            piece=(geometry.file_starts[place.file] + place.offset) // geometry.piece_length,
            window=-(-place.window // geometry.piece_length),
        )
        for place in torrent.heads.places()
    ]


def reads(subject: Subject, item: Item) -> list[models.BlockedRead]:
    """The reads of a torrent that wait, the longest first."""
    torrent = item.volume.torrent if item.volume is not None else None
    if torrent is None or item.path is None:
        return []
    now = trio.current_time()
    metainfo, tree = torrent.metainfo, subject.tree
    found = []
    for wait in torrent.reader.waits():
        file, offset = place_of(metainfo.geometry, wait.piece, wait.begin)
        found.append(
            models.BlockedRead.model_construct(
                key=item.key,
                path=clean("/".join(tree.path_of(tree.inode_of(item.key, file)))),
                offset=offset,
                length=wait.length,
                piece=wait.piece,
                since=round(now - wait.since, 1),
                why=clean(torrent.why_missing(wait.piece)),
            )
        )
    return sorted(found, key=lambda read: -read.since)


def place_of(geometry: Any, piece: int, begin: int) -> tuple[int, int]:
    """(file, offset in it) of a byte of a piece."""
    found = next(geometry.files_in(piece * geometry.piece_length + begin, 1), None)
    return (found.file, found.offset) if found is not None else (0, 0)
