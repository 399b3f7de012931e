"""What the API takes and gives, as types: the OpenAPI document is made from these.

Sizes are bytes, rates bytes a second, times seconds since 1970 unless a field says otherwise.
Fields are only ever added. Paths are those in the mount, without a leading slash.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from torrentfs.metainfo.limits import MAX_MAGNET_BYTES

MAX_PATH = 4096
"""Characters of a path, PATH_MAX: in an address each may be 12 bytes, and the head of a request
has its limit too."""
Path = Annotated[
    str,
    Field(
        max_length=MAX_PATH,
        description="A file, a directory of a torrent, or a torrent, by its path in the mount; or "
        "a torrent by its info-hash",
    ),
]
Bytes = Annotated[int, Field(ge=0, le=2**62)]


class Given(BaseModel):
    """What a client sends: a field that is not known is a mistake."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ErrorBody(BaseModel):
    """Every error."""

    error: str = Field(description="What is wrong, in one line for a person")


class Publication(BaseModel):
    """A publisher's link, and how it stands."""

    id: str = Field(description="What it is called whatever torrent it shows, as a key is")
    link: str
    sequence: int | None = Field(
        description="Number of the newest that its publisher said; null while nothing was heard"
    )
    asked: float | None = Field(description="When the DHT last answered; null while it has not")
    is_coming: bool = Field(
        description="This torrent is a newer one, whose metadata is looked for; else it is shown"
    )
    trouble: str = Field(description="Why nothing newer can be had, in words; else empty")


class Torrent(BaseModel):
    """A torrent of the mount, or one whose metadata is looked for."""

    key: str = Field(description="Its info-hash, in hex: of v1 if it has one")
    name: str
    path: str | None = Field(description="Where it is in the mount; null while it is not")
    url: str | None = Field(description="Where /files has it")
    state: str = Field(
        description="metadata (looked for), failed, asleep, queued, ready, fetching, stalled, "
        "complete, paused"
    )
    trouble: str = Field(description="What goes wrong, in words; else empty")
    source: str
    origin: str = Field(description="command line, watch or added")
    folder: str
    added: float
    size: int
    files: int
    pieces: int
    pieces_have: int
    piece_length: int
    progress: float = Field(description="Share of the pieces that are here, 0 to 1")
    private: bool
    download_rate: float
    upload_rate: float
    downloaded: int
    uploaded: int
    wasted: int
    hash_failures: int
    blocked_reads: int
    peers: int = Field(description="Connected peers and web seeds")
    received: dict[str, int] = Field(description="Bytes by kind of source: tcp, utp, webrtc, ...")
    publications: list[Publication] = Field(
        description="The publishers' links that it is an edition of"
    )


class TorrentList(BaseModel):
    """All of them, in the order of adding."""

    torrents: list[Torrent]


class AddTorrent(Given):
    """A torrent to add, by a text that names it."""

    source: str = Field(
        min_length=1,
        max_length=MAX_MAGNET_BYTES,
        description="A magnet link, an http(s) URL of a .torrent, or an info-hash",
    )
    folder: Path = Field("", description="Folder of the mount to put it in, like films/new")
    paused: bool = False


class ChangeTorrent(Given):
    """What may be changed of a torrent."""

    paused: bool | None = Field(None, description="Paused: no traffic, what is cached is read")


class File(BaseModel):
    """A file of a torrent."""

    index: int
    path: str
    url: str
    size: int
    have: int | None = Field(description="Bytes that are here; null while the torrent sleeps")
    pinned: bool = Field(description="Whether all of it is")


class FileList(BaseModel):
    """A part of a torrent's files."""

    total: int
    files: list[File]


class Peer(BaseModel):
    """A peer or web seed that is connected."""

    address: str
    kind: str
    client: str
    progress: float
    downloaded: int
    uploaded: int
    download_rate: float
    upload_rate: float
    flags: str = Field(description="D: we may ask; d: we want and they choke us; U, u: they")


class PeerList(BaseModel):
    """Who is connected now."""

    peers: list[Peer]


