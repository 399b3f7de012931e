"""Only what is read is fetched: counted where the bytes leave, not where they arrive.

The bounds are those of docs/scheduling.md. A window "never exceeds what was consumed since the
jump", and for us the kernel's own read-ahead counts as consumed. So a read of `n` bytes costs at
most the pieces of ``2 * (n + KERNEL_READAHEAD)`` bytes from its start on. Blocks that came twice
because they were late ("duplicates are kept to 3 % of what was received, plus 512 KiB") are
counted where they leave, and are not what was fetched.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.hardening.observing import (
    KERNEL_READAHEAD,
    KIB,
    MIB,
    attribute,
    extents,
    pread,
)
from tests.swarm.hostile import Connection, Payload, hostile_peer
from tests.swarm.mounted import Mounted, mounted
from tests.swarm.nginx import WebSeed, wait_quiet, web_seed
from tests.swarm.payload import ODD_TREE, payload, write_file, write_tree
from tests.swarm.seeder import LibtorrentPeer, seed
from tests.swarm.torrents import MadeTorrent, make_torrent

pytestmark = pytest.mark.real

PIECE = 256 * KIB
MIDDLE = 512 * MIB


def pieces_of(start: int, size: int, piece: int = PIECE) -> int:
    """Bytes of all pieces that `[start, start + size)` touches."""
    return ((start + size - 1) // piece - start // piece + 1) * piece


def cost_of_a_jump(start: int, size: int, piece: int = PIECE) -> int:
    """The most that one read after a jump may fetch."""
    return pieces_of(start, 2 * (size + KERNEL_READAHEAD), piece)


def with_duplicates(size: int) -> float:
    """What may leave the seeders when `size` bytes were wanted."""
    return size * 1.03 + 512 * KIB


@pytest.fixture(scope="module")
def gibibyte(tmp_path_factory: pytest.TempPathFactory) -> MadeTorrent:
    """1 GiB, sparse, with something to tell apart in the middle."""
    work = tmp_path_factory.mktemp("gibibyte")
    path = work / "payload" / "gibibyte.bin"
    path.parent.mkdir()
    with path.open("wb") as stream:
        stream.truncate(1024 * MIB)
        stream.seek(MIDDLE - MIB)
        stream.write(payload(1, 4 * MIB))
    return make_torrent(path, work / "t.torrent", piece_length=PIECE)


@contextmanager
def watched(made: MadeTorrent, work: Path) -> Iterator[tuple[Mounted, LibtorrentPeer, WebSeed]]:
    """A fresh mount with a connected peer and a web seed; `work` keeps nothing of another one."""
    with (
        seed(made.torrent, made.path, work) as peer,
        web_seed(made.path.parent, work) as web,
        mounted(
            made.torrent,
            work,
            *("--peer", peer.address, "--web-seed", web.url(), "--xattrs", "-vv"),
        ) as mount,
    ):
        mount.wait_log("connected")
        yield mount, peer, web


def left(peer: LibtorrentPeer, web: WebSeed) -> int:
    """Payload bytes that left the seeders, both together."""
    wait_quiet(web)
    return int(peer.status()["uploaded"]) + web.bytes_sent()


def test_listing_and_asking_fetches_nothing(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "payload" / "tree", {**ODD_TREE, "film.mkv": 20 * MIB})
    made = make_torrent(tree, tmp_path / "t.torrent", piece_length=64 * KIB)
    with watched(made, tmp_path) as (mount, peer, web):
        commands = [
            ["ls", "-lR", mount.path],
            ["find", mount.path, "-type", "f", "-size", "+0", "-perm", "-0400", "-mtime", "-1"],
            ["stat", mount / "tree" / "film.mkv", mount / "tree"],
            ["stat", "--file-system", mount.path],
            ["du", "-a", mount.path],
            ["du", "-sb", mount.path],
            ["df", mount.path],
            ["test", "-r", mount / "tree" / "film.mkv"],
        ]
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
            assert "error" not in done.stderr.lower()
        for _ in range(3):  # to open is not to read
            os.close(os.open(mount / "tree" / "film.mkv", os.O_RDONLY))
        assert mount.log().count("web seed") == 0
        assert left(peer, web) == 0
        assert web.requests() == []
        assert attribute(mount / "tree", "downloaded") == "0"
        assert attribute(mount / "tree", "progress") == "0.0000"
        # The count counts: what is read next is seen by it.
        assert pread(mount / "tree" / "z" / "last", 7, 0) == (tree / "z" / "last").read_bytes()
        assert left(peer, web) >= 7
        assert int(attribute(mount / "tree", "downloaded")) >= 7


@pytest.mark.parametrize("shift", [0, 100 * KIB], ids=["at a piece border", "inside a piece"])
def test_one_mebibyte_from_the_middle_of_one_gibibyte(
    gibibyte: MadeTorrent, tmp_path: Path, shift: int
) -> None:
    start = MIDDLE + shift
    with watched(gibibyte, tmp_path) as (mount, peer, web):
        data = pread(mount / "gibibyte.bin", MIB, start)
        assert data == payload(1, 4 * MIB)[MIB + shift : 2 * MIB + shift]
        time.sleep(0.5)  # what it may still be fetching
        fetched = int(attribute(mount / "gibibyte.bin", "downloaded"))
        assert pieces_of(start, MIB) <= fetched <= cost_of_a_jump(start, MIB)
        assert fetched <= left(peer, web) <= with_duplicates(fetched)


def test_random_reads_cost_their_own_pieces_only(gibibyte: MadeTorrent, tmp_path: Path) -> None:
    places = [(n * 7919 * 131 + 5) * 1024 % (1000 * MIB) + 8 * MIB for n in range(40)]
    with watched(gibibyte, tmp_path) as (mount, peer, web):
        fd = os.open(mount / "gibibyte.bin", os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
            for place in places:
                assert len(os.pread(fd, 4096, place)) == 4096
        finally:
            os.close(fd)
        wanted = {piece for place in places for piece in (place // PIECE, (place + 4095) // PIECE)}
        assert int(attribute(mount / "gibibyte.bin", "downloaded")) == len(wanted) * PIECE
        assert left(peer, web) <= with_duplicates(len(wanted) * PIECE)


CONTAINERS = {
    # index at the end: the worst case of each format
    "mp4": ["-f", "mp4", "-c:v", "mpeg4", "-q:v", "1", "-c:a", "aac"],
    "mkv": ["-f", "matroska", "-c:v", "mpeg4", "-q:v", "1", "-c:a", "pcm_s16le"],
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_probe_fetches_head_and_tail_only(tmp_path: Path, container: str) -> None:
    film = tmp_path / "payload" / f"film.{container}"
    film.parent.mkdir()
    noise = "nullsrc=s=640x480:r=25:d=6,geq=random(1)*255:128:128"
    subprocess.run(
        [
            *("ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", noise),
            *("-f", "lavfi", "-i", "anoisesrc=d=6", *CONTAINERS[container], str(film)),
        ],
        check=True,
        timeout=50,
        stdin=subprocess.DEVNULL,
    )
    size = film.stat().st_size
    made = make_torrent(film, tmp_path / "t.torrent", piece_length=PIECE)
    with watched(made, tmp_path) as (mount, peer, web):
        done = subprocess.run(
            ["ffprobe", "-v", "error", "-show_format", "-show_streams", str(mount / film.name)],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert "codec_name=mpeg4" in done.stdout
        assert f"size={size}" in done.stdout
        time.sleep(0.5)
        gone = int(attribute(mount / film.name, "downloaded"))
        assert left(peer, web) <= with_duplicates(gone)
    # ffprobe reads at most 1.2 MB here, nearly all at the head, so with the 1 MiB hints: the head
    # may cost 2 x (1.2 MB + kernel), the tail its 1 MiB, each in whole pieces.
    head = cost_of_a_jump(0, 1_200_000)
    tail = size - (size - MIB) // PIECE * PIECE
    assert gone <= head + tail
    assert gone < size / 3
    (kept,) = (tmp_path / "cache" / "torrents").glob(f"*/data/{film.name}")
    for start, end in extents(kept):
        assert end <= head or start >= size - tail


def test_nothing_is_fetched_after_the_last_close(tmp_path: Path) -> None:
    """docs/scheduling.md: "Five seconds after the last close [...] windows go"."""
    film = write_file(tmp_path / "payload" / "film.bin", 1, 32 * MIB)
    made = make_torrent(film, tmp_path / "t.torrent", piece_length=PIECE)
    delay, sent = [0.003], [0]

    def slowing(peer: Connection) -> None:
        peer.seed_ready()
        for piece, begin, length in peer.requests():
            time.sleep(delay[0])
            sent[0] += 1
            peer.block(piece, begin, peer.payload.block(piece, begin, length))

    with (
        hostile_peer(Payload.of_file(film, PIECE), slowing) as peer,
        mounted(made.torrent, tmp_path, "--peer", peer.address, "--xattrs", "-vv") as mount,
    ):
        with (mount / "film.bin").open("rb") as stream:
            for start in range(MIB * 4, MIB * 9, MIB // 8):
                stream.seek(start)
                assert len(stream.read(MIB // 8)) == MIB // 8
            delay[0] = 0.05  # what is left of its window would now take ten seconds and more
        closed = time.monotonic()
        at_close = sent[0]
        time.sleep(0.5)
        assert sent[0] > at_close  # the window is being filled: the rest has a point
        time.sleep(closed + 5.5 - time.monotonic())
        # What was asked before the end may still come (this peer answers in order and knows no
        # CANCEL), then it is silent.
        quiet, since = sent[0], time.monotonic()
        while time.monotonic() - since < 1.0:
            assert time.monotonic() < closed + 12
            if sent[0] != quiet:
                quiet, since = sent[0], time.monotonic()
            time.sleep(0.05)
        assert time.monotonic() < closed + 10
        assert int(attribute(mount / "film.bin", "downloaded")) < 16 * MIB
