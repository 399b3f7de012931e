"""Following publishers: a publication shows the torrent that its publisher named last (BEP 46).

**Asking.** Each publication has a task that asks the DHT at the start and then every `interval`;
after a failure in 1, 5, 15 and 60 minutes. What it says is believed if it is signed and its
sequence number is above all before: nobody can play back what was. At each look the newest item
is put again at the nodes that keep it, who forget it after two hours, so that a publication
outlives its publisher's line. Nobody asks for what is paused, or where the DHT is off.

**A new edition** is an item of the library at once, whose metadata is looked for like that of any
magnet, while the old one stays. Once its metadata is known it takes the place of the old one in a
single step (`places`), so a folder never is without, and of the same name it has the same path;
pins move with the paths that both have. Who reads the old one reads on (`retiring`).

**Nothing is lost.** A publisher who says nothing that names a torrent, who cannot be found, a DHT
that is off: each is told as the publication's trouble, and what was known last stays, over restarts
too. Only who was never heard of has nothing to show.
"""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING, Protocol

import trio

from torrentfs.daemon.claims import MAX_ITEMS, is_readable
from torrentfs.daemon.following import magnet_in
from torrentfs.daemon.items import Item, LibraryError
from torrentfs.daemon.publications import FACT, Publication, id_of, parse_fact
from torrentfs.daemon.searching import PAUSES
from torrentfs.daemon.sources import shorten
from torrentfs.engine.errands import pins_of, range_of
from torrentfs.errors import ConfigError
from torrentfs.metainfo.hashes import InfoHashes
from torrentfs.metainfo.intervals import joined
from torrentfs.metainfo.magnet import parse_magnet
from torrentfs.storage.records import Pin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torrentfs.daemon.following import Publications
    from torrentfs.daemon.items import Origin, WatchedFile
    from torrentfs.daemon.library import Library
    from torrentfs.daemon.sources import PublisherSource
    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.wire.krpc import Item as Said

log = logging.getLogger(__name__)

INTERVAL = 3600.0
"""Seconds between two looks: half of what an item lives in the DHT (BEP 44)."""
SPREAD = 0.1
"""Part of a pause by which it may be longer or shorter, so that not all ask at once."""
ASK_SECONDS = 60.0
"""Longest that one look takes."""
AT_ONCE = 4
"""Publishers asked for at a time."""


class Session(Protocol):
    """What is needed of a session."""

    @property
    def dht(self) -> Publications | None: ...


