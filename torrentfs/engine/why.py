"""Why a read waits, or would: everything that is known about one byte of a torrent, in plain words.

Which piece it needs and whether that is here; who has it, who was asked for it and when; until when
the read that waits for it may wait; and one line that says what is the matter. Nothing is asked of
anybody for this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torrentfs.engine.report import complaints, why_missing
from torrentfs.engine.torrent import Torrent
from torrentfs.engine.webseeds import WebSeedSource
from torrentfs.errors import ConfigError
from torrentfs.metainfo.geometry import BLOCK_LENGTH

if TYPE_CHECKING:
    from torrentfs.engine.dormant import Dormant
    from torrentfs.engine.peer import Peer

MOST_HOLDERS = 100
"""Sources that are named one by one; those that were asked come first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A source that has the piece; times are in seconds before now."""

    name: str
    """`203.0.113.5:6881`, or the URL of a web seed."""
    kind: str
    client: str
    choked: bool
    """Whether it gives us nothing now."""
    interested: bool
    """Whether it knows that we want something of it."""
    asked: int
    """Blocks of the piece that it was asked for, and has not given yet."""
    since: float | None
    """How long ago it was asked for the first of these."""
    rate: float
    """Bytes a second that come from it, of whatever piece."""
    failure: str
    """What last went wrong with it, in words; web seeds only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """What there is to say about one byte; times are in seconds from now, or before now."""

    file: int
    offset: int
    piece: int
    block: int
    state: str
    """`here`, `asleep`, `paused`, `queued` (for one of the places), `waking`, `hopeless` (there is
    no way to find anybody), `no peers`, `unheld`, `choked`, `asked`, `next` (to be asked), or
    `idle` (nobody reads it)."""
    words: str
    """What is the matter, in one line."""
    size: int
    """Bytes of the piece."""
    received: int
    """How many of them have come; not all of them were verified."""
    progress: float | None = None
    """How long ago the last of them came."""
    waits: float | None = None
    """For how long the read has waited that waits for it longest; None: none does."""
    deadline: float | None = None
    """When that read gives up if nothing comes."""
    retry: float | None = None
    """While reads fail fast since one waited in vain: when the next one may wait in full."""
    peers: int = 0
    """Peers that are connected, whatever they have."""
    holders: tuple[Holder, ...] = ()
    """Peers and web seeds that have the piece, those that were asked for it first."""

    @property
    def asked(self) -> tuple[Holder, ...]:
        """Those of them that were asked for it."""
        return tuple(holder for holder in self.holders if holder.asked)


