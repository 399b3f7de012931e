"""What a library remembers of its torrents, in one SQLite file per mount point.

Media servers know a film by its path and date. So what decides path and date must survive more
than data does: it is not in the cache, which anybody may delete, but in the state directory, and
each change waits for the disk before it is shown in the mount.

**In memory first.** `records` and `facts` are the truth while the process lives; `put` and
`set_fact` change them at once and note what the file lacks. `save` writes all that is noted, in
one transaction with one wait for the disk, so that changes which come together cost one. When the
file cannot be written (full, read-only, gone) a line of log says so, everything goes on, and what
is noted is tried again (`run`). The .torrent files are in the file alone, and in `put` until then.

**Alone.** One process has the file (an flock beside it, and SQLite's own exclusive mode, which
needs no shared memory that a full disk would refuse). A process that is ending may still hold it
for a moment: `open` waits that long.

**Damage.** A file that SQLite finds damaged is read as far as it goes, kept under another name,
and a new one made of what was read; `damage` says so, for the caller to tell and to decide whether
that is enough to mount. A row carries a digest, since SQLite does not notice a flipped bit; what
fails it counts as damage too. An empty file is damage as well: a new one is made elsewhere and then
renamed. A file of a newer version is an error (`Unusable`), never put aside.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from torrentfs.storage.catalog import TROUBLE, Unusable, move_aside
from torrentfs.storage.locks import FileLock
from torrentfs.storage.record_file import (
    NOTHING,
    Content,
    Pin,
    Record,
    check,
    connect,
    create,
    digest_of,
    put,
    read_all,
    salvage,
    transaction,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from pathlib import Path

__all__ = ["Pin", "Record", "Records", "open_records"]

log = logging.getLogger(__name__)

RETRY_SECONDS = 30.0
"""Between attempts to write what could not be written."""
LOCK_PATIENCE = 8.0
"""Seconds that another process may still hold the file: a clean shutdown takes 5 at most."""
_LOCK_EVERY = 0.05


class Records:
    """The open records of one mount point. Made by `open_records`."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.records: dict[str, Record] = {}
        self.facts: dict[str, Any] = {}
        self.damage = ""
        """What was wrong with the file that was found, in words; else empty."""
        self.trouble = ""
        """Why nothing can be written now, in words; else empty."""
        self._limiter = trio.CapacityLimiter(1)
        self._turn = trio.Lock()
        self._db: sqlite3.Connection | None = None
        self._writable = True
        self._lock: FileLock | None = None
        self._unsaved: set[str] = set()
        self._unsaved_facts: set[str] = set()
        self._stored: set[str] = set()  # keys of .torrent files in the file
        self._torrents: dict[
            str, Callable[[], bytes] | None
        ] = {}  # not in the file yet; None: to be dropped

    # --- changes ---

    def put(self, record: Record, torrent: Callable[[], bytes] | None = None) -> None:
        """Remember `record`, and the .torrent file that `torrent` makes if that is new.

        `save` makes it last. The file is made when it is written: a thousand of them, or one of
        16 MiB, are never in memory for long.
        """
        if self.records.get(record.key) != record:
            self.records[record.key] = record
            self._unsaved.add(record.key)
        if torrent is not None:
            self._torrents[record.key] = torrent

    def drop_torrent(self, key: str) -> None:
        """Forget a .torrent file; the record, with its date and name, stays."""
        self._torrents[key] = None

    def drop(self, key: str) -> None:
        """Forget all of it: for what never was a torrent of this mount."""
        self.records.pop(key, None)
        self._unsaved.add(key)
        self._torrents[key] = None

    def set_fact(self, name: str, value: Any) -> None:
        """Remember one more thing, anything that JSON holds; None forgets it."""
        if self.facts.get(name) == value:
            return
        if value is None:
            del self.facts[name]
        else:
            self.facts[name] = value
        self._unsaved_facts.add(name)

    @property
    def path(self) -> Path:
        """Where the file is."""
        assert self._path is not None
        return self._path

    async def save(self) -> None:
        """Wait until everything is on disk, or cannot be; at once when there is no file."""
        if self._path is None:
            self._unsaved.clear()
            self._unsaved_facts.clear()
            return
        async with self._turn:
            if self._unsaved or self._unsaved_facts or self._torrents:
                await self._save()

    async def _save(self) -> None:
        keys, names, torrents = self._unsaved, self._unsaved_facts, dict(self._torrents)
        self._unsaved, self._unsaved_facts = set(), set()
        records = {key: self.records.get(key) for key in keys}
        facts = {name: self.facts.get(name) for name in names}
        try:
            await self._in_thread(self._write, records, facts, torrents)
        except TROUBLE as error:
            self._unsaved |= keys
            self._unsaved_facts |= names
            self._on_trouble(error)
            return
        for key, torrent in torrents.items():
            if torrent is None:
                self._stored.discard(key)
            else:
                self._stored.add(key)
            if self._torrents.get(key, bytes) is torrent:  # not another one by now
                del self._torrents[key]
        if self.trouble:
            log.info("the library's records in %s can be written again", self.path.parent)
            self.trouble = ""

    def _on_trouble(self, error: Exception) -> None:
        words = _words(error)
        if words != self.trouble:
            log.warning(
                "the library cannot be written down in %s (%s): what changes now is lost at the "
                "end of this mount unless that is mended",
                self.path.parent,
                words,
            )
        self.trouble = words

    async def run(self) -> None:
        """Try again, now and then, to write what could not be written; until cancelled."""
        while True:
            await trio.sleep(RETRY_SECONDS)
            if self.trouble:
                await self.save()

    # --- questions ---

    def has_torrent(self, key: str) -> bool:
        """Whether the .torrent file of `key` is kept, or will be."""
        return self._torrents.get(key, bytes) is not None and (
            key in self._torrents or key in self._stored
        )

    async def torrents(self, keys: Iterable[str]) -> dict[str, bytes]:
        """The .torrent files that are kept, of these; intact ones only."""
        found = {key: self._torrents[key] for key in keys if key in self._torrents}
        rest = [key for key in keys if key not in found]
        made = {key: make() for key, make in found.items() if make is not None}
        if not rest or self._path is None:
            return made
        try:
            stored: dict[str, bytes] = await self._in_thread(self._read_torrents, rest)
        except TROUBLE as error:
            self._on_trouble(error)
            stored = {}
        return made | stored

    def _read_torrents(self, keys: list[str]) -> dict[str, bytes]:
        if self._db is None:
            return {}
        found = {}
        question = "SELECT torrent, digest FROM torrents WHERE key=?"
        for key in keys:
            row = self._db.execute(question, (key,)).fetchone()
            if row is not None and row[1] == digest_of(key, row[0]):
                found[key] = row[0]
            elif row is not None:
                log.warning("the recorded .torrent of %s is damaged", key)
        return found

    # --- the file ---

    async def open(self) -> None:
        """Read the file, or make one. `Unusable`: it is another process's, or a newer version's."""
        if self._path is None:
            return
        try:
            await self._take_lock()
            read = await self._in_thread(self._open)
        except TROUBLE as error:
            read = await self._read_at_least(error)
        self.records, self.facts = dict(read.records), dict(read.facts)
        self._stored = set(read.stored)
        if read.bad and not self.damage:
            self.damage = f"{read.bad} entries of {self.path} were damaged"

    @property
    def _lock_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.lock")

    async def _take_lock(self) -> None:
        await self._in_thread(_make_folder, self.path.parent)
        with trio.move_on_after(LOCK_PATIENCE):
            # the kernel has no event for the end of another process's lock
            while (lock := FileLock.take(self._lock_path)) is None:  # noqa: ASYNC110
                await trio.sleep(_LOCK_EVERY)
            self._lock = lock
            return
        raise Unusable(f"another torrentfs has the library {self.path} open")

    async def _read_at_least(self, error: Exception) -> Content:
        """The file cannot be written: what can be read of it all the same."""
        read = NOTHING
        try:
            if await self._in_thread(self.path.exists):
                self._db = await self._in_thread(connect, self.path, True)
                self._writable = False
                read = await self._in_thread(read_all, self._db)
        except TROUBLE as worse:
            self.damage = f"{self.path} cannot be read: {_words(worse)}"
        self._on_trouble(error)
        return read

    def _open(self) -> Content:
        if not self.path.exists():
            create(self.path, NOTHING, {})
        try:
            self._db = connect(self.path)
            check(self._db)
            return read_all(self._db)
        except sqlite3.DatabaseError as error:
            # OperationalError: locked, unreadable, full. That is no sign of damage
            if isinstance(error, sqlite3.OperationalError):
                raise
            return self._rescue(error)

    def _rescue(self, error: Exception) -> Content:
        """Put a damaged file aside and begin a new one with what could be read of it."""
        if self._db is not None:
            self._db.close()
            self._db = None
        read, torrents = salvage(self.path)
        aside = move_aside(self.path)
        self.damage = (
            f"{self.path} was damaged ({str(error).splitlines()[0]}): it is kept as {aside.name}, "
            f"and {len(read.records)} torrents could be read from it"
        )
        create(self.path, read, torrents)
        self._db = connect(self.path)
        return read

    def _write(
        self,
        records: dict[str, Record | None],
        facts: dict[str, Any],
        torrents: dict[str, Callable[[], bytes] | None],
    ) -> None:
        if self._db is None or not self._writable or not self.path.exists():
            # what failed at the start may work now, or somebody deleted the file below us
            self._reopen()
            records = dict(self.records)
            facts = dict(self.facts)
        assert self._db is not None
        with transaction(self._db):
            for key, record in records.items():
                put(self._db, "records", key, record.to_json() if record else None)
            for name, value in facts.items():
                put(self._db, "facts", name, None if value is None else json.dumps(value))
            for key, torrent in torrents.items():
                put(self._db, "torrents", key, torrent() if torrent is not None else None)

    def _reopen(self) -> None:
        _make_folder(self.path.parent)
        if self._lock is None:
            self._lock = FileLock.take(self._lock_path)
            if self._lock is None:
                raise OSError("another torrentfs has it open")
        kept: dict[str, bytes] = {}
        if self._db is not None:  # the deleted file is still open: its torrents can be read
            with contextlib.suppress(sqlite3.Error):
                kept = self._read_torrents(list(self.records))
            self._db.close()
            self._db = None
        if not self.path.exists():
            for suffix in ("-wal", "-shm"):  # of the deleted one
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            create(self.path, NOTHING, kept)
        self._db = connect(self.path)
        check(self._db)
        self._writable = True

    async def close(self) -> None:
        """Write what is left and let go of the file."""
        with trio.CancelScope(shield=True):
            await self.save()
            if self._db is not None:
                with contextlib.suppress(*TROUBLE):
                    await self._in_thread(self._db.close)
                self._db = None
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    async def _in_thread(self, work: Any, *args: object) -> Any:
        return await trio.to_thread.run_sync(work, *args, limiter=self._limiter)

    def __repr__(self) -> str:
        return f"<Records {str(self._path)!r}, {len(self.records)} torrents>"


@asynccontextmanager
async def open_records(path: Path | None) -> AsyncIterator[Records]:
    """Open the records at `path`, made if missing; see `Records.open` for what can go wrong.

    None: they are in memory, and gone at the end.
    """
    records = Records(path)
    try:
        await records.open()
        yield records
    finally:
        await records.close()


def _make_folder(folder: Path) -> None:
    """What somebody watches is nobody else's business."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def _words(error: Exception) -> str:
    """`no space left on device: /state/x`, without number and quotes."""
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror.lower()
        return f"{reason}: {error.filename}" if error.filename else reason
    return str(error)
