"""Torrents of a mount sleep and wake, with real seeders: who waits its turn is read all the same,
and who sleeps has no socket."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from tests.hardening.observing import attribute, blocked_readers, pread, wait_until
from tests.swarm.hostile import Payload, hostile_peer, staller
from tests.swarm.mounted import Mounted, mounted
from tests.swarm.payload import sha256_file, write_file
from tests.swarm.seeder import LibtorrentPeer, seed
from tests.swarm.torrents import MadeTorrent, make_torrent
from torrentfs.scheduling.turns import PATIENCE, REST

pytestmark = pytest.mark.real

KIB = 1024
MIB = 1024 * KIB
PIECE = 64 * KIB


class Film(NamedTuple):
    made: MadeTorrent
    seeder: LibtorrentPeer

    @property
    def name(self) -> str:
        return self.made.path.name


@contextmanager
def films(work: Path, count: int, size: int = 6 * MIB) -> Iterator[list[Film]]:
    with ExitStack() as stack:
        found = []
        for number in range(count):
            path = write_file(work / "payload" / f"film{number}.mkv", number, size)
            made = make_torrent(path, work / f"film{number}.torrent", piece_length=PIECE)
            found.append(Film(made, stack.enter_context(seed(made.torrent, path, work))))
        yield found


def peer_options(films: list[Film]) -> list[str]:
    return [option for film in films for option in ("--peer", film.seeder.address)]


def connected(mount: Mounted, films: list[Film]) -> list[str]:
    """The names of the films whose seeders the mount has a connection to."""
    ports = {
        connection.raddr.port
        for connection in psutil.Process(mount.pid).net_connections("tcp")
        if connection.status == psutil.CONN_ESTABLISHED and connection.raddr
    }
    return [film.name for film in films if film.seeder.port in ports]


def descriptors(mount: Mounted) -> int:
    return psutil.Process(mount.pid).num_fds()


def test_three_share_one_place_and_who_sleeps_has_no_socket(tmp_path: Path) -> None:
    """docs/semantics.md: "At most `--max-active` torrents have peers at a time; reads of
    others wait their turn".
    """
    with films(tmp_path, 3) as three:
        sources = [film.made.torrent for film in three]
        options = ("--max-active", "1", "--xattrs", "--no-utp", "--encryption", "off")
        with mounted(sources, tmp_path, *options, *peer_options(three)) as mount:
            assert attribute(mount / three[0].name, "state") == "ready"  # the first had the place
            with ThreadPoolExecutor(3) as readers:
                sums = list(readers.map(lambda film: sha256_file(mount / film.name), three))
            assert sums == [sha256_file(film.made.path) for film in three]
            # a seeder may see a stray call of another torrent, which it hangs up on
            wait_until(lambda: len(connected(mount, three)) == 1)
            for film in three:
                assert int(attribute(mount / film.name, "downloaded")) == 6 * MIB
                assert attribute(mount / film.name, "wasted") == "0"


def test_unused_they_sleep_and_wake_at_the_next_read(tmp_path: Path) -> None:
    with films(tmp_path, 2) as two:
        sources = [film.made.torrent for film in two]
        options = ("--idle-timeout", "1s", "--xattrs", "--no-utp", "-vv")
        with mounted(sources, tmp_path, *options, *peer_options(two)) as mount:
            first = [film.made.path.read_bytes()[: 64 * KIB] for film in two]
            for _ in range(2):
                for film, start in zip(two, first, strict=True):
                    assert pread(mount / film.name, 64 * KIB, 0) == start
            awake = descriptors(mount)
            wait_until(lambda: not connected(mount, two))
            names = [film.name for film in two]
            wait_until(lambda: {attribute(mount / n, "state") for n in names} == {"asleep"})
            wait_until(lambda: descriptors(mount) < awake)
            assert all(int(attribute(mount / name, "downloaded")) for name in names)
            asleep = descriptors(mount)
            waits = []
            for number in range(1, 6):
                for film in two:
                    with film.made.path.open("rb") as original:
                        original.seek(number * MIB)
                        began = time.perf_counter()
                        found = pread(mount / film.name, 4 * KIB, number * MIB)
                        waits.append(time.perf_counter() - began)
                        assert found == original.read(4 * KIB)
                wait_until(lambda: {attribute(mount / n, "state") for n in names} == {"asleep"})
            wait_until(lambda: descriptors(mount) <= asleep)
            waits.sort()
            print(
                f"\nfirst byte of a torrent that sleeps: median {waits[5] * 1000:.0f} ms,"
                f" longest {waits[-1] * 1000:.0f} ms"
            )
            assert waits[5] < 1


def test_a_dead_torrent_with_blocked_reads_holds_up_nobody(tmp_path: Path) -> None:
    dead = write_file(tmp_path / "payload" / "dead.bin", 7, 4 * MIB)
    made = make_torrent(dead, tmp_path / "dead.torrent", piece_length=PIECE)
    with (
        films(tmp_path, 1) as (film,),
        hostile_peer(Payload.of_file(dead, PIECE), staller()) as peer,
        mounted(
            [made.torrent, film.made.torrent],
            tmp_path,
            *("--max-active", "1", "--read-timeout", "60s", "--no-utp"),
            *("--peer", peer.address, "--peer", film.seeder.address),
        ) as mount,
        blocked_readers(mount / "dead.bin", 8),
    ):
        began = time.monotonic()
        assert pread(mount / film.name, PIECE, 0) == film.made.path.read_bytes()[:PIECE]
        assert time.monotonic() - began < 2 * PATIENCE
        # known to be dead by now, it waits behind: the rest is read without it
        began = time.monotonic()
        assert sha256_file(mount / film.name) == sha256_file(film.made.path)
        assert time.monotonic() - began < 2 * PATIENCE
        time.sleep(2 * REST)  # the dead one has its turn again, and its reads still wait
        assert os.getpgid(mount.pid)
        assert "cannot read" not in mount.log()
