"""What a mount begins with: everything that is known is there before the mount appears.

Three places say what that is: the library's records (what was added to stay), the watch directories
and the command line. The first two are never waited for, and a watch directory that cannot be read
stands for what it had the last time. Sources of the command line are the command's promise: the
mount appears when the metadata of all of them is known, or not at all; what records or cache know
of them is not asked for again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from torrentfs.daemon.claims import is_readable
from torrentfs.daemon.config import Beside
from torrentfs.daemon.following import dht_is_off, magnet_in, newest
from torrentfs.daemon.library import EAGER, LibraryError
from torrentfs.daemon.opening import find
from torrentfs.daemon.publications import recorded
from torrentfs.daemon.sources import MagnetSource, PublisherSource, UrlSource, shorten
from torrentfs.errors import ConfigError, InvalidTorrent
from torrentfs.metainfo.magnet import Magnet, parse_magnet
from torrentfs.metainfo.torrent_file import parse_torrent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torrentfs.daemon.config import MountConfig
    from torrentfs.daemon.items import Item, WatchedFile
    from torrentfs.daemon.library import Library
    from torrentfs.daemon.opening import Session
    from torrentfs.daemon.sources import Source
    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.storage.records import Record

log = logging.getLogger(__name__)


async def gather(
    library: Library,
    session: Session,
    config: MountConfig,
    on_progress: Callable[[str], None],
    watched: Sequence[WatchedFile] = (),
    held: Iterable[str] = (),
) -> None:
    """Fill `library`; raises one declared error when it cannot be what was asked for.

    `watched` are the files of the watch directories, `held` the paths of those that cannot be
    looked at but were there.
    """
    library.private = config.session.private
    library.dht_off = dht_is_off(config.session)
    library.editions.interval = config.follow_interval
    library.beside = Beside(config.trackers, config.web_seeds, config.peers)
    library.view = config.view
    damage = library.records.damage
    if damage:
        log.warning("%s", damage)
    items = await _recall(library, set(held))
    items += await library.editions.claim_files(watched)
    items += await _take_sources(library, session, config, on_progress)
    _check(library, config, damage)
    await library.settle(items)
    _check_given(library)


def _check(library: Library, config: MountConfig, damage: str) -> None:
    """Refuse to mount nothing: an empty mount makes media servers forget all that was there."""
    if library.items:
        return
    if damage:
        raise LibraryError(
            f"{damage}; an empty mount would make media servers forget everything, so nothing is "
            "mounted: name what to mount, or put that file back"
        )
    if not config.watch:
        raise ConfigError(
            "nothing to mount: name a .torrent file, magnet link or URL before the mount point, "
            "or a directory of them with --watch"
        )


def _check_given(library: Library) -> None:
    """A source of the command line that is no torrent after all ends the command."""
    given = [item for item in library.items.values() if item.given]
    given += [one.item for one in library.editions.all.values() if one.given and one.item]
    for item in given:
        if item.volume is None:
            raise InvalidTorrent(f"{shorten(item.source)}: {item.trouble}")


async def _recall(library: Library, held: set[str]) -> list[Item]:
    """Enter what was added to stay, and what files that cannot be looked at stand for."""
    wanted: list[Record] = []
    for record in library.records.records.values():
        if record.kept or any(path in held for path, _ in record.watched):
            wanted.append(record)
    known = await library.records.torrents([record.key for record in wanted])
    parsed = await trio.to_thread.run_sync(_parse_all, known) if known else {}
    items = []
    for record in sorted(wanted, key=lambda r: (r.added, r.key)):
        metainfo = parsed.get(record.key)
        magnet = _magnet_of(record, metainfo)
        if magnet is None:
            log.warning("the record of %s names no torrent: left out", shorten(record.name))
            continue
        if not is_readable(metainfo):
            metainfo = await library.known(magnet.hashes)
        item = library.claims.enter(metainfo, magnet, record.source)
        item.kept |= record.kept
        for path, folder in record.watched:
            if path in held:
                library.claims.hold_file(item, path, folder)
        items.append(item)
    for one, is_kept, watched in list(recorded(library.records.facts)):
        files = {path: folder for path, folder in watched.items() if path in held}
        if is_kept or files:
            publication = library.editions.enter(PublisherSource(one.link, one.publisher))
            publication.kept |= is_kept
            for path, folder in files.items():
                library.editions.hold_file(publication, path, folder)
            items += await library.editions.show(publication)
    return items


def _parse_all(torrents: dict[str, bytes]) -> dict[str, Metainfo]:
    found = {}
    for key, data in torrents.items():
        try:
            metainfo = parse_torrent(data)
        except InvalidTorrent as error:
            log.warning("the recorded .torrent of %s is damaged: %s", key, error)
            continue
        if metainfo.hashes.key == key:
            found[key] = metainfo
    return found


def _magnet_of(record: Record, metainfo: Metainfo | None) -> Magnet | None:
    if record.hints:
        try:
            return parse_magnet(record.hints)
        except InvalidTorrent:
            pass
    return Magnet(metainfo.hashes) if metainfo is not None else None


async def _take_sources(
    library: Library,
    session: Session,
    config: MountConfig,
    on_progress: Callable[[str], None],
) -> list[Item]:
    """Enter the sources of the command line, in their order; they are found at the same time."""
    found: list[tuple[Metainfo, Magnet, bool] | None] = [None] * len(config.sources)

    async def look(index: int, source: Source) -> None:
        known = await _known(library, source)
        if known is not None:
            found[index] = known, _magnet(source, known), False
            return
        deadline = trio.current_time() + config.metadata_timeout
        if isinstance(source, PublisherSource):
            source = await _ask_publisher(library, session, source, config, on_progress)
        one = await find(
            session,
            source,
            library.beside,
            timeout=deadline - trio.current_time(),
            private=library.private,
            on_progress=on_progress,
        )
        named = one.magnet or Magnet(one.metainfo.hashes)
        found[index] = one.metainfo, named, one.magnet is None

    async with trio.open_nursery() as nursery:
        for index, source in enumerate(config.sources):
            nursery.start_soon(look, index, source)
    items: list[Item] = []
    for source, one in zip(config.sources, found, strict=True):
        assert one is not None
        metainfo, magnet, is_news = one
        item = library.claims.enter(metainfo, magnet, source.text, is_news=is_news)
        publication = None
        if isinstance(source, PublisherSource):
            publication = library.editions.enter(source)
            if publication.item is None:
                library.editions.attach(publication, item)
            items += await library.editions.show(publication)
        claimed = publication or item
        if claimed.given:
            log.info("%s is given twice: shown once", shorten(item.name))
        claimed.given = True
        items.append(item)
    if len(items) <= EAGER:
        library.eager |= {item.key for item in items}
    return items


def _magnet(source: Source, metainfo: Metainfo) -> Magnet:
    """What is told beside the metadata; what holds for the whole mount is joined to it later."""
    return source.magnet if isinstance(source, MagnetSource) else Magnet(metainfo.hashes)


async def _known(library: Library, source: Source) -> Metainfo | None:
    """The metadata of a source that need not be asked for."""
    if isinstance(source, MagnetSource):
        return await library.known(source.magnet.hashes)
    if isinstance(source, PublisherSource):
        return await library.editions.known(library.editions.enter(source))
    if isinstance(source, UrlSource):
        return await _earlier(library, source)
    return None


async def _ask_publisher(
    library: Library,
    session: Session,
    source: PublisherSource,
    config: MountConfig,
    on_progress: Callable[[str], None],
) -> MagnetSource:
    """The magnet of the torrent that he names; what he said is remembered."""
    on_progress(f"looking for the publisher of {shorten(source.text)}")
    off, timeout = library.dht_off, config.metadata_timeout
    said = await newest(session.dht, source, timeout=timeout, off=off)
    magnet = magnet_in(source.text, said)
    if magnet is None:
        name = shorten(source.text)
        raise InvalidTorrent(f"{name}: what its publisher says there names no torrent")
    library.editions.enter(source).said = said
    return MagnetSource(source.text, magnet)


async def _earlier(library: Library, source: UrlSource) -> Metainfo | None:
    """The torrent that this source was the last time it was mounted here."""
    for record in library.records.records.values():
        if record.source == source.text and library.records.has_torrent(record.key):
            parsed = _parse_all(await library.records.torrents([record.key]))
            return parsed.get(record.key)
    return None