def why(subject: Torrent | Dormant, file: int, offset: int, now: float) -> Why:
    """Why byte `offset` of file number `file` is not here, or that it is (`now` by trio's clock).

    `ConfigError` for a byte that is not in the torrent. Of a torrent that sleeps nothing more is
    known than that: open it (`Dormant.wake`) to learn whether the byte is in the cache.
    """
    geometry = subject.metainfo.geometry
    if not 0 <= file < len(geometry.file_lengths):
        raise ConfigError(f"the torrent has no file number {file}")
    if not 0 <= offset < geometry.file_lengths[file]:
        raise ConfigError(f"the file has {geometry.file_lengths[file]} bytes")
    piece, begin = divmod(geometry.file_starts[file] + offset, geometry.piece_length)
    place = _Place(file, offset, piece, begin // BLOCK_LENGTH, geometry.piece_size(piece))
    if isinstance(subject, Torrent):
        return _of_torrent(subject, place, subject.state, now)
    torrent = subject.torrent
    if torrent is not None:
        return _of_torrent(torrent, place, subject.state, now)
    statistics = subject.statistics()
    have = f"{statistics.pieces_have} of {statistics.pieces_total} pieces are in the cache"
    words = "it is paused and asleep" if subject.paused else "it is asleep: nobody reads it"
    return place.why("paused" if subject.paused else "asleep", f"{words}; {have}")


@dataclass(frozen=True, slots=True)
class _Place:
    file: int
    offset: int
    piece: int
    block: int
    size: int

    def why(self, state: str, words: str, received: int = 0, **more: object) -> Why:
        return Why(
            file=self.file,
            offset=self.offset,
            piece=self.piece,
            block=self.block,
            size=self.size,
            state=state,
            words=words,
            received=received,
            **more,  # type: ignore[arg-type]
        )


def _of_torrent(torrent: Torrent, place: _Place, state: str, now: float) -> Why:
    piece = place.piece
    if piece in torrent.store.have:
        return place.why("here", "it is here", place.size)
    begin = place.block * BLOCK_LENGTH
    received = sum(
        min(BLOCK_LENGTH, place.size - block * BLOCK_LENGTH)
        for block in range(-(-place.size // BLOCK_LENGTH))
        if torrent.picker.received_of(piece) >> block & 1
    )
    length = min(BLOCK_LENGTH, place.size - begin)
    if torrent.is_proved(piece, begin, length):
        return place.why("here", "its block is here; the rest of its piece is not", received)
    waits = [wait for wait in torrent.reader.waits() if wait.piece == piece]
    progress = torrent.progress_of(piece)
    breaker = torrent.reader.breaker
    holders = _holders(torrent, piece, now)
    kind, words = _verdict(torrent, piece, state, holders, bool(waits))
    asked = [holder for holder in holders if holder.asked]
    if kind == "asked":
        words = "; ".join(
            filter(None, [_asked_words(asked, received, place.size), complaints(torrent)])
        )
    if received and progress is not None:
        words += f"; the last byte of its piece came {now - progress:.1f} s ago"
    if breaker.is_open:
        words += "; reads fail after a second since one waited in vain, "
        if breaker.is_trying:
            words += "but one waits in full now"
        else:
            words += f"the next full try may be in {breaker.retry_in(now):.0f} s"
    trouble = torrent.store.statistics().disk_trouble
    if trouble:
        words += f"; the cache: {trouble}"
    return place.why(
        kind,
        words,
        received,
        progress=None if progress is None else now - progress,
        waits=max((now - wait.since for wait in waits), default=None),
        deadline=max((wait.deadline - now for wait in waits), default=None),
        retry=breaker.retry_in(now) if breaker.is_open else None,
        peers=len(torrent.peers()),
        holders=tuple(holders[:MOST_HOLDERS]),
    )


def _verdict(
    torrent: Torrent, piece: int, state: str, holders: list[Holder], waits: bool
) -> tuple[str, str]:
    """The state of a piece that is not here, and why it is not."""
    hopeless = torrent.hopeless()
    if hopeless is not None:
        return ("paused" if torrent.paused else "hopeless"), hopeless
    words = why_missing(torrent, piece)
    if torrent.inactive is not None:
        return ("queued" if state == "queued" else "waking" if waits else "idle"), words
    if any(holder.asked for holder in holders):
        return "asked", words
    if not holders:
        if torrent.peers():
            return "unheld", words
        known = len(torrent.swarm.book)
        return "no peers", f"{words}; {known} addresses are known" + _tracker_words(torrent)
    if all(holder.choked for holder in holders):
        return "choked", words
    if waits:
        return "next", f"it is asked of {len(holders)} sources next"
    return "idle", f"nobody reads it, so it is not asked for; {len(holders)} sources have it"


def _tracker_words(torrent: Torrent) -> str:
    """What the trackers said that did answer."""
    trackers = torrent.swarm.trackers
    if trackers is None:
        return ""
    answered = [each for each in trackers.statistics() if each.announces and not each.last_error]
    return "".join(f"; tracker {each.url} named {each.peers} peers" for each in answered)


def _asked_words(asked: list[Holder], received: int, size: int) -> str:
    """`203.0.113.5:6881 was asked 4.2 s ago for 3 blocks, nothing came yet`."""
    said = [
        f"{holder.name} was asked {holder.since or 0.0:.1f} s ago for {holder.asked} blocks"
        for holder in asked[:3]
    ]
    if len(asked) > 3:
        said.append(f"{len(asked) - 3} others were asked")
    came = f"{received} of {size} bytes of its piece are here" if received else "nothing came yet"
    return ", ".join([*said, came])


def _holders(torrent: Torrent, piece: int, now: float) -> list[Holder]:
    asked = torrent.picker.asked_of(piece)
    found = []
    for source in torrent.sources:
        times = asked.get(source.source, [])
        if isinstance(source, WebSeedSource):
            if source.seed.has(piece) or times:
                found.append(_web_seed(source, times, now))
        elif piece in source.pieces or times:
            found.append(_peer(source, times, now))
    return sorted(found, key=lambda holder: (not holder.asked, holder.choked, holder.name))


def _web_seed(source: WebSeedSource, times: list[float], now: float) -> Holder:
    return Holder(
        name=source.seed.url,
        kind=source.kind,
        client="web seed",
        choked=False,
        interested=True,
        asked=len(times),
        since=now - min(times) if times else None,
        rate=source.down_rate.per_second(now),
        failure=source.failure or "",
    )


def _peer(source: Peer, times: list[float], now: float) -> Holder:
    return Holder(
        name=f"{source.address[0]}:{source.address[1]}",
        kind=source.kind,
        client=source.client,
        choked=source.choked,
        interested=source.interested,
        asked=len(times),
        since=now - min(times) if times else None,
        rate=source.down_rate.per_second(now),
        failure="",
    )
