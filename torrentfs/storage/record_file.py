"""The SQLite file of a library's records: what is in it, and how a damaged one is read.

Three tables: `records` (small, often written), `torrents` (.torrent files, written once) and
`facts` (anything else, as JSON). A row carries a digest, since SQLite does not notice a flipped
bit; of a record that fails it what can be understood is taken all the same, as a wrong letter is
better than a lost film. The file is used by one process, in WAL mode with SQLite's exclusive lock,
whose index is in memory: shared memory is what a full disk would refuse. Each commit waits for the
disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from torrentfs.storage.catalog import TROUBLE, Unusable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SCHEMA = 1
_BUSY_SECONDS = 5.0

_TABLES = f"""
CREATE TABLE records (key TEXT PRIMARY KEY, about TEXT NOT NULL, digest BLOB NOT NULL);
CREATE TABLE torrents (key TEXT PRIMARY KEY, torrent BLOB NOT NULL, digest BLOB NOT NULL);
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL, digest BLOB NOT NULL);
PRAGMA user_version = {SCHEMA};
"""
_CHUNK = 1 << 20
_COLUMNS = {
    "records": ("key", "about"),
    "torrents": ("key", "torrent"),
    "facts": ("name", "value"),
}


class Pin(NamedTuple):
    """Bytes to keep: of a file (None: of all), from `offset`, `length` or up to the end."""

    file: int | None = None
    offset: int = 0
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One torrent, less its .torrent file; times in Unix seconds."""

    key: str
    added: float
    """When it was first added to this mount point; never changes, not by removing it either."""
    kept: bool = False
    """It was added to stay: it comes back at every start until it is removed."""
    source: str = ""
    """What the user named it by."""
    hints: str = ""
    """A magnet link with its hashes, and the trackers, web seeds, peers and files named with it."""
    name: str = ""
    folder: tuple[str, ...] = ()
    entry: str = ""
    """Its name in `folder` when it was last shown; empty before."""
    listed: bool = False
    """The mount shows it, or did when it ended."""
    paused: bool = False
    pins: tuple[Pin, ...] = ()
    watched: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """The files of watch directories that name it, and the folder that each puts it in."""
    told: str = ""
    """What its .torrent file says of where to ask (`Advice.fingerprint`)."""
    said: tuple[tuple[str, str], ...] = ()
    """The same of each of `watched` that is a .torrent file."""

    def to_json(self) -> str:
        """Everything but the key."""
        about = asdict(self)
        del about["key"]
        return json.dumps(about, sort_keys=True)

    @classmethod
    def parse(cls, key: str, text: str) -> Record:
        """The inverse of `to_json`; `ValueError` for what it cannot have written."""
        about = json.loads(text)
        known = {field.name for field in fields(cls)}
        try:
            about = {name: value for name, value in about.items() if name in known}
            about["folder"] = tuple(map(str, about["folder"]))
            about["pins"] = tuple(Pin(*pin) for pin in about["pins"])
            about["added"] = float(about["added"])
            watched = about.get("watched", ())
            about["watched"] = tuple((str(path), tuple(folder)) for path, folder in watched)
            said = about.get("said", ())
            about["said"] = tuple((str(path), str(told)) for path, told in said)
            return cls(key=key, **about)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"not a record: {error}") from None


class Content(NamedTuple):
    """The content of a file, and how many rows of it were damaged."""

    records: dict[str, Record]
    facts: dict[str, Any]
    stored: set[str]
    bad: int


NOTHING = Content({}, {}, set(), 0)


def connect(path: Path, read_only: bool = False) -> sqlite3.Connection:
    """Open the file; `read_only` whatever its journal says, without writing a byte."""
    db = sqlite3.connect(
        f"{path.as_uri()}?immutable=1" if read_only else path,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        uri=read_only,
    )
    try:
        db.execute("PRAGMA locking_mode=EXCLUSIVE")  # before WAL: then its index is in memory
        if not read_only:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
    except BaseException:
        db.close()
        raise
    return db


