"""Where torrents are shown, and that it stays so: places, names and dates.

**Dates.** A torrent's is that of its first coming, for good. Those of folders never go back,
whatever the clock does (`moment`), and move when their entries come or go, also between two mounts.

**Names.** What a torrent is called in its folder is remembered, so that no other torrent that comes
or goes before the next start can take its name.

**Order.** A place is written down before it is shown, and crossed out before it is hidden: a
process that dies in between shows the next time what it would have shown.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torrentfs.daemon.items import Change
from torrentfs.metainfo.magnet import file_numbers
from torrentfs.storage.records import Record
from torrentfs.vfs.tree import Placement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torrentfs.daemon.items import Item, Listeners
    from torrentfs.engine.dormant import Dormant
    from torrentfs.storage.records import Records

FOLDER_TIMES = "folder times"

HIDDEN = "the mount shows none of its files (--select, --exclude, --min-size)"
"""The trouble of a torrent of which the view leaves nothing."""


class Mount(Protocol):
    """What the library needs of the mount (vfs.mount)."""

    tree: Any

    async def add(
        self,
        volume: Any,
        select: Iterable[int] = (),
        folder: tuple[str, ...] = (),
        name: str | None = None,
        *,
        now: float | None = None,
    ) -> tuple[str, ...]: ...
    async def remove(self, key: str, now: float | None = None) -> tuple[str, ...]: ...
    async def replace(
        self, key: str, placement: Placement, *, now: float | None = None
    ) -> tuple[tuple[str, ...], tuple[str, ...]]: ...
    async def wait_closed(self, volume: Any) -> None: ...
    def expel(self, volume: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Shown:
    """A torrent that the mount begins with, and its place there."""

    volume: Any
    select: tuple[int, ...]
    folder: tuple[str, ...]
    name: str | None
    """What it was called there; None for one that was never there."""


class Places:
    """The places of `items` in the mount, and in the records."""

    def __init__(
        self,
        items: Mapping[str, Item],
        records: Records,
        listeners: Listeners,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.mount: Mount | None = None
        self._items = items
        self._records = records
        self._listeners = listeners
        self._clock = clock
        self._placed: dict[str, tuple[str, ...]] = {}  # key -> the folder it is shown in
        self._shown: dict[str, tuple[str, ...]] = {}  # the same, for a mount that begins
        self._before = {  # and when the last mount ended
            key: record.folder for key, record in records.records.items() if record.listed
        }
        self._times = {tuple(path): value for path, value in records.facts.get(FOLDER_TIMES, ())}
        """Of every folder, the root `()` too: when an entry of it last came or went."""
        dates = [record.added for record in records.records.values()]
        self.latest = max([0.0, *self._times.values(), *dates])
        """The last moment that something carries as its date."""

    def is_shown(self, item: Item) -> bool:
        """Whether the mount has it now."""
        return item.key in self._placed

    def moment(self) -> float:
        """Now, in Unix seconds and whole milliseconds, but later than any moment before.

        A clock that was set back goes on by seconds, the smallest step that every media server
        notices in the date of a directory.
        """
        now = int(self._clock() * 1000) / 1000
        if now <= self.latest:
            now = round(self.latest + (0.001 if self.latest - now < 1 else 1.0), 3)
        self.latest = now
        return now

    def write_down(self, item: Item) -> None:
        """Note all that is to outlive the process; `Records.save` makes it last."""
        if item.metainfo is None and item.hints is None:
            return  # a file that is no torrent
        hints = item.hints.to_uri() if item.hints is not None else ""
        record = Record(
            key=item.key,
            added=item.added,
            kept=item.kept,
            source=item.source,
            hints=hints,
            name=item.name,
            folder=item.folder,
            entry=self.entry(item),
            listed=item.volume is not None,
            paused=item.paused,
            pins=item.pins,
            watched=tuple(sorted(item.watched.items())),
            told=item.metainfo.advice.fingerprint if item.metainfo is not None else "",
            said=tuple(sorted((p, told) for p, told in item.said.items() if p in item.watched)),
        )
        torrent = None
        # what cannot be shown is not kept: one that lacks its layers would come back as it was
        if item.metainfo is not None and record.listed and not self._has_torrent(record):
            torrent = item.metainfo.to_torrent
        self._records.put(record, torrent)

    def _has_torrent(self, record: Record) -> bool:
        """Whether the .torrent file that is kept names whom to ask, as that of `record` does."""
        before = self._records.records.get(record.key)
        if before is None or not self._records.has_torrent(record.key):
            return False
        return not record.told or before.told == record.told

    def entry(self, item: Item) -> str:
        """The name it has in its folder, or had when it was last there."""
        if self.mount is not None and item.key in self._placed:
            name: str = self.mount.tree.name_of_key(item.key)
            return name
        record = self._records.records.get(item.key)
        return record.entry if record is not None else ""

    def is_misplaced(self, item: Item) -> bool:
        """Whether the mount does not show it, or elsewhere."""
        if self.mount is None or item.metainfo is None:
            return False
        return self._placed.get(item.key) != item.folder

    async def show(self, moving: list[Item], now: float) -> set[Item]:
        """Show, move and hide these, once that is written down; whose place another took."""
        mount = self.mount
        if mount is None:
            await self._records.save()
            return set()
        moving = [item for item in moving if item.volume is not None]
        for item in moving:  # what will be so, should we die before we can say that it is
            for folder in (self._placed.get(item.key), item.folder):
                if folder is not None:
                    self._times[folder] = now
        self._write_times()
        await self._records.save()
        replaced = set()
        for item in sorted(moving, key=lambda item: item.instead_of is None):
            old, item.instead_of = item.instead_of, None
            if old is not None and self._may_replace(old, item):
                await self._replace(mount, old, item, now)
                replaced.add(old)
            else:
                await self._place(mount, item, now)
        self._times = dict(mount.tree.folder_times)
        self._write_times()
        await self._records.save()
        return replaced

    def _may_replace(self, old: Item, item: Item) -> bool:
        """Whether `item` can be shown where `old` is, in one step."""
        return (
            not old.is_claimed
            and item.is_claimed
            and item.key not in self._placed
            and self._placed.get(old.key) == item.folder
        )

    async def _replace(self, mount: Mount, old: Item, item: Item, now: float) -> None:
        assert item.volume is not None
        name = self.entry(item) or None
        place = Placement(item.volume, _numbers(item.volume), item.folder, name)
        was_seen = not mount.tree.is_empty(old.key)
        gone, _ = await mount.replace(old.key, place, now=now)
        del self._placed[old.key]
        old.path = None
        self._placed[item.key] = item.folder
        self._note_path(mount, item)
        self.write_down(item)
        self._listeners.tell_of("removed", old, gone if was_seen else None)
        self._listeners.tell_of("added" if item.path is not None else "changed", item)

    def _write_times(self) -> None:
        times = sorted([list(folder), value] for folder, value in self._times.items())
        self._records.set_fact(FOLDER_TIMES, times)

    async def _place(self, mount: Mount, item: Item, now: float) -> None:
        """Show, move or hide one item."""
        entry = self.entry(item) or None
        if item.key in self._placed:
            was_seen = not mount.tree.is_empty(item.key)
            path = await mount.remove(item.key, now)
            del self._placed[item.key]
            item.path = None
            self._listeners.tell_of("removed", item, path if was_seen else None)
        volume = item.volume
        if volume is None or not item.is_claimed:
            return
        try:
            await mount.add(volume, _numbers(volume), item.folder, entry, now=now)
        except ValueError as error:  # a folder that is too deep
            item.trouble = str(error)
            return
        self._placed[item.key] = item.folder
        self._note_path(mount, item)
        self.write_down(item)
        self._listeners.tell_of("added" if item.path is not None else "changed", item)

    @staticmethod
    def _note_path(mount: Mount, item: Item) -> None:
        """Where it is to be seen now, if anywhere."""
        if mount.tree.is_empty(item.key):
            item.trouble = HIDDEN
        else:
            item.path = mount.tree.path_of_key(item.key)

    def shown(self) -> list[Shown]:
        """What the mount begins with; from then on `on_mounted` must come."""
        self._shown = {
            key: item.folder for key, item in self._items.items() if item.volume is not None
        }
        return [
            Shown(item.volume, _numbers(item.volume), item.folder, self.entry(item) or None)
            for item in self._items.values()
            if item.volume is not None
        ]

    def folder_times(self) -> dict[tuple[str, ...], float]:
        """The dates of folders that the mount begins with; after `shown`.

        They are those of the last mount, but where the command line names other torrents now.
        """
        before, here = self._before, self._shown
        moved = set(before.items()) ^ set(here.items())
        changed = {folder for _, folder in moved}
        folders = _with_parents(before.values()) ^ _with_parents(here.values())
        changed |= {folder[:-1] for folder in folders if folder}
        if before and changed:
            self._times |= dict.fromkeys(changed, self.moment())
        for key in before.keys() - here.keys():
            record = self._records.records[key]
            self._records.put(dataclasses.replace(record, listed=False))
        self._write_times()
        return self._times

    def on_mounted(self, mount: Mount) -> None:
        """The mount shows what `shown` said."""
        self.mount = mount
        for key, folder in self._shown.items():
            self._placed[key] = folder
            if key in self._items:
                self._note_path(mount, self._items[key])
        self._tell_of_the_meantime()

    def _tell_of_the_meantime(self) -> None:
        """What came to the mount and went from it between the last one and this one."""
        for key, folder in self._before.items():
            if self._shown.get(key) != folder:
                record = self._records.records[key]
                path = (*folder, record.entry or record.name)
                self._listeners.tell(Change("removed", key, record.name, path))
        for key, folder in self._shown.items():
            item = self._items.get(key)
            if item is not None and item.path is not None and self._before.get(key) != folder:
                self._listeners.tell_of("added", item)


def _numbers(volume: Dormant) -> tuple[int, ...]:
    return tuple(file_numbers(volume.select, len(volume.metainfo.files)))


def _with_parents(folders: Iterable[tuple[str, ...]]) -> set[tuple[str, ...]]:
    return {folder[:depth] for folder in folders for depth in range(len(folder) + 1)}
