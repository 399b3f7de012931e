"""Crashes, full and broken disks, and several processes on one cache: never a wrong byte.

What is fetched again is counted at the seeder, what the cache takes by `st_blocks`.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.hardening.observing import KIB, MIB, attribute, disk_bytes, pread, wait_until
from tests.swarm.mounted import Mounted, MountFailed, is_mounted, mounted
from tests.swarm.payload import sha256_file, sha256_tree, write_file, write_tree
from tests.swarm.proxy import proxy
from tests.swarm.seeder import LibtorrentPeer, seed
from tests.swarm.torrents import MadeTorrent, make_torrent

pytestmark = pytest.mark.real

PIECE = 256 * KIB
SIZE = 24 * MIB


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> MadeTorrent:
    return make_film(tmp_path_factory.mktemp("film"), "film", 1)


def make_film(work: Path, name: str, number: int) -> MadeTorrent:
    path = write_file(work / "payload" / f"{name}.bin", number, SIZE)
    return make_torrent(path, work / f"{name}.torrent", piece_length=PIECE)


def is_right(mount: Mounted, made: MadeTorrent) -> bool:
    return sha256_file(mount / made.path.name) == sha256_file(made.path)


def uploaded(peer: LibtorrentPeer) -> int:
    return int(peer.status()["uploaded"])


def tree_of(cache: Path, made: MadeTorrent) -> Path:
    return cache / "torrents" / str(made.v1) / "data"


def recorded_pieces(cache: Path, work: Path) -> int:
    """Pieces in the catalog that a crash left; looked at in a copy, so that nothing is mended."""
    copy = work / "catalog-copy"
    copy.mkdir()
    for file in cache.glob("catalog.sqlite*"):
        shutil.copy(file, copy)
    with sqlite3.connect(copy / "catalog.sqlite") as db:
        parts = db.execute("SELECT bits FROM bits").fetchall()
    db.close()
    return sum(byte.bit_count() for (part,) in parts for byte in part)


@contextmanager
def tmpfs(path: Path, options: str) -> Iterator[Path]:
    """A small file system of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a tmpfs")
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=True, timeout=10)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True, timeout=10)


# -- crashes ----------------------------------------------------------------------------------


