"""A torrent in words and numbers: for log lines, the status line, xattrs and tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from torrentfs.engine.stats import PeerStatistics, TorrentStatistics
from torrentfs.engine.webseeds import WebSeedSource

if TYPE_CHECKING:
    from torrentfs.engine.peer import Peer
    from torrentfs.engine.torrent import Torrent

PAUSED = "the torrent is paused"
"""Why reads of a torrent that the user has paused fail."""


def why_missing(torrent: Torrent, piece: int) -> str:
    """Why a piece is not here."""
    if torrent.inactive is not None:
        return "; ".join(filter(None, [torrent.inactive, complaints(torrent)]))
    peers = torrent.peers()
    holders = [peer for peer in peers if piece in peer.pieces]
    choked = sum(peer.choked for peer in holders)
    words = []
    if not peers:
        words.append("no peers connected")
    elif not holders:
        words.append(f"none of {len(peers)} peers has it")
    elif choked == len(holders):
        words.append(f"choked by all {choked} peers that have it")
    else:
        words.append(f"asked {len(holders) - choked} peers, none delivered")
    return "; ".join(filter(None, [*words, complaints(torrent)]))


def why_hopeless(torrent: Torrent) -> str | None:
    """Why no missing byte can ever come, or None while one may."""
    if torrent.paused:
        return PAUSED
    swarm, config = torrent.swarm, torrent.config
    if torrent.inactive is not None or torrent.sources or len(swarm.book):
        return None
    if swarm.trackers is not None and (config.tcp or config.rtc is not None):
        return None
    searches = swarm.dht is not None and swarm.dht.has_hope
    if (config.tcp or config.utp) and (searches or swarm.is_local):
        return None
    return "; ".join(filter(None, ["no peer, tracker or web seed is left", complaints(torrent)]))


def complaints(torrent: Torrent) -> str:
    """What trackers, web seeds and peers last complained of."""
    words = [
        f"web seed {source.seed.url}: {source.failure}"
        for source in torrent.web_seeds
        if source.failure
    ]
    swarm = torrent.swarm
    if swarm.trackers is not None:
        words += [
            f"tracker {tracker.url}: {tracker.last_error}"
            for tracker in swarm.trackers.statistics()
            if tracker.last_error
        ]
    if swarm.dht is not None and not torrent.peers():
        words.append(swarm.dht.words())
    if swarm.last_failure is not None and not torrent.peers():
        words.append(f"last peer {swarm.last_failure}")
    return "; ".join(words)


def state_of(torrent: Torrent) -> str:
    """stalled, fetching, complete or ready."""
    if torrent.reader.breaker.is_open:
        return "stalled"
    if torrent.reader.waiting:
        return "fetching"
    return "complete" if torrent.store.have.complete else "ready"


def statistics_of(torrent: Torrent) -> TorrentStatistics:
    """Everything worth knowing at this moment."""
    now = trio.current_time()
    sources = tuple(_describe(source, now) for source in torrent.sources)
    by_kind = torrent.bytes_by_kind()
    have = torrent.store.have
    trackers = torrent.swarm.trackers.statistics() if torrent.swarm.trackers is not None else ()
    return TorrentStatistics(
        name=torrent.metainfo.name,
        key=torrent.metainfo.hashes.key,
        state=state_of(torrent),
        size=torrent.size,
        pieces_have=have.count,
        pieces_total=have.size,
        download_rate=sum(source.download_rate for source in sources),
        upload_rate=sum(source.upload_rate for source in sources),
        downloaded=torrent.downloaded,
        uploaded=torrent.uploaded,
        wasted=sum(by_kind.values()) - torrent.downloaded,
        hash_failures=torrent.assembly.failures,
        waiting_reads=torrent.reader.waiting,
        peers=sources,
        bytes_by_kind=by_kind,
        trackers=trackers,
    )


def xattrs_of(now: TorrentStatistics) -> dict[str, str]:
    """What `--xattrs` shows, by name without the `user.torrentfs.` prefix."""
    return {
        "infohash": now.key,
        "progress": f"{now.progress:.4f}",
        "state": now.state,
        "peers": str(len(now.peers)),
        "downloaded": str(now.downloaded),
        "wasted": str(now.wasted),
        **{f"from_{kind.replace(' ', '_')}": str(n) for kind, n in now.bytes_by_kind.items()},
        "hash_failures": str(now.hash_failures),
    }


def _describe(source: Peer | WebSeedSource, now: float) -> PeerStatistics:
    if isinstance(source, WebSeedSource):
        return PeerStatistics(
            address=source.seed.url,
            kind=source.kind,
            client="web seed",
            progress=1.0,
            downloaded=source.downloaded,
            uploaded=0,
            download_rate=source.down_rate.per_second(now),
            upload_rate=0.0,
            flags=source.failure or "D",
        )
    flags = ("d" if source.choked else "D") if source.interested else ""
    if source.they_are_interested:
        flags += "u" if source.sender.uploads.choking else "U"
    return PeerStatistics(
        address=f"{source.address[0]}:{source.address[1]}",
        kind=source.kind,
        client=source.client,
        progress=source.pieces.count / source.pieces.size if source.pieces.size else 1.0,
        downloaded=source.downloaded,
        uploaded=source.sender.uploads.uploaded,
        download_rate=source.down_rate.per_second(now),
        upload_rate=source.sender.rate.per_second(now),
        flags=flags,
    )
