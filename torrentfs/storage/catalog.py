"""The memory of the cache: which torrents were seen, which pieces are in which tree (SQLite).

Synchronous; its one connection is used by one thread at a time (see `tiered`), and by several
processes at once, each touching only the rows of trees it has locked (see `locks`).

**What survives what.** The catalog runs in WAL mode with `synchronous=NORMAL`: a commit costs no
wait for the disk, and survives the death of the process, but a power cut may take back the last
ones. That is harmless for the bits of pieces, because of one commit that *is* synchronous: before
the first change of a tree its row is marked not `clean`, and it is marked clean again only after
all its bytes were synced. A tree found unclean has every piece re-checked before its first use.
So the bits are only hints after a crash, and proof (with the fingerprints of the files, see
`disk`) after a clean stop. SQLite does not notice a flipped bit in a blob, so that proof carries a
digest; if it does not match, the stop counts as unclean.

Addresses of peers are kept beside (see `engine/regulars`), with a commit that survives a power cut.
A wrong one costs a connection in vain, so nothing proves them. So are the pieces that are pinned:
every process that uses the directory spares them. Both tables are made where they are missing, and
harm no older version that opens the same catalog.

A catalog that is damaged, or was written by a newer version, is moved aside.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import sqlite3
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from torrentfs.storage.base import StoredMetadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torrentfs.metainfo.hashes import InfoHashes

Address = tuple[str, int]

log = logging.getLogger(__name__)

TROUBLE = (OSError, sqlite3.Error)
"""How disk and catalog fail: what those above catch, so that only this file knows SQLite."""

SCHEMA = 2
CHUNK = 4096
"""Bytes of the bitmap in one row: a change of one piece writes no more than this."""
_MOST_TORRENTS = 10_000
_MOST_PEERS = 50
_MOST_PEERS_OF_ALL = 20_000
PEER_LIFETIME = 30 * 86400.0
"""Seconds after which the address of a peer that was not useful again is forgotten."""
_BUSY_SECONDS = 5.0

_TABLES = f"""
CREATE TABLE metadata (
    id INTEGER PRIMARY KEY, v1 BLOB UNIQUE, v2 BLOB UNIQUE, torrent BLOB NOT NULL, layers INTEGER,
    added REAL NOT NULL, digest BLOB NOT NULL);
CREATE TABLE trees (
    domain TEXT PRIMARY KEY, clean INTEGER NOT NULL, owner TEXT, used INTEGER NOT NULL,
    oldest INTEGER NOT NULL, uses BLOB NOT NULL, known BLOB NOT NULL, unsure BLOB NOT NULL,
    digest BLOB NOT NULL);
CREATE TABLE bits (
    domain TEXT, chunk INTEGER, bits BLOB NOT NULL, PRIMARY KEY (domain, chunk)) WITHOUT ROWID;
PRAGMA user_version = {SCHEMA};
"""
_PEERS = """
CREATE TABLE IF NOT EXISTS peers (
    torrent TEXT, host TEXT, port INTEGER, used REAL NOT NULL,
    PRIMARY KEY (torrent, host, port)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS peers_by_use ON peers (used);
"""
_PINS = """
CREATE TABLE IF NOT EXISTS pins (
    torrent TEXT, first INTEGER, stop INTEGER, PRIMARY KEY (torrent, first)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class TreeRow:
    """What is known of one tree; `uses`, `known` and `unsure` are the blobs that its shelf made."""

    clean: bool
    used: int
    uses: bytes
    known: bytes
    unsure: bytes
    bits: bytes


class Kept(NamedTuple):
    """A torrent to be remembered; `layers`: how many piece layers are in it."""

    hashes: InfoHashes
    torrent: bytes
    layers: int
    added: float


class Known(NamedTuple):
    """When a torrent was first added, and how many of its pieces are here as far as is known."""

    added: float
    pieces: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Bytes on disk by who has the trees open; `idle` is (last use, domain) of those nobody has."""

    idle_bytes: int
    others_bytes: int
    others: int
    idle: tuple[tuple[int, str], ...]


class Unusable(Exception):
    """The catalog is damaged or too new."""


def is_full(error: Exception) -> bool:
    """True for the `TROUBLE` that freeing space on the disk mends."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


class Catalog:
    """The open database; every method may raise `TROUBLE`, and opening it `Unusable`."""

    def __init__(self, path: Path, owner: str) -> None:
        self.owner = owner
        self._db = sqlite3.connect(
            path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare()
        except BaseException as error:
            self._db.close()
            # OperationalError: locked, unreadable, full. That is no sign of damage
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(
                error, sqlite3.OperationalError
            ):
                raise Unusable(str(error)) from error
            raise

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                for statement in _TABLES.split(";"):
                    self._db.execute(statement)
            elif version != SCHEMA:
                raise Unusable(f"it has schema {version}, this version knows {SCHEMA}")
            else:
                verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
                if verdict != "ok":
                    raise Unusable(str(verdict).splitlines()[0])
            for statement in (_PEERS + _PINS).split(";"):
                self._db.execute(statement)
        finally:
            self._db.execute("COMMIT")

    # --- metadata ---

    def metadata(self, hashes: InfoHashes) -> StoredMetadata | None:
        """What is kept of a torrent, by whichever form of its hash is known."""
        row = self._find(hashes)
        if row is None:
            return None
        number, torrent, _, added, digest = row
        if digest != _digest(torrent):
            log.warning("the cached metadata of %s is damaged", hashes)
            self._db.execute("DELETE FROM metadata WHERE id=?", (number,))
            return None
        return StoredMetadata(torrent, added)

    def keep_metadata(self, hashes: InfoHashes, torrent: bytes, layers: int, added: float) -> float:
        """Remember a .torrent file; returns when it was first added. More v2 layers win."""
        return self.keep_many([Kept(hashes, torrent, layers, added)])[0].added

    def dates(self, torrents: Sequence[InfoHashes]) -> list[float | None]:
        """When each was first added; None for those that are not known."""
        question = "SELECT added FROM metadata WHERE v1=? OR v2=?"
        rows = [self._db.execute(question, (one.v1, one.v2)).fetchone() for one in torrents]
        return [None if row is None else row[0] for row in rows]

    def keep_many(self, torrents: Sequence[Kept]) -> list[Known]:
        """Remember many in one transaction; what is known of each, in the same order."""
        with self._transaction():
            known = [Known(self._keep(torrent), self._count(torrent)) for torrent in torrents]
            self._db.execute(
                "DELETE FROM metadata WHERE id <= (SELECT max(id) FROM metadata) - ?"
                " AND lower(hex(ifnull(v1, v2))) NOT IN"
                " (SELECT substr(domain, 1, length(hex(ifnull(v1, v2)))) FROM trees)",
                (max(_MOST_TORRENTS, len(torrents)),),
            )
        return known

    def _keep(self, kept: Kept) -> float:
        hashes, torrent, layers, added = kept
        row = self._find(hashes)
        if row is None:
            self._db.execute(
                "INSERT INTO metadata (v1, v2, torrent, layers, added, digest)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (hashes.v1, hashes.v2, torrent, layers, added, _digest(torrent)),
            )
            return added
        number, known, known_layers, first, digest = row
        if digest != _digest(known) or (known != torrent and layers >= known_layers):
            self._db.execute(
                "UPDATE metadata SET torrent=?, layers=?, digest=?, v1=ifnull(?, v1),"
                " v2=ifnull(?, v2) WHERE id=?",
                (torrent, layers, _digest(torrent), hashes.v1, hashes.v2, number),
            )
        return first

    def _count(self, kept: Kept) -> int:
        """Pieces of its first tree; others are of processes that had it at the same time."""
        rows = self._db.execute("SELECT bits FROM bits WHERE domain=?", (kept.hashes.key,))
        return sum(int.from_bytes(part).bit_count() for (part,) in rows)

    def knows(self, hashes: InfoHashes) -> bool:
        """Whether metadata of the torrent is kept, intact or not."""
        return (
            self._db.execute(
                "SELECT 1 FROM metadata WHERE v1=? OR v2=?", (hashes.v1, hashes.v2)
            ).fetchone()
            is not None
        )

    def _find(self, hashes: InfoHashes) -> tuple[int, bytes, int, float, bytes] | None:
        row: tuple[int, bytes, int, float, bytes] | None = self._db.execute(
            "SELECT id, torrent, layers, added, digest FROM metadata WHERE v1=? OR v2=?",
            (hashes.v1, hashes.v2),
        ).fetchone()
        return row

    # --- peers ---

    def peers(self, key: str, now: float) -> list[Address]:
        """Addresses of a torrent's peers that were useful, those of late first."""
        rows = self._db.execute(
            "SELECT host, port FROM peers WHERE torrent=? AND used>? ORDER BY used DESC LIMIT ?",
            (key, now - PEER_LIFETIME, _MOST_PEERS),
        ).fetchall()
        return [
            (host, port)
            for host, port in rows
            if isinstance(host, str) and isinstance(port, int) and 0 < port < 65536
        ]

    def keep_peers(
        self, key: str, useful: Iterable[Address], unwanted: Iterable[Address], now: float
    ) -> None:
        """Durably note who was useful now, and forget the `unwanted` and the oldest."""
        with self._transaction(durable=True):
            self._db.executemany(
                "INSERT OR REPLACE INTO peers VALUES (?, ?, ?, ?)",
                [(key, host, port, now) for host, port in useful],
            )
            self._db.executemany(
                "DELETE FROM peers WHERE torrent=? AND host=? AND port=?",
                [(key, host, port) for host, port in unwanted],
            )
            self._db.execute(
                "DELETE FROM peers WHERE torrent=? AND (host, port) NOT IN"
                " (SELECT host, port FROM peers WHERE torrent=? ORDER BY used DESC LIMIT ?)",
                (key, key, _MOST_PEERS),
            )
            self._db.execute(
                "DELETE FROM peers WHERE used <= max(?, ifnull("
                "(SELECT used FROM peers ORDER BY used DESC LIMIT 1 OFFSET ?), 0))",
                (now - PEER_LIFETIME, _MOST_PEERS_OF_ALL),
            )

    # --- pins ---

    def pins(self, key: str) -> list[range]:
        """The pieces of a torrent that are never evicted, ascending."""
        rows = self._db.execute(
            "SELECT first, stop FROM pins WHERE torrent=? ORDER BY first", (key,)
        ).fetchall()
        return [range(first, stop) for first, stop in rows]

    def keep_pins(self, pins: Mapping[str, Sequence[range]]) -> None:
        """Durably replace those of these torrents; ranges of one do not overlap."""
        new = {key: list(pieces) for key, pieces in pins.items() if self.pins(key) != list(pieces)}
        if not new:
            return
        with self._transaction(durable=True):
            for key, pieces in new.items():
                self._db.execute("DELETE FROM pins WHERE torrent=?", (key,))
                self._db.executemany(
                    "INSERT INTO pins VALUES (?, ?, ?)", [(key, r.start, r.stop) for r in pieces]
                )

    # --- trees: only by who holds the lock ---

    def claim(self, domain: str) -> TreeRow | None:
        """Become the owner of a tree; returns what is known of it, None when it is new."""
        with self._transaction():
            row = self._db.execute(
                "SELECT clean, used, uses, known, unsure, digest FROM trees WHERE domain=?",
                (domain,),
            ).fetchone()
            if row is None:
                self._db.execute(
                    "INSERT INTO trees VALUES (?, 1, ?, 0, 0, x'', x'', x'', ?)",
                    (domain, self.owner, _digest(b"", b"", b"")),
                )
                return None
            self._db.execute("UPDATE trees SET owner=? WHERE domain=?", (self.owner, domain))
            bits = self.bits(domain)
        _, used, uses, known, unsure, digest = row
        clean = bool(row[0]) and digest == _digest(bits, known, unsure)
        return TreeRow(clean, used, uses, known, unsure, bits)

    def bits(self, domain: str) -> bytes:
        """The bitmap of a tree as last recorded; short where nothing was recorded."""
        rows = self._db.execute(
            "SELECT chunk, bits FROM bits WHERE domain=? ORDER BY chunk", (domain,)
        ).fetchall()
        field = bytearray()
        for chunk, part in rows:
            field += bytes(max(0, chunk * CHUNK - len(field)))
            field[chunk * CHUNK :] = part
        return bytes(field)

    def mark_unclean(self, domain: str) -> None:
        """Durably say that the tree is about to change."""
        self._durably("UPDATE trees SET clean=0 WHERE domain=?", (domain,))

    def record(self, domain: str, chunks: Iterable[tuple[int, bytes]], used: int) -> None:
        """Note changed parts of the bitmap, after the bytes of their pieces were written."""
        with self._transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO bits (domain, chunk, bits) VALUES (?, ?, ?)",
                [(domain, chunk, part) for chunk, part in chunks],
            )
            self._db.execute("UPDATE trees SET used=? WHERE domain=?", (used, domain))

    def record_uses(self, domain: str, uses: bytes, oldest: int) -> None:
        """Note when the parts of a tree were last used."""
        self._db.execute("UPDATE trees SET uses=?, oldest=? WHERE domain=?", (uses, oldest, domain))

    def mark_clean(self, domain: str, known: bytes, unsure: bytes) -> None:
        """Durably say that all bytes are synced, the files look like `known`, and that all
        recorded pieces but the `unsure` ones are right.
        """
        digest = _digest(self.bits(domain), known, unsure)
        self._durably(
            "UPDATE trees SET clean=1, known=?, unsure=?, digest=? WHERE domain=?",
            (known, unsure, digest, domain),
        )

    def disown(self, domain: str) -> None:
        """The tree is nobody's any more; call before its lock is dropped."""
        self._db.execute("UPDATE trees SET owner=NULL WHERE domain=?", (domain,))

    def forget_tree(self, domain: str) -> None:
        """The tree has no file any more."""
        with self._transaction():
            self._db.execute("DELETE FROM bits WHERE domain=?", (domain,))
            self._db.execute("DELETE FROM trees WHERE domain=?", (domain,))

    def owned_domains(self) -> list[str]:
        """Trees that some process has open, or had when it died."""
        rows = self._db.execute("SELECT domain FROM trees WHERE owner IS NOT NULL").fetchall()
        return [row[0] for row in rows]

    def domains(self) -> set[str]:
        """All trees."""
        return {row[0] for row in self._db.execute("SELECT domain FROM trees")}

    def uses(self) -> list[tuple[str, int, bool]]:
        """All trees: domain, bytes on disk as last recorded, and whether a process has it open."""
        rows = self._db.execute("SELECT domain, used, owner IS NOT NULL FROM trees").fetchall()
        return [(domain, used, bool(owned)) for domain, used, owned in rows]

    def totals(self) -> Totals:
        """Who has how much on disk, beside us."""
        idle = self._db.execute(
            "SELECT oldest, domain, used FROM trees WHERE owner IS NULL AND used > 0"
        ).fetchall()
        used, others = self._db.execute(
            "SELECT ifnull(sum(used), 0), count(DISTINCT owner) FROM trees"
            " WHERE owner IS NOT NULL AND owner != ?",
            (self.owner,),
        ).fetchone()
        return Totals(
            sum(row[2] for row in idle), used, others, tuple((row[0], row[1]) for row in idle)
        )

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def _durably(self, statement: str, arguments: tuple[object, ...]) -> None:
        with self._transaction(durable=True):
            self._db.execute(statement, arguments)

    @contextlib.contextmanager
    def _transaction(self, *, durable: bool = False) -> Iterator[None]:
        if durable:
            self._db.execute("PRAGMA synchronous=FULL")
        try:
            with self._all_or_nothing():
                yield
        finally:
            if durable:
                self._db.execute("PRAGMA synchronous=NORMAL")

    @contextlib.contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _digest(*blobs: bytes) -> bytes:
    state = hashlib.blake2b(digest_size=16)
    for blob in blobs:
        state.update(len(blob).to_bytes(8))
        state.update(blob)
    return state.digest()


def move_aside(path: Path) -> Path:
    """Put a damaged catalog, with its journal, out of the way; returns its new name."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    for suffix in ("-wal", "-shm", ""):
        old = path.with_name(path.name + suffix)
        with contextlib.suppress(FileNotFoundError):
            old.rename(aside.with_name(aside.name + suffix))
    return aside