class Tracker(BaseModel):
    """A tracker, and what it said last."""

    url: str
    tier: int
    announces: int
    failures: int
    error: str
    warning: str
    peers: int
    seeders: int | None
    leechers: int | None
    downloaded: int | None = Field(description="Times that somebody has finished the torrent")
    counted: float | None = Field(description="So many seconds ago these numbers were told")
    scrape_error: str = Field(description="Why the tracker told no numbers when asked for them")
    next_announce: float | None = Field(description="In so many seconds")


class Signalling(BaseModel):
    """What WebSocket trackers passed on between us and browsers."""

    offers_sent: int
    answers_received: int = Field(description="To offers of ours")
    offers_received: int
    answers_sent: int
    dropped: int = Field(description="Offers beyond the limits, and answers to nothing")


class TrackerList(BaseModel):
    """The trackers of a torrent; none while it sleeps."""

    trackers: list[Tracker]
    signalling: Signalling | None = Field(description="null: no WebSocket tracker is asked")


class ReadHead(BaseModel):
    """A place where a program reads."""

    file: int
    offset: int = Field(description="In the file: what comes next")
    piece: int
    window: int = Field(description="Pieces beyond it that are fetched ahead")


class PieceMap(BaseModel):
    """Which pieces are here."""

    pieces: int
    piece_length: int
    have: int
    runs: str | None = Field(
        description="12h3m1p: 12 pieces here, 3 missing, 1 partly here; w is wanted now. Null "
        "where that would be too long: ask for buckets"
    )
    buckets: list[int] | None = Field(
        description="Percent that is here of each of as many equal parts as were asked for"
    )
    marks: str | None = Field(
        description="A letter for each of these parts: w wanted in it, else p partly here, h, m"
    )
    partial: int = Field(description="Pieces partly here")
    wanted: int = Field(description="Pieces wanted now")
    heads: list[ReadHead]


class BlockedRead(BaseModel):
    """A read that waits for bytes."""

    key: str
    path: str
    offset: int
    length: int
    piece: int
    since: float = Field(description="Seconds that it has waited")
    why: str


class ReadList(BaseModel):
    """The reads that wait now."""

    reads: list[BlockedRead]


class Limits(BaseModel):
    """What may be changed while the mount runs."""

    download_limit: int | None = Field(description="Null: no limit")
    upload_limit: int | None = Field(description="Null: no limit")
    max_active: int = Field(description="Torrents with traffic at once")


class ChangeLimits(Given):
    """Settings to change; what is absent stays."""

    download_limit: Bytes | None = Field(None, description="0 or null: no limit")
    upload_limit: Bytes | None = Field(None, description="0 or null: no limit")
    max_active: Annotated[int, Field(ge=1, le=10_000)] | None = None


class Cache(BaseModel):
    """The cache at this moment."""

    directory: str
    size: int = Field(description="Most that it may take")
    used: int = Field(description="What it takes on disk, by all mounts that share it")
    memory: int
    memory_limit: int
    unwritten: int
    trouble: str


class WebRtc(BaseModel):
    """Browsers as peers, for all torrents."""

    workers: list[int] = Field(description="Processes that speak WebRTC")
    restarts: int = Field(description="Times that one died")
    connections: int = Field(description="All that exist; offers, and what is being opened, too")
    offers: int = Field(description="Offers of ours that nobody has answered yet")
    open: int = Field(description="Open data channels")
    trouble: str = Field(description="STUN and TURN servers that fail, and why; else empty")
    signalling: Signalling


class Status(BaseModel):
    """The mount at this moment."""

    version: str
    pid: int
    mountpoint: str
    started: float
    port: int = Field(description="Where peers reach us; 0: nowhere")
    http: str = Field(description="Address of --http, with the file of its token; else empty")
    torrents: dict[str, int] = Field(description="How many, by state")
    size: int
    have: int
    download_rate: float
    upload_rate: float
    downloaded: int
    uploaded: int
    wasted: int
    hash_failures: int
    blocked_reads: int
    peers: int
    received: dict[str, int]
    limits: Limits
    cache: Cache
    webrtc: WebRtc | None = Field(
        description="null: it is off, or no torrent had a WebSocket tracker so far"
    )
    proxy: str
    trouble: str = Field(description="What does not work as asked, in words; else empty")