def test_kill_9_while_reading_costs_only_what_was_under_way(
    film: MadeTorrent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rate = 8_000_000
    with (
        seed(film.torrent, film.path, tmp_path) as peer,
        proxy(("127.0.0.1", peer.port), tmp_path, rate=rate) as port,  # smoother than a limit
    ):
        options = ("--peer", f"127.0.0.1:{port}", "--xattrs", "-v")
        with mounted(film.torrent, tmp_path, *options) as crashed:
            reader = subprocess.Popen(
                ["cat", crashed / "film.bin"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            assert reader.stdout is not None
            whole = film.path.read_bytes()
            got = reader.stdout.read(SIZE // 2)
            verified = round(float(attribute(crashed / "film.bin", "progress")) * SIZE)
            crashed.kill()
            got += reader.stdout.read()
            reader.stdout.close()
            assert reader.wait(10) != 0
            assert got == whole[: len(got)]
            assert is_mounted(crashed.path)  # stale
            kept = recorded_pieces(tmp_path / "cache", tmp_path) * PIECE
            # What was verified is on disk, but for what waited for its turn just then: a moment.
            assert verified >= SIZE // 2
            assert kept >= verified - rate // 4
            time.sleep(0.5)  # what is still on its way through the proxy is not what comes now
            before = uploaded(peer)
            with mounted(film.torrent, tmp_path, *options) as mount:  # at the same place
                assert "removed the mount that a crashed torrentfs left" in mount.log()
                assert is_right(mount, film)
                again = int(attribute(mount / "film.bin", "downloaded"))
                assert attribute(mount / "film.bin", "hash_failures") == "0"
                sent = uploaded(peer) - before
            with capsys.disabled():
                print(f"\n{verified} bytes were verified, {kept} kept, {again} fetched after it")
            assert again == SIZE - kept  # nothing that was kept, and nothing twice
            assert sent <= again + MIB


def test_kill_9_again_and_again_ends_with_every_byte_right(
    film: MadeTorrent, tmp_path: Path
) -> None:
    dice = random.Random(1)
    with seed(film.torrent, film.path, tmp_path, upload_limit=30_000_000) as peer:
        for _ in range(4):
            with mounted(film.torrent, tmp_path, "--peer", peer.address) as mount:
                reader = subprocess.Popen(
                    ["cat", mount / "film.bin"],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                time.sleep(dice.uniform(0.02, 0.4))
                mount.kill()
                reader.wait(10)
        with mounted(film.torrent, tmp_path, "--peer", peer.address) as mount:
            assert is_right(mount, film)
        before = uploaded(peer)
        with mounted(film.torrent, tmp_path, "--peer", peer.address) as mount:
            assert is_right(mount, film)
        assert uploaded(peer) == before


# -- space ------------------------------------------------------------------------------------


class Watch:
    """The most that a directory took on disk, looked at all the time."""

    def __init__(self, directory: Path) -> None:
        self.most = 0
        self.looks = 0
        self._directory = directory
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(0.002):
            self.most = max(self.most, disk_bytes(self._directory))
            self.looks += 1

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def test_the_cache_keeps_its_size_while_three_times_as_much_is_read(
    film: MadeTorrent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limit = SIZE // 3
    options = ("--cache-size", str(limit), "--memory-limit", "4M", "-v")
    with (
        seed(film.torrent, film.path, tmp_path, upload_limit=20_000_000) as peer,
        mounted(film.torrent, tmp_path, "--peer", peer.address, *options) as mount,
        Watch(tmp_path / "cache" / "torrents") as watch,
    ):
        for _ in range(2):
            assert is_right(mount, film)
            os.sync()
            drop_page_cache(mount / "film.bin")
        with capsys.disabled():
            print(f"\nlimit {limit}, at most {watch.most} in {watch.looks} looks")
        assert watch.looks > 100
        assert limit // 2 < watch.most <= limit + PIECE
    assert disk_bytes(tmp_path / "cache" / "torrents") <= limit + PIECE


def drop_page_cache(file: Path) -> None:
    with file.open("rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def test_a_full_disk(film: MadeTorrent, tmp_path: Path) -> None:
    options = ("--memory-limit", "8M", "-v")
    with (
        tmpfs(tmp_path / "small", "size=8m") as small,
        seed(film.torrent, film.path, tmp_path) as peer,
        mounted(
            film.torrent, tmp_path, "--peer", peer.address, *options, cache=small / "cache"
        ) as mount,
    ):
        for _ in range(2):
            assert is_right(mount, film)
            drop_page_cache(mount / "film.bin")
        assert "no room within --cache-size and free space; going on in memory" in mount.log()


def test_a_disk_that_others_fill_meanwhile(film: MadeTorrent, tmp_path: Path) -> None:
    options = ("--memory-limit", "8M", "-v")
    with (
        tmpfs(tmp_path / "disk", "size=600m") as disk,
        seed(film.torrent, film.path, tmp_path) as peer,
        mounted(
            film.torrent, tmp_path, "--peer", peer.address, *options, cache=disk / "cache"
        ) as mount,
    ):
        assert pread(mount / "film.bin", 8 * MIB, 0) == film.path.read_bytes()[: 8 * MIB]
        wait_until(lambda: disk_bytes(disk / "cache" / "torrents") >= 8 * MIB)
        with (disk / "others").open("wb", buffering=0) as others, contextlib.suppress(OSError):
            while True:
                others.write(bytes(MIB))
        for _ in range(2):
            assert is_right(mount, film)
            drop_page_cache(mount / "film.bin")
        (disk / "others").unlink()


def test_a_disk_without_inodes(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "payload" / "tree", {f"{n}/f{n}.bin": 70_000 for n in range(30)})
    made = make_torrent(tree, tmp_path / "t.torrent", piece_length=64 * KIB)
    with (
        tmpfs(tmp_path / "disk", "size=700m,nr_inodes=24") as disk,
        seed(made.torrent, tree, tmp_path) as peer,
        mounted(
            made.torrent, tmp_path, "--peer", peer.address, "-v", cache=disk / "cache"
        ) as mount,
    ):
        for _ in range(2):
            assert sha256_tree(mount / "tree") == sha256_tree(tree)
        assert "no space left on device" in mount.log()
        assert "going on in memory" in mount.log()


# -- a cache that breaks ----------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before the mount", "during the mount"])
def test_a_cache_that_becomes_read_only(film: MadeTorrent, tmp_path: Path, when: str) -> None:
    with (
        tmpfs(tmp_path / "disk", "size=800m") as disk,
        seed(film.torrent, film.path, tmp_path) as peer,
    ):
        cache = disk / "cache"
        options = ("--peer", peer.address, "--memory-limit", "8M", "-v")
        with mounted(film.torrent, tmp_path, *options, cache=cache) as mount:
            data = pread(mount / "film.bin", 4 * MIB, 0)
            assert data == film.path.read_bytes()[: 4 * MIB]
        remount = ["mount", "-o", "remount,ro", disk]
        if when == "before the mount":
            subprocess.run(remount, check=True, timeout=10)
        with mounted(film.torrent, tmp_path, *options, cache=cache, name="again") as mount:
            if when == "during the mount":
                # its files are open for writing, so the kernel wants them to be made so by force
                done = subprocess.run(remount, timeout=10, capture_output=True, check=False)
                if done.returncode != 0:
                    subprocess.run(["chattr", "+i", cache / "torrents"], timeout=10, check=False)
            for _ in range(2):
                assert is_right(mount, film)
                drop_page_cache(mount / "film.bin")
            if when == "before the mount":
                assert "going on in memory" in mount.log()


def test_a_cache_deleted_under_the_mount(film: MadeTorrent, tmp_path: Path) -> None:
    with (
        seed(film.torrent, film.path, tmp_path) as peer,
        mounted(
            film.torrent, tmp_path, "--peer", peer.address, "--memory-limit", "8M", "-v"
        ) as mount,
    ):
        assert pread(mount / "film.bin", 8 * MIB, 0) == film.path.read_bytes()[: 8 * MIB]
        wait_until(lambda: disk_bytes(tmp_path / "cache" / "torrents") >= 8 * MIB)
        shutil.rmtree(tmp_path / "cache")
        drop_page_cache(mount / "film.bin")
        for _ in range(2):
            assert is_right(mount, film)
            drop_page_cache(mount / "film.bin")
        assert mount.end() == 0
        assert "Traceback" not in mount.log()


@pytest.mark.parametrize("crash", [False, True], ids=["after a clean end", "after kill -9"])
def test_damaged_files_are_found_and_only_their_pieces_fetched_again(
    film: MadeTorrent, tmp_path: Path, crash: bool
) -> None:
    damaged = range(0, SIZE // PIECE, 7)
    with seed(film.torrent, film.path, tmp_path) as peer:
        options = ("--peer", peer.address, "-v")
        with mounted(film.torrent, tmp_path, *options) as mount:
            assert is_right(mount, film)
            kept = tree_of(tmp_path / "cache", film) / "film.bin"
            wait_until(lambda: kept.stat().st_blocks * 512 >= SIZE)
            time.sleep(0.3)
            if crash:
                mount.kill()
        about = kept.stat()
        with kept.open("r+b") as stream:
            for piece in damaged:
                stream.seek(piece * PIECE + 12_345)
                byte = stream.read(1)[0]
                stream.seek(-1, os.SEEK_CUR)
                stream.write(bytes([byte ^ 1]))
        os.utime(kept, ns=(about.st_atime_ns, about.st_mtime_ns))
        before = uploaded(peer)
        with mounted(film.torrent, tmp_path, *options) as mount:
            assert is_right(mount, film)
        assert uploaded(peer) - before == len(damaged) * PIECE
        with mounted(film.torrent, tmp_path, *options) as mount:
            assert is_right(mount, film)
        assert uploaded(peer) - before == len(damaged) * PIECE
        assert sha256_file(kept) == sha256_file(film.path)


def with_garbage(catalog: Path) -> None:
    catalog.write_bytes(random.Random(1).randbytes(catalog.stat().st_size))


def cut_in_half(catalog: Path) -> None:
    os.truncate(catalog, catalog.stat().st_size // 2)


def emptied(catalog: Path) -> None:
    os.truncate(catalog, 0)


def with_flipped_bytes(catalog: Path) -> None:
    dice = random.Random(2)
    data = bytearray(catalog.read_bytes())
    for _ in range(200):
        data[dice.randrange(100, len(data))] ^= 1 << dice.randrange(8)
    catalog.write_bytes(data)


def replaced_by_a_directory(catalog: Path) -> None:
    catalog.unlink()
    catalog.mkdir()


def unreadable_log(catalog: Path) -> None:
    catalog.with_name(catalog.name + "-wal").write_bytes(random.Random(3).randbytes(50_000))


@pytest.mark.parametrize(
    "harm",
    [
        with_garbage,
        cut_in_half,
        emptied,
        with_flipped_bytes,
        replaced_by_a_directory,
        unreadable_log,
        Path.unlink,
    ],
)
def test_a_damaged_catalog(film: MadeTorrent, tmp_path: Path, harm: Callable[[Path], None]) -> None:
    with seed(film.torrent, film.path, tmp_path) as peer:
        options = ("--peer", peer.address, "-v")
        with mounted(film.torrent, tmp_path, *options) as mount:
            assert is_right(mount, film)
        harm(tmp_path / "cache" / "catalog.sqlite")
        for _ in range(2):
            with mounted(film.torrent, tmp_path, *options) as mount:
                assert is_right(mount, film)
                assert "Traceback" not in mount.log()


# -- two at a time ----------------------------------------------------------------------------


def test_a_second_mount_at_the_same_place_is_refused(film: MadeTorrent, tmp_path: Path) -> None:
    with (
        seed(film.torrent, film.path, tmp_path) as peer,
        mounted(film.torrent, tmp_path, "--peer", peer.address) as first,
    ):
        with (
            pytest.raises(MountFailed, match="ended with 2") as refused,
            refused_mount(film, tmp_path, first),
        ):
            pass
        assert "is busy: torrentfs is mounted there" in str(refused.value)
        assert is_mounted(first.path)
        assert is_right(first, film)


@contextmanager
def refused_mount(film: MadeTorrent, work: Path, first: Mounted) -> Iterator[None]:
    """A mount over another one; the kit sees entries there at once, those of the first."""
    from tests.swarm.mounted import TORRENTFS

    done = subprocess.run(
        [TORRENTFS, "mount", "-f", "--cache-dir", first.cache, film.torrent, first.path],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    if done.returncode:
        raise MountFailed(f"ended with {done.returncode}: {done.stderr}")
    yield


@pytest.mark.parametrize("same", [True, False], ids=["the same torrent", "different torrents"])
def test_two_processes_on_one_cache(film: MadeTorrent, tmp_path: Path, same: bool) -> None:
    other = film if same else make_film(tmp_path, "other", 2)
    limit = SIZE  # for both together
    with (
        seed(film.torrent, film.path, tmp_path / "one", upload_limit=40_000_000) as one,
        seed(other.torrent, other.path, tmp_path / "two", upload_limit=40_000_000) as two,
    ):
        options = ("--cache-size", str(limit), "--memory-limit", "4M", "-v")
        with (
            mounted(film.torrent, tmp_path, "--peer", one.address, *options, name="a") as a,
            mounted(other.torrent, tmp_path, "--peer", two.address, *options, name="b") as b,
            Watch(tmp_path / "cache" / "torrents") as watch,
        ):
            copies = [
                subprocess.Popen(["cp", mount / made.path.name, tmp_path / f"copy{n}"])
                for n, (mount, made) in enumerate([(a, film), (b, other)])
            ]
            assert [copy.wait(40) for copy in copies] == [0, 0]
            for n, made in enumerate([film, other]):
                assert sha256_file(tmp_path / f"copy{n}") == sha256_file(made.path)
            for mount, made in [(a, film), (b, other)]:
                drop_page_cache(mount / made.path.name)
                assert is_right(mount, made)
            assert "Traceback" not in a.log() + b.log()
        # Each may always use its equal share; what one took of the other's it gives back within
        # a sync interval, so the sum may be over the limit for a moment, by that share.
        assert watch.most <= limit * 3 // 2 + 2 * PIECE
        with mounted(film.torrent, tmp_path, "--peer", one.address, *options, name="c") as c:
            assert is_right(c, film)


def test_one_of_two_on_one_cache_crashes(film: MadeTorrent, tmp_path: Path) -> None:
    with seed(film.torrent, film.path, tmp_path) as peer:
        options = ("--peer", peer.address, "-v")
        with (
            mounted(film.torrent, tmp_path, *options, name="a") as a,
            mounted(film.torrent, tmp_path, *options, name="b") as b,
        ):
            assert is_right(a, film)
            assert len(pread(b / "film.bin", 4 * MIB, 0)) == 4 * MIB
            a.kill()
            assert is_right(b, film)
            with mounted(film.torrent, tmp_path, *options, name="c") as c:
                before = uploaded(peer)
                assert is_right(c, film)
                assert uploaded(peer) - before <= SIZE // 4  # most of what `a` kept is found