class Editions:
    """The publications of a library, by their ids."""

    def __init__(
        self,
        library: Library,
        session: Session,
        nursery: trio.Nursery,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.interval = INTERVAL
        self.all: dict[str, Publication] = {}
        self._library = library
        self._session = session
        self._nursery = nursery
        self._clock = clock
        self._chance = chance
        self._files: dict[str, Publication] = {}  # by the path of a file in a watch directory
        self._tasks: dict[str, trio.CancelScope] = {}
        self._asking = trio.Semaphore(AT_ONCE)
        self._begun = False

    # --- claims ---

    def enter(self, source: PublisherSource) -> Publication:
        """The publication of a link, as it was the last time; not yet claimed."""
        name = id_of(source.publisher)
        publication = self.all.get(name)
        if publication is None:
            try:
                publication, _, _ = parse_fact(self._library.records.facts.get(FACT + name))
            except ValueError:
                publication = Publication(source.text, source.publisher)
            publication.link = source.text
            self.all[name] = publication
        return publication

    async def add(
        self, source: PublisherSource, *, folder: tuple[str, ...], origin: Origin, paused: bool
    ) -> Item:
        """Claim a publication and show its torrent, if that is known; it is looked for else.

        `ConfigError` where the DHT is off and nothing is known of it; `LibraryError`.
        """
        publication = self.enter(source)
        before = publication.kept, publication.given
        if publication.item is None and self.is_off and await self.known(publication) is None:
            self._forget_unclaimed(publication)
            raise ConfigError(
                f"{shorten(source.text)}: a publisher is found in the DHT only: leave out "
                f"{self.is_off}"
            )
        if origin == "added":
            publication.kept = True
        else:
            publication.given = True
        try:
            touched = await self.show(publication, folder)
        except LibraryError:
            publication.kept, publication.given = before
            self._forget_unclaimed(publication)
            raise
        item = publication.item
        assert item is not None
        item.paused |= paused
        await self._library.settle([*touched, item])
        self._begin(publication)
        return publication.item or item

    def _forget_unclaimed(self, publication: Publication) -> None:
        if not publication.is_claimed and publication.item is None:
            self.all.pop(publication.id, None)

    def end(self, publication: Publication) -> list[Item]:
        """Nothing claims it any more: forget it; the items that are to be settled."""
        publication.kept = publication.given = False
        for path in publication.watched:
            self._files.pop(path, None)
        publication.watched.clear()
        self.all.pop(publication.id, None)
        scope = self._tasks.pop(publication.id, None)
        if scope is not None:
            scope.cancel()
        self._library.records.set_fact(FACT + publication.id, None)
        touched = []
        for item in (publication.item, publication.coming):
            if item is not None:
                item.published.remove(publication)
                touched.append(item)
        publication.item = publication.coming = None
        return touched

    def end_all(self, item: Item) -> list[Item]:
        """`end` for all that an item is an edition of."""
        return [touched for one in list(item.published) for touched in self.end(one)]

    # --- watch directories ---

    async def claim_files(self, found: Iterable[WatchedFile]) -> list[Item]:
        """Enter what files of watch directories name, not yet settled."""
        touched: list[Item] = []
        claims = self._library.claims
        for file in found:
            if file.publisher is not None:
                touched += await self._claim_file(file, file.publisher)
                touched += claims.unclaim_file(file.path)
            elif file.trouble and file.path in self._files:
                publication = self._files[file.path]
                self._tell(publication, f"{file.trouble}; what it was before is kept")
            else:
                touched += claims.claim_files([await self._library.informed(file)])
                touched += self.unclaim_file(file.path)
        return touched

    async def _claim_file(self, file: WatchedFile, source: PublisherSource) -> list[Item]:
        publication = self.enter(source)
        publication.watched[file.path] = file.folder
        before = self._files.get(file.path)
        self._files[file.path] = publication
        folder = () if publication.kept else file.folder
        try:
            touched = await self.show(publication, folder)
        except LibraryError as error:
            log.warning("%s: %s", shorten(file.path), error)
            return self.unclaim_file(file.path)
        if before is not None and before is not publication:
            touched += self._unclaim(before, file.path)
        if self._begun:
            self._begin(publication)
        return touched

    def hold_file(self, publication: Publication, path: str, folder: tuple[str, ...]) -> None:
        """Let it stand for a file that cannot be looked at, but was there."""
        publication.watched[path] = folder
        self._files[path] = publication

    def unclaim_file(self, path: str) -> list[Item]:
        """A file is gone, or names something else; the items that are to be settled."""
        publication = self._files.pop(path, None)
        return self._unclaim(publication, path) if publication is not None else []

    def _unclaim(self, publication: Publication, path: str) -> list[Item]:
        publication.watched.pop(path, None)
        if not publication.is_claimed:
            return self.end(publication)
        if not publication.kept and publication.watched:
            self._put_in(publication, publication.watched[min(publication.watched)])
        self._write(publication)
        return [publication.item] if publication.item is not None else []

    # --- what is shown ---

    async def known(self, publication: Publication) -> Metainfo | None:
        """The metadata of the torrent of last time, if it can be had at once."""
        hashes = _hashes(publication.key)
        return await self._library.known(hashes) if hashes is not None else None

    async def show(self, publication: Publication, folder: tuple[str, ...] = ()) -> list[Item]:
        """Have an item for it: its torrent of last time, or a placeholder; what is to be settled.

        In `folder`, if one is named. `LibraryError` when the library is full.
        """
        hashes = _hashes(publication.key)
        if publication.item is None and hashes is not None:
            metainfo = await self._library.known(hashes)
            if publication.item is None:  # nobody else has done it meanwhile
                magnet = parse_magnet(publication.link, hashes)
                item = self._library.claims.enter(metainfo, magnet, publication.link)
                self.attach(publication, item)
        if publication.item is None:
            self.attach(publication, self._placeholder(publication))
        touched = [publication.item] if publication.item is not None else []
        touched += await self._turn(publication)
        if folder:
            self._put_in(publication, folder)
        if self.is_off:
            nothing = publication.item is None or publication.item.is_placeholder
            what = "a publisher is found in the DHT only" if nothing else "nothing newer is found"
            publication.trouble = f"{what}: leave out {self.is_off}"
        self._write(publication)
        return touched

    def attach(self, publication: Publication, item: Item) -> None:
        """Let `item` be the torrent that a publication shows."""
        self._claim(publication, item)
        publication.item = item

    def _claim(self, publication: Publication, item: Item) -> None:
        if not item.is_claimed:
            item.folder = publication.folder
            record = self._library.records.records.get(item.key)
            item.paused |= record is not None and record.paused
        item.published.append(publication)
        item.is_replaced = False

    def _placeholder(self, publication: Publication) -> Item:
        claims = self._library.claims
        if len(claims.items) >= MAX_ITEMS:
            raise LibraryError(f"the library is full: {MAX_ITEMS} torrents are the most")
        name = parse_magnet(publication.link, InfoHashes(v1=bytes(20))).name
        item = Item(publication.id, name or publication.id, publication.link, added=0.0)
        item.is_placeholder = True
        claims.items[item.key] = item
        return item

    def _put_in(self, publication: Publication, folder: tuple[str, ...]) -> None:
        publication.folder = folder
        for item in (publication.item, publication.coming):
            if item is not None and not (item.kept or item.given or item.watched):
                item.folder = folder

    async def _turn(self, publication: Publication) -> list[Item]:
        """Turn to the torrent of the newest item, unless it is here; what is to be settled."""
        library, said = self._library, publication.said
        if said is None:
            return []
        magnet = magnet_in(publication.link, said)
        if magnet is None:
            publication.trouble = "what its publisher says last names no torrent"
            return []
        metainfo = await library.known(magnet.hashes)
        if publication.item is None or publication.said is not said:
            return []  # it went meanwhile, or is a newer one
        touched = self._drop_coming(publication, but=magnet.hashes)
        if publication.coming is not None or _is(publication.item, magnet.hashes):
            return touched
        item = library.claims.enter(metainfo, magnet, publication.link)
        self._claim(publication, item)
        publication.coming = item
        item.paused |= publication.item.paused
        if publication.item.is_placeholder:
            touched += self._switch(publication)
        elif item.metainfo is not None:
            touched += self.on_metadata(item)
        return [*touched, item]

    def _drop_coming(self, publication: Publication, but: InfoHashes) -> list[Item]:
        """Nobody waits any more for an edition that is not the newest."""
        item = publication.coming
        if item is None or _is(item, but):
            return []
        item.published.remove(publication)
        publication.coming = None
        return [item]

    def on_metadata(self, item: Item) -> list[Item]:
        """The metadata of `item` is known, and it is to be settled; what else is."""
        touched: list[Item] = []
        for publication in item.published:
            if publication.coming is item and is_readable(item.metainfo):
                touched += self._switch(publication)
            self._write(publication)  # it may have another key by now
        return touched

    def _switch(self, publication: Publication) -> list[Item]:
        """Let the new edition take the place of the old one, which is to be settled with it."""
        old, new = publication.item, publication.coming
        assert old is not None
        assert new is not None
        publication.item, publication.coming = new, None
        old.published.remove(publication)
        if not old.is_placeholder:
            log.info("%s: a newer torrent takes its place", shorten(old.name))
            new.instead_of = old
            # a mount that begins has yet to tell what went since the last one
            old.is_replaced = not old.is_claimed and self._library.places.mount is not None
            if new.volume is None:
                new.pins = tuple(dict.fromkeys([*new.pins, *moved_pins(old, new)]))
        self._write(publication)
        return [old]

    def _write(self, publication: Publication) -> None:
        self._library.records.set_fact(FACT + publication.id, publication.to_fact())

    # --- asking ---

    @property
    def is_off(self) -> str:
        """The option that keeps us from asking; empty when we can."""
        return self._library.dht_off or ("" if self._session.dht is not None else "--no-dht")

    def begin(self) -> None:
        """Ask from now on."""
        self._begun = True
        for publication in list(self.all.values()):
            self._begin(publication)

    def look_now(self, item: Item) -> None:
        """Ask for newer ones of an item now, and not when their next turn comes."""
        for publication in item.published:
            publication.wanted.set()

    def _begin(self, publication: Publication) -> None:
        """Ask now, and from now on."""
        publication.wanted.set()
        if publication.id in self._tasks or not publication.is_claimed or self.is_off:
            return
        scope = self._tasks[publication.id] = trio.CancelScope()
        self._nursery.start_soon(self._follow, publication, scope)

    async def _follow(self, publication: Publication, scope: trio.CancelScope) -> None:
        failures = 0
        with scope:
            while True:
                publication.wanted = trio.Event()
                pause = self.interval
                if publication.item is not None and not publication.item.paused:
                    if await self._look(publication):
                        failures = 0
                    else:
                        pause = min(pause, PAUSES[min(failures, len(PAUSES) - 1)])
                        failures += 1
                pause *= 1 + SPREAD * (2 * self._chance() - 1)
                with trio.move_on_after(pause):
                    await publication.wanted.wait()

    async def _look(self, publication: Publication) -> bool:
        """Ask once, and do what follows; whether there was an answer."""
        publisher = publication.publisher
        try:
            async with self._asking:
                node = self._session.dht
                assert node is not None
                with trio.fail_after(ASK_SECONDS):
                    said = await node.newest_item(publisher.key, publisher.salt, publication.said)
            publication.asked = self._clock()
            self._tell(publication, "")
            await self._hear(publication, said)
        except trio.TooSlowError:
            what = "was not found in the DHT" if publication.said is None else "cannot be asked for"
            self._tell(publication, f"its publisher {what}: nobody answered in {ASK_SECONDS:g} s")
            return False
        except LibraryError as error:
            self._tell(publication, str(error))
            return False
        except Exception:  # whatever one publisher does, the mount of the others goes on
            log.exception("asking for the publisher of %s failed", shorten(publication.link))
            self._tell(publication, "asking for its publisher failed: see the log")
            return False
        return True

    async def _hear(self, publication: Publication, said: Said) -> None:
        known = publication.sequence
        if known is None or (said.sequence or 0) > known:
            log.info("%s: edition %d", shorten(publication.link), said.sequence or 0)
            publication.said = said
        touched = await self._turn(publication)
        if publication.item is not None:  # nobody has removed it meanwhile
            self._write(publication)
            await self._library.settle(touched)
            self._library.listeners.tell_of("changed", publication.item)

    def _tell(self, publication: Publication, trouble: str) -> None:
        if publication.trouble != trouble:
            publication.trouble = trouble
            if publication.item is not None:
                self._library.listeners.tell_of("changed", publication.item)


def moved_pins(old: Item, new: Item) -> list[Pin]:
    """The pins of `old` on paths that `new` has too, no longer than what is there."""
    if not old.pins or old.metainfo is None or new.metainfo is None:
        return []
    there = {file.path: number for number, file in enumerate(new.metainfo.files)}
    moved: list[Pin] = []
    of_runs: list[Pin] = []
    for pin in old.pins:
        if pin == Pin():
            moved.append(pin)
            continue
        found = moved if pin.file is not None else of_runs
        for part in _by_file(pin, old.metainfo):
            assert part.file is not None
            file = there.get(old.metainfo.files[part.file].path)
            if file is None:
                continue
            size = new.metainfo.files[file].length
            if part.offset < size or not part.offset:
                length = None if part.length is None else min(part.length, size - part.offset)
                found.append(Pin(file, part.offset, length))
    geometry = new.metainfo.geometry
    return [*moved, *pins_of(geometry, joined(range_of(geometry, pin) for pin in of_runs))]


def _by_file(pin: Pin, metainfo: Metainfo) -> Iterator[Pin]:
    """A pin, file by file where it is bytes of the whole torrent (many files, see `errands`)."""
    if pin.file is not None:
        yield pin
        return
    span = range_of(metainfo.geometry, pin)
    for part in metainfo.geometry.files_in(span.start, len(span)):
        file = metainfo.files[part.file]
        if not file.pad:
            is_rest = part.offset + part.length == file.length
            yield Pin(part.file, part.offset, None if is_rest else part.length)


def _hashes(key: str) -> InfoHashes | None:
    """The inverse of `InfoHashes.key`; None for what is none."""
    try:
        digest = bytes.fromhex(key)
    except ValueError:
        return None
    if len(digest) == 32:
        return InfoHashes(v2=digest)
    return InfoHashes(v1=digest) if len(digest) == 20 else None


def _is(item: Item, hashes: InfoHashes) -> bool:
    """Whether an item is the torrent of `hashes`."""
    if item.metainfo is None:
        return item.key == hashes.key
    return set(hashes.wire) <= set(item.metainfo.hashes.wire)