class CachedTorrent(BaseModel):
    """What the cache keeps of one torrent."""

    key: str
    name: str = Field(description="Empty when it is not known any more")
    used: int
    open: bool = Field(description="Whether a mount has it open")
    listed: bool = Field(description="Whether this mount lists it")


class CacheUse(BaseModel):
    """What takes how much, the largest first."""

    cache: Cache
    torrents: list[CachedTorrent]


class Prune(Given):
    """How far to shrink the cache."""

    size: Bytes = Field(description="Bytes to leave; the least recently used go first")


class Verify(Given):
    """What to read again and check against its hashes."""

    torrent: Annotated[str, Field(max_length=1024)] | None = Field(
        None, description="Info-hash, name or path; null: every torrent of the mount"
    )


class Freed(BaseModel):
    """What went away."""

    freed: int


class Verified(BaseModel):
    """What was read again."""

    pieces: int
    bytes: int
    bad: int = Field(description="Pieces that were damaged: forgotten, and fetched anew when read")


class Holder(BaseModel):
    """Who has a piece."""

    address: str
    kind: str
    words: str = Field(description="Whether it serves us, was asked, and when")


class Why(BaseModel):
    """Why a place of a file can or cannot be read now."""

    key: str
    path: str
    offset: int
    piece: int
    state: str
    words: str
    deadline: float | None = Field(description="In so many seconds a waiting read fails")
    holders: list[Holder]


class Problem(BaseModel):
    """Part of the events: why no more come."""

    error: str


EventName = Literal["snapshot", "change", "detail"]


class Demand(Given):
    """Bytes of files of the mount."""

    path: Path
    offset: Bytes = Field(0, description="In each file")
    length: Bytes | None = Field(None, description="Of each file; null: up to its end")


class Evict(Given):
    """What is to go from the cache."""

    path: Path
    pinned: bool = Field(False, description="Pinned pieces too; they are not pinned any more")


class PinnedRange(BaseModel):
    """Bytes that are kept."""

    key: str
    path: str = Field(description="Torrent and file; the torrent alone: all its files in a row")
    offset: int = Field(description="In the file, or in all files in a row")
    length: int | None = Field(description="null: up to the end")
    pieces: int = Field(description="Pieces under these bytes")
    missing: int = Field(description="Pieces that are not here, as far as is known")
    trouble: str = Field(description="Why it does not go on, in words; else empty")


class PinList(BaseModel):
    """What is pinned; `pieces` and `missing` are of what was named in the request, or of all."""

    pins: list[PinnedRange] = Field(description="The first of them")
    total: int = Field(description="How many there are")
    whole: bool = Field(description="Of one torrent: all that is shown of it is pinned")
    pieces: int
    missing: int = Field(description="Pieces that are not here, as far as is known")
    trouble: str = Field(description="Why it does not go on, in words; else empty")


class PrefetchState(PinnedRange):
    """A prefetch that is under way: `path` as it was named, `offset` and `length` in each file."""

    number: int = Field(description="What it is cancelled by")


class PrefetchList(BaseModel):
    """Prefetches."""

    prefetches: list[PrefetchState]


class SourceOfPiece(BaseModel):
    """A peer or web seed that has a piece."""

    name: str
    kind: str
    client: str
    choked: bool
    asked: int = Field(description="Blocks of the piece that it was asked for and has not given")
    since: float | None = Field(description="Seconds since it was asked for the first of them")
    rate: float
    failure: str


class WhyReport(BaseModel):
    """All that is known about one byte; times are seconds from now, or before now."""

    piece: int
    block: int
    state: str = Field(
        description="here, asleep, paused, queued, waking, hopeless, no peers, unheld, choked, "
        "asked, next, idle"
    )
    words: str = Field(description="The reason, in one line for a person")
    size: int = Field(description="Bytes of the piece")
    received: int = Field(description="How many of them have come")
    progress: float | None = Field(description="Seconds since the last of them came")
    waits: float | None = Field(description="Seconds that a read has waited; null: none waits")
    deadline: float | None = Field(description="Seconds until that read gives up")
    retry: float | None = Field(description="Seconds until a read may wait in full again")
    peers: int
    sources: list[SourceOfPiece]
