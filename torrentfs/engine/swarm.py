"""Finding peers for one torrent and keeping connections to them, whatever they are wanted for.

A swarm owns the peer book, the trackers and the dialling; what is said over a connection is its
`talk`, given by the owner: a `Torrent` moves blocks, a `MetadataFetch` asks for the info
dictionary (BEP 9). A connection that ends is a value (the reason) told to the peer book, never
an exception in the nursery, so a failing peer harms nobody else.

The handshake (BEP 3) is made here, both ways: the listener reads an incoming one, finds the
swarm by its info-hash and calls `accept`. A WebRTC peer was found by signalling; who has its
channel calls `meet`, which shakes hands, and then `take`. Its address is no place to dial, so the
peer book never hears of it, and a connection to it outlives a metadata search (`Swarm.kept`).

Where two peers dial each other at the same time, as they do through their NATs (`holepunch`), two
connections can be made, and each side must give up the same one: see `_prevails`.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import trio

from torrentfs.engine.dialling import Dialler, Reached, Unreachable, exchange_hello
from torrentfs.engine.wakeup import Wakeup
from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.scheduling.peerbook import PeerBook
from torrentfs.transports.tcp import show_address
from torrentfs.wire.connection import Connection
from torrentfs.wire.handshake import Handshake
from torrentfs.wire.peer_id import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torrentfs.discovery.dht.source import DhtSource
    from torrentfs.discovery.trackers import TrackerTiers
    from torrentfs.engine.config import SessionConfig
    from torrentfs.metainfo.hashes import InfoHashes
    from torrentfs.transports.base import PeerStream

log = logging.getLogger(__name__)

Address = tuple[str, int]

Key = TypeVar("Key")
Value = TypeVar("Value")

MAX_REMEMBERED = 1024
"""WebRTC peers remembered by their addresses, and bans of them: a lie may come to light late."""


MAX_UNREACHED = 64
"""Addresses that were dialled in vain, until somebody asks for them."""

MAX_PUNCHES = 8
"""Peers behind NAT that are dialled at once, beside the others: strangers name them."""

UNANSWERED = 2.0
"""Seconds without an answer after which a peer that is dialled counts as out of reach: most
answer in a tenth of that, and a dial goes on for ten."""


CROWDED = 1.0
"""Seconds from one look for a place to the next: other torrents of the session leave some."""

KEPT = 60.0
"""Seconds for which a place that was made for a caller is not dialled away: he calls again."""


class Ended(NamedTuple):
    """How a conversation ended; `useful` when the peer gave us something, or took it."""

    reason: str
    useful: bool


class Met(NamedTuple):
    """A WebRTC peer that we shook hands with."""

    stream: PeerStream
    connection: Connection
    outgoing: bool
    """Whether we made the offer."""


class Talk(Protocol):
    """What the owner of a swarm does with a connection; returns when it is over.

    Protocol and transport errors may be raised: then the peer was of no use.
    """

    async def __call__(
        self, stream: PeerStream, connection: Connection, address: Address, *, outgoing: bool
    ) -> Ended: ...


class Places:
    """How many peers may be connected at once in the whole session."""

    __slots__ = ("taken", "total")

    def __init__(self, total: int) -> None:
        self.total = total
        self.taken = 0

    @property
    def free(self) -> bool:
        """Whether one more may connect."""
        return self.taken < self.total


class Swarm:
    """The peers of one torrent: book, trackers, dialling, and the connections that live."""

    def __init__(
        self,
        hashes: InfoHashes,
        talk: Talk | None,
        *,
        peer_id: bytes,
        config: SessionConfig,
        places: Places,
        trackers: TrackerTiers | None = None,
    ) -> None:
        self.hashes = hashes
        self.book = PeerBook(blocks=config.ip_filter.blocks) if config.ip_filter else PeerBook()
        self.trackers = trackers
        self.dht: DhtSource | None = None
        self.dialler = Dialler(config)
        self.is_awaited: Callable[[], bool] = lambda: False
        """Whether somebody waits for what its peers could give; set by who has the `talk`."""
        self.on_crowded: Callable[[], bool] = lambda: False
        """Called when somebody was refused for want of a place: whether one is free soon; set by
        who has the `talk`."""
        self._kept_until = 0.0
        self.is_local = False
        """Whether it is told to the local network, so that somebody there may call."""
        self.connected: dict[Address, PeerStream] = {}
        self.last_failure: str | None = None
        self.kept: list[Met] = []
        """Left open by who talked to them, for the swarm that follows."""
        self.guests: list[Met] = []
        """Left by another swarm; taken when `run` begins."""
        self._by_peer_id: dict[bytes, tuple[PeerStream, bool]] = {}
        self.talk = talk
        """None while its torrent is asleep (see `dormant`): then `run` is over, too."""
        self.peer_id = peer_id
        self._config = config
        self._places = places
        self._half_open = 0
        self._dialling: dict[Address, float] = {}
        self._unreached: deque[Address] = deque(maxlen=MAX_UNREACHED)
        self._punching: set[Address] = set()
        self._meeting = 0
        self._met: dict[Address, bytes] = {}
        self._banned: dict[tuple[str, bytes], str] = {}
        self._anew_at = float("-inf")
        """What was dialled before says nothing of the peer."""
        self._wakeup = Wakeup()
        self._nursery: trio.Nursery | None = None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Announce, dial and serve until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for met in self.guests:
                nursery.start_soon(self._go_on, met)
            self.guests = []
            if self.trackers is not None:
                nursery.start_soon(self._announce, self.trackers)
            if self.dht is not None:
                nursery.start_soon(self._search, self.dht)
            task_status.started()
            try:
                await self._dial_loop(nursery)
            finally:
                self._nursery = None

    async def _announce(self, trackers: TrackerTiers) -> None:
        trackers.on_own_address = self.book.on_told_own_address
        try:
            await trackers.run()
        except Exception:  # a bug of ours must cost the trackers, not the mount
            log.exception("%s: a bug while announcing", self.hashes)

    async def _search(self, dht: DhtSource) -> None:
        try:
            await dht.run()
        except Exception:  # as in `_announce`
            log.exception("%s: a bug while searching the DHT", self.hashes)

    def add_peers(self, addresses: Iterable[Address], origin: str) -> None:
        """Learn of peers; they are dialled as places become free."""
        now = trio.current_time()
        for address in addresses:
            self.book.add(address, origin, now)
        self._wakeup.set()

    def want_peers(self) -> None:
        """A read waits and nothing comes: ask the trackers again as early as they allow, and if
        nobody is connected, let no address rest for long."""
        if self.trackers is not None:
            self.trackers.announce_soon()
        if self.dht is not None:
            self.dht.search_soon()
        if not self.connected and self.book.shorten_rests(trio.current_time()):
            self._wakeup.set()

    def start_over(self) -> None:
        """We are on another network, or on ours again: what failed before says nothing now."""
        self._anew_at = trio.current_time()
        self.book.forget_failures()
        self._wakeup.set()

    def on_tracker_peers(self, addresses: Sequence[Address], url: str) -> None:
        """A tracker named peers."""
        log.debug("%s: %d peers from %s", self.hashes, len(addresses), url)
        self.add_peers(addresses, "tracker")

    def accept(self, stream: PeerStream, connection: Connection, theirs: Handshake) -> bool:
        """Take an incoming connection whose handshake was read; False when there is no place.

        He will call again, and may find one then (`on_crowded`).
        """
        if self._nursery is None or self.book.is_banned(stream.remote[:2]):
            return False
        if not self._has_place():
            if self.on_crowded():
                self._kept_until = trio.current_time() + KEPT
            return False
        is_known = stream.remote[:2] in self.connected
        if is_known and not self._prevails(stream, theirs.peer_id, outgoing=False):
            return False
        self._nursery.start_soon(self._welcome, stream, connection, theirs)
        return True

    async def meet(self, stream: PeerStream, info_hash: bytes, *, outgoing: bool) -> Met | None:
        """Shake hands over a stream to a peer that was found by signalling, for `take`.

        None, and the stream is closed, when there is no place or the peer is not wanted.
        `info_hash` is the one that it was found by. Who made the offer says hello first
        (`outgoing`: we did). This is not part of the swarm's life: the search for a magnet's
        metadata may end meanwhile, and its torrent take the peer.
        """
        met: Met | None = None
        if self._nursery is None or self.free_places <= 0:
            stream.abort()
            return None
        self._meeting += 1
        try:
            host = stream.remote[0]
            if self.book.is_banned(stream.remote[:2]):  # before it learns who we are
                raise RemoteProtocolError("is banned")
            connection = Connection()
            ours = self.our_handshake(info_hash) if outgoing else None
            theirs = await exchange_hello(stream, connection, ours)
            if theirs.info_hash not in self.hashes.wire:
                raise RemoteProtocolError("is of another torrent")
            if (host, theirs.peer_id) in self._banned:
                raise RemoteProtocolError("is banned")
            if not outgoing:
                await stream.send_all(connection.send(self._reply_to(theirs)))
            met = Met(stream, connection, outgoing)
        except (RemoteProtocolError, TransportError) as error:
            self._on_parted(str(error))
        finally:
            self._meeting -= 1
            if met is None:
                stream.abort()
        return met

    def take(self, met: Met) -> bool:
        """Talk to a peer that was met; False when this swarm is over."""
        if self._nursery is None:
            return False
        self._nursery.start_soon(self._go_on, met)
        return True

    def take_unreached(self, now: float) -> list[Address]:
        """Where nobody could be reached since the last call, or has not answered for a while."""
        failed = list(self._unreached)
        self._unreached.clear()
        slow = [one for one, since in self._dialling.items() if now - since >= UNANSWERED]
        return [*failed, *slow]

    def punch(self, address: Address) -> bool:
        """Dial a peer over uTP at the moment in which it dials us (BEP 55); False where not.

        Who is being dialled is not dialled twice: that opens our NAT as well.
        """
        if (
            self._nursery is None
            or not self.dialler.punches
            or len(self._punching) >= MAX_PUNCHES
            or address in self._punching
            or address in self._dialling
            or address in self.connected
            or self.book.is_banned(address)
            or self.book.is_ourselves(address)
            or not self._has_place()
        ):
            return False
        self._punching.add(address)
        self.book.on_connecting(address, trio.current_time())
        self._nursery.start_soon(self._dial, address)
        return True

    def is_connected(self, peer_id: bytes) -> bool:
        """Whether we talk to the peer of this id, or are it."""
        return peer_id in self._by_peer_id or peer_id == self.peer_id

    def ban(self, address: Address, reason: str) -> None:
        """Never talk to this peer again in this run.

        A WebRTC peer is known by its host and id: its port changes, and its host may be a relay.
        """
        met = self._met.get(address)
        if met is None:
            self.book.ban(address, reason)
        else:
            _remember(self._banned, (address[0], met), reason)

    @property
    def free_places(self) -> int:
        """How many more peers found by signalling there is room for."""
        open_here = self._config.max_peers - len(self.connected)
        in_all = self._places.total - self._places.taken
        return min(open_here, in_all, self._config.max_half_open) - self._meeting

    def _has_place(self, *, kept: bool = False) -> bool:
        """`kept`: one is for somebody else."""
        return len(self.connected) + kept < self._config.max_peers and self._places.free

    def _may_dial(self, now: float) -> bool:
        return (
            self.dialler.able
            and self._half_open < self._config.max_half_open
            and self._has_place(kept=now < self._kept_until)
        )

    async def _dial_loop(self, nursery: trio.Nursery) -> None:
        while True:
            now = trio.current_time()
            while self._may_dial(now):
                address = self.book.next(now)
                if address is None:
                    break
                self.book.on_connecting(address, now)
                self._half_open += 1
                nursery.start_soon(self._dial, address)
            when = self.book.next_time(now)
            least = 0.05 if self._may_dial(now) else CROWDED
            delay = float("inf") if when is None else max(least, when - now)
            with trio.move_on_after(delay):
                await self._wakeup.wait()

    async def _dial(self, address: Address) -> None:
        """Connect, shake hands, talk; whatever happens ends as a line in the peer book."""
        ended: Ended | None = None  # stays so when we are cancelled: that is no fault of the peer
        stream: PeerStream | None = None
        began = trio.current_time()
        try:
            stream, connection, theirs = await self._reach(address)
            ended = await self._converse(stream, connection, theirs, address, outgoing=True)
        except (RemoteProtocolError, TransportError) as error:
            ended = Ended(str(error), False)
        except Exception as error:  # a bug of ours must cost this peer, not the mount
            ended = Ended(f"failed: {error!r}", False)
            log.exception("%s: a bug while talking to %s:%d", self.hashes, *address)
        finally:
            if stream is not None:
                stream.abort()
            self._on_closed(address, ended if began >= self._anew_at else None)
            if ended is not None:
                self.last_failure = f"{show_address(*address)} {ended.reason}"
            log.debug("%s: peer %s: %s", self.hashes, show_address(*address), _reason(ended))

    async def _reach(self, address: Address) -> Reached:
        """Connect and shake hands, through both NATs if that was agreed on (`punch`)."""
        punch = address in self._punching
        if not punch:
            self._dialling[address] = trio.current_time()
        try:
            v1, v2 = self.hashes.v1, self.hashes.v2
            upgraded = self.our_handshake(v2[:20]) if v1 is not None and v2 is not None else None
            reached = await self.dialler.reach(address, self.our_handshake(), upgraded, punch=punch)
            if reached.theirs.info_hash not in self.hashes.wire:
                reached.stream.abort()
                raise RemoteProtocolError("answered with another info-hash")
            return reached
        except Unreachable:
            if not punch:
                self._unreached.append(address)
            raise
        finally:
            if punch:
                self._punching.discard(address)
            else:
                self._half_open -= 1
                self._dialling.pop(address, None)

    def _on_closed(self, address: Address, ended: Ended | None) -> None:
        """An attempt or a connection is over, unless another one to the same address lives."""
        if address in self.connected:
            pass
        elif ended is None:
            self.book.on_left(address)
        else:
            now = trio.current_time()
            self.book.on_closed(address, now, ended.reason, useful=ended.useful)
        self._wakeup.set()

    async def _welcome(self, stream: PeerStream, connection: Connection, theirs: Handshake) -> None:
        """Answer an incoming handshake and talk."""
        address = stream.remote[:2]
        ended: Ended | None = None
        try:
            await stream.send_all(connection.send(self._reply_to(theirs)))
            ended = await self._converse(stream, connection, theirs, address, outgoing=False)
        except (RemoteProtocolError, TransportError) as error:
            ended = Ended(str(error), False)
        except Exception as error:  # as in `_dial`
            ended = Ended(f"failed: {error!r}", False)
            log.exception("%s: a bug while talking to %s:%d", self.hashes, *address)
        finally:
            stream.abort()
            log.debug("%s: incoming %s:%d: %s", self.hashes, *address, _reason(ended))
            self._on_closed(address, ended)

    async def _go_on(self, met: Met) -> None:
        """Talk to a peer that was met."""
        stream, connection, outgoing = met
        ended, address, theirs = Ended("", False), stream.remote[:2], connection.theirs
        assert theirs is not None
        try:
            _remember(self._met, address, theirs.peer_id)
            ended = await self._converse(stream, connection, theirs, address, outgoing=outgoing)
        except (RemoteProtocolError, TransportError) as error:
            ended = Ended(str(error), False)
        except Exception as error:  # as in `_dial`
            ended = Ended(f"failed: {error!r}", False)
            log.exception("%s: a bug while talking over WebRTC", self.hashes)
        finally:
            if all(one.stream is not stream for one in self.kept):
                stream.abort()
            self._on_parted(ended.reason)
            self._wakeup.set()

    def _on_parted(self, reason: str) -> None:
        if reason:  # else we have left
            self.last_failure = f"over WebRTC: {reason}"
        log.debug("%s: peer over WebRTC: %s", self.hashes, reason)

    async def _converse(
        self,
        stream: PeerStream,
        connection: Connection,
        theirs: Handshake,
        address: Address,
        *,
        outgoing: bool,
    ) -> Ended:
        """Talk, unless it is ourselves, somebody we talk to already, or there is no place."""
        if theirs.peer_id == self.peer_id:
            if outgoing:
                self.book.on_ourselves(address)
            raise RemoteProtocolError("connected to ourselves")
        if self.book.is_banned(stream.remote[:2]):  # dialled by a name
            raise TransportError("is not wanted")
        rival, _ = self._by_peer_id.get(theirs.peer_id, (None, False))
        if rival is not None and not self._prevails(stream, theirs.peer_id, outgoing=outgoing):
            raise TransportError("already connected")
        if self.connected.get(address, rival) is not rival:
            raise TransportError("somebody else is connected from there")
        if not self._has_place():
            raise TransportError("too many peers")
        if rival is not None:
            rival.abort()
        self.connected[address] = stream
        self._by_peer_id[theirs.peer_id] = stream, outgoing
        self._places.taken += 1
        self.book.on_connected(address, trio.current_time())
        try:
            assert self.talk is not None
            return await self.talk(stream, connection, address, outgoing=outgoing)
        finally:
            self._places.taken -= 1
            if self.connected.get(address) is stream:
                del self.connected[address]
            if self._by_peer_id.get(theirs.peer_id, (None, False))[0] is stream:
                del self._by_peer_id[theirs.peer_id]

    def _prevails(self, stream: PeerStream, peer_id: bytes, *, outgoing: bool) -> bool:
        """Whether a new connection replaces the one that there is to the same peer.

        When both sides dial at the same time, both keep the one that the greater id has made. But
        of two uTP connections others do as libtorrent, and keep that from the lower port.
        """
        known = self._by_peer_id.get(peer_id)
        if known is None:  # somebody else at that address
            return False
        rival, was_outgoing = known
        if outgoing == was_outgoing:
            return False
        ours = self.peer_id > peer_id
        ports = self.dialler.utp_port, stream.remote[1]
        if stream.kind == rival.kind == "utp" and not peer_id.startswith(PREFIX[:3]) and ports[0]:
            ours = ports[0] < ports[1] if ports[0] != ports[1] else ours
        return outgoing == ours

    def _reply_to(self, theirs: Handshake) -> Handshake:
        """Our answer to a peer that said hello first."""
        if theirs.v2 and self.hashes.v2 is not None:
            return self.our_handshake(self.hashes.v2[:20])  # so is it upgraded (BEP 52)
        return self.our_handshake(theirs.info_hash)

    def our_handshake(self, info_hash: bytes | None = None) -> Handshake:
        """Our side of the BEP 3 handshake, with the features we speak."""
        return Handshake(
            info_hash=info_hash or self.hashes.wire[0],
            peer_id=self.peer_id,
            fast=True,
            extensions=True,
            dht=self.dht is not None,
            v2=self.hashes.v2 is not None,
        )

    def __repr__(self) -> str:
        return f"<Swarm {self.hashes.key[:8]} {len(self.connected)} connected>"


def _reason(ended: Ended | None) -> str:
    return "we have left" if ended is None else ended.reason


def _remember(table: dict[Key, Value], key: Key, value: Value) -> None:
    """Note it as the newest; of too many the oldest is forgotten."""
    table.pop(key, None)
    table[key] = value
    if len(table) > MAX_REMEMBERED:
        del table[next(iter(table))]
