"""What was hashed is remembered for these very files, and a record that is in doubt is none."""

from __future__ import annotations

import hashlib
import mmap
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.swarm.payload import write_tree
from torrentfs.storage import remembered as module
from torrentfs.storage.payload import Payload, Stamp, list_payload
from torrentfs.storage.remembered import Known, Remembered, write_out

TREE = {"a": 10, "b": 20, "d/c": 0}
PURPOSE = "check 1234"
LATER = 3_000_000_000
"""Nanoseconds until a file that was just written is settled."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "what", TREE)


@pytest.fixture
def records(tmp_path: Path) -> Remembered:
    return Remembered(tmp_path / "state" / "shared")


def keep(records: Remembered, payload: Payload, purpose: str = PURPOSE, age: int = LATER) -> None:
    records.keep(payload, purpose, Path("/x/y.torrent"), b"torrent", time.time_ns() + age)


def record_of(records: Remembered) -> Path:
    (place,) = records.directory.iterdir()
    return place


def test_files_that_look_as_they_did_are_sure(root: Path, records: Remembered) -> None:
    assert records.find(list_payload(root), PURPOSE) is None
    keep(records, list_payload(root))
    digest = hashlib.sha256(b"torrent").hexdigest()
    known = Known("/x/y.torrent", digest, frozenset({0, 1, 2}))
    assert records.find(list_payload(root), PURPOSE) == known
    assert Remembered(records.directory).find(list_payload(root), PURPOSE) == known


@pytest.mark.parametrize("how", ["written", "mtime restored", "replaced", "touched"])
def test_one_that_changed_is_not(root: Path, records: Remembered, how: str) -> None:
    keep(records, list_payload(root))
    place = root / "b"
    before = place.stat()
    match how:
        case "written":
            place.write_bytes(b"x")
        case "mtime restored":
            data = bytearray(place.read_bytes())
            data[0] ^= 1
            with place.open("r+b") as file:
                file.write(data)
            os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))
            assert (place.stat().st_mtime_ns, place.stat().st_size) == (before.st_mtime_ns, 20)
        case "replaced":
            (root / "new").write_bytes(place.read_bytes())
            os.utime(root / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
            (root / "new").replace(place)
        case _:
            place.touch()
    known = records.find(list_payload(root), PURPOSE)
    assert known is not None
    assert known.sure == {0, 2}


def test_what_changed_a_moment_before_is_not_remembered(root: Path, records: Remembered) -> None:
    keep(records, list_payload(root), age=0)
    known = records.find(list_payload(root), PURPOSE)
    assert known is not None
    assert known.sure == set()


def test_times_that_are_odd(root: Path, records: Remembered) -> None:
    """An mtime of the future is believed, one that no record can have is not."""
    os.utime(root / "a", ns=(0, time.time_ns() + 10**15))
    payload = list_payload(root)
    huge = payload.files[1]._replace(stamp=payload.files[1].stamp._replace(mtime_ns=1 << 70))
    keep(records, Payload(payload.root, payload.name, [payload.files[0], huge, payload.files[2]]))
    known = records.find(payload, PURPOSE)
    assert known is not None
    assert known.sure == {0, 2}


def test_a_record_is_for_one_path_one_purpose_and_one_list_of_files(
    root: Path, records: Remembered, tmp_path: Path
) -> None:
    keep(records, list_payload(root))
    payload = list_payload(root)
    assert records.find(payload, "check 1235") is None
    moved = Payload(str(tmp_path / "other"), payload.name, payload.files)
    assert records.find(moved, PURPOSE) is None
    # not even where it has the name of the other
    record_of(records).rename(records._place(payload, "check 1235"))
    assert records.find(payload, "check 1235") is None
    keep(records, list_payload(root))
    (root / "e").write_bytes(b"new")
    assert records.find(list_payload(root), PURPOSE) is None
    (root / "e").unlink()
    (root / "a").rename(root / "aa")
    assert records.find(list_payload(root), PURPOSE) is None
    (root / "aa").rename(root / "a")
    program = payload.files[1]._replace(executable=True)
    files = [payload.files[0], program, payload.files[2]]
    assert records.find(Payload(payload.root, payload.name, files), PURPOSE) is None


def test_a_damaged_record_is_none(root: Path, records: Remembered) -> None:
    payload = list_payload(root)
    keep(records, payload)
    place = record_of(records)
    right = place.read_bytes()
    for number in range(len(right)):
        place.write_bytes(right[:number] + bytes([right[number] ^ 4]) + right[number + 1 :])
        assert records.find(payload, PURPOSE) is None
    for cut in (right[:-1], right[:40], b"", right + b"x"):
        place.write_bytes(cut)
        assert records.find(payload, PURPOSE) is None
    place.write_bytes(right)
    assert records.find(payload, PURPOSE) is not None


@pytest.mark.parametrize(
    "body",
    [
        b"torrentfs remembered 2\n{}\n",
        b"torrentfs remembered 1\n{}\n",
        b"torrentfs remembered 1\n[]\n",
        b"torrentfs remembered 1\n{",
        b"torrentfs remembered 1\n" + b"[" * 60_000 + b"\n",
    ],
    ids=["version", "empty", "list", "cut", "deep"],
)
def test_one_with_a_right_digest_that_we_did_not_write(
    root: Path, records: Remembered, body: bytes
) -> None:
    payload = list_payload(root)
    keep(records, payload)
    record_of(records).write_bytes(body + hashlib.sha256(body).digest())
    assert records.find(payload, PURPOSE) is None


def test_a_directory_in_its_place(root: Path, records: Remembered) -> None:
    payload = list_payload(root)
    records._place(payload, PURPOSE).mkdir(parents=True)
    assert records.find(payload, PURPOSE) is None
    with pytest.raises(OSError, match="directory"):
        keep(records, payload)
    assert len(list(records.directory.iterdir())) == 1  # nothing is left beside it


@pytest.mark.parametrize(
    ("name", "most", "left"), [("MAX_RECORDS", 3, 3), ("MAX_BYTES", 1500, 3), ("MAX_BYTES", 1, 1)]
)
def test_they_are_bounded_and_the_oldest_go(
    root: Path,
    records: Remembered,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    most: int,
    left: int,
) -> None:
    payload = list_payload(root)
    keep(records, payload, "0")
    if name == "MAX_BYTES" and most > 1:
        most = 3 * record_of(records).stat().st_size + 9
    monkeypatch.setattr(module, name, most)
    (records.directory / "mine").write_bytes(b"not a record")
    for number in range(8):
        keep(records, payload, str(number))
        os.utime(records._place(payload, str(number)), (number, number))
    found = [n for n in range(8) if records.find(payload, str(n)) is not None]
    assert found == list(range(8))[-left:]
    assert (records.directory / "mine").exists()


def test_names_that_are_no_text(tmp_path: Path, records: Remembered) -> None:
    root = tmp_path / os.fsdecode(b"\xff")
    root.mkdir()
    (root / os.fsdecode(b"\xfe")).write_bytes(b"x")
    keep(records, list_payload(root))
    known = records.find(list_payload(root), PURPOSE)
    assert known is not None
    assert known.sure == {0}


def test_a_purpose_of_any_length(root: Path, records: Remembered) -> None:
    keep(records, list_payload(root), "x" * 100_000)
    assert records.find(list_payload(root), "x" * 100_000) is None
    assert not records.directory.exists()


def test_the_stamp_has_all_that_a_change_shows_in() -> None:
    assert Stamp._fields == ("device", "inode", "size", "mtime_ns", "ctime_ns")


def test_who_writes_through_a_mapping_changes_the_stamp_again(root: Path) -> None:
    """Without it the kernel would note the first write alone, until it has written it out."""
    if _is_in_memory(root):
        pytest.skip("a tmpfs never notes such writes")
    (root / "b").write_bytes(bytes(4096))
    with (root / "b").open("r+b") as file, mmap.mmap(file.fileno(), 4096) as mapped:
        mapped[0] = 1
        payload = list_payload(root)
        write_out(payload, time.time_ns())
        time.sleep(0.05)  # the clock of the file system ticks
        mapped[0] = 2
        again = list_payload(root)
    assert again.files[1].stamp != payload.files[1].stamp
    assert again.files[0].stamp == payload.files[0].stamp


def test_only_young_files_are_written_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    payload = list_payload(root)
    write_out(payload, time.time_ns() + module.YOUNG_NS)
    assert synced == []
    (root / "a").unlink()  # who reads it says so
    write_out(payload, time.time_ns())
    assert len(synced) == 1


def _is_in_memory(root: Path) -> bool:
    """Whether it is a tmpfs, whose files never note such writes."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", root], capture_output=True, check=True)
    return kind.stdout.strip() in (b"tmpfs", b"ramfs")