def check(db: sqlite3.Connection) -> None:
    """`DatabaseError` for a damaged file, `Unusable` for a newer one."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA:
        raise Unusable(f"its records have version {version}, this torrentfs knows {SCHEMA}")
    verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise sqlite3.DatabaseError(str(verdict).replace("\n", " "))
    if version < SCHEMA:
        raise sqlite3.DatabaseError("it is empty")


def create(path: Path, content: Content, torrents: dict[str, bytes]) -> None:
    """Make a new file that appears whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    for suffix in ("", "-wal", "-shm", "-journal"):
        new.with_name(new.name + suffix).unlink(missing_ok=True)
    db = sqlite3.connect(new, isolation_level=None)
    try:
        db.execute("BEGIN")
        for statement in _TABLES.split(";"):
            db.execute(statement)
        for key, record in content.records.items():
            put(db, "records", key, record.to_json())
        for name, value in content.facts.items():
            put(db, "facts", name, json.dumps(value))
        for key, torrent in torrents.items():
            put(db, "torrents", key, torrent)
        db.execute("COMMIT")
    finally:
        db.close()
    new.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def put(db: sqlite3.Connection, table: str, key: str, value: str | bytes | None) -> None:
    """Write one row, or with None remove it."""
    name, column = _COLUMNS[table]
    if value is None:
        db.execute(f"DELETE FROM {table} WHERE {name}=?", (key,))
        return
    statement = f"INSERT OR REPLACE INTO {table} ({name}, {column}, digest) VALUES (?, ?, ?)"
    if isinstance(value, str) or len(value) <= _CHUNK:
        db.execute(statement, (key, value, digest_of(key, value)))
        return
    # SQLite would copy it whole: torrents may be large
    space = statement.replace("(?, ?, ?)", "(?, zeroblob(?), ?)")
    row = db.execute(space, (key, len(value), digest_of(key, value))).lastrowid
    assert row is not None
    with db.blobopen(table, column, row) as blob:
        for place in range(0, len(value), _CHUNK):
            blob.write(value[place : place + _CHUNK])


def read_all(db: sqlite3.Connection) -> Content:
    """Everything but the .torrent files."""
    return _understand(
        db.execute("SELECT key, about, digest FROM records").fetchall(),
        db.execute("SELECT name, value, digest FROM facts").fetchall(),
        {row[0] for row in db.execute("SELECT key FROM torrents")},
    )


def _understand(records: Iterable[Any], facts: Iterable[Any], stored: set[str]) -> Content:
    bad = 0
    found: dict[str, Record] = {}
    values: dict[str, Any] = {}
    for key, about, digest in records:
        try:
            found[key] = Record.parse(key, about)
        except ValueError:
            bad += 1
            continue
        bad += digest != digest_of(key, about)
    for name, value, digest in facts:
        if digest != digest_of(name, value):
            bad += 1
            continue
        values[name] = json.loads(value)
    return Content(found, values, stored, bad)


def salvage(path: Path) -> tuple[Content, dict[str, bytes]]:
    """What can be read of a damaged file, from its start and from its end."""
    rows: dict[str, dict[str, Any]] = {table: {} for table in _COLUMNS}
    with contextlib.suppress(*TROUBLE), contextlib.closing(connect(path)) as db:
        for table, (name, column) in _COLUMNS.items():
            for order in ("ASC", "DESC"):
                question = f"SELECT {name}, {column}, digest FROM {table} ORDER BY rowid {order}"
                with contextlib.suppress(sqlite3.DatabaseError):
                    for row in db.execute(question):
                        rows[table][row[0]] = row
    torrents = {
        key: torrent
        for key, torrent, digest in rows["torrents"].values()
        if isinstance(torrent, bytes) and digest == digest_of(key, torrent)
    }
    sound = [row for row in rows["records"].values() if _is_sound(row)]
    facts = [row for row in rows["facts"].values() if _is_sound(row)]
    return _understand(sound, facts, set(torrents)), torrents


def _is_sound(row: Any) -> bool:
    key, text, digest = row
    return isinstance(key, str) and isinstance(text, str) and bool(digest == digest_of(key, text))


def digest_of(key: str, value: str | bytes) -> bytes:
    """What a row carries to be known by."""
    state = hashlib.blake2b(key.encode(errors="replace") + b"\0", digest_size=16)
    state.update(value.encode(errors="surrogatepass") if isinstance(value, str) else value)
    return state.digest()


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise
