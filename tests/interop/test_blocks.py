"""v2 and hybrid torrents by the block (BEP 52), with libtorrent and among ourselves.

libtorrent gives block hashes of what it has hashed itself (`check=True`), and rejects the question
for what it was told to believe.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.hardening.observing import attribute
from tests.interop.copying import assert_same
from tests.swarm.hostile import Payload, hostile_peer, liar
from tests.swarm.mounted import Mounted, mounted
from tests.swarm.nginx import web_seed
from tests.swarm.payload import write_file, write_tree
from tests.swarm.ports import free_port
from tests.swarm.seeder import download, seed
from tests.swarm.torrents import MadeTorrent, Version, make_torrent

pytestmark = pytest.mark.real

KIB = 1024
MIB = 1024 * KIB
SIZE = 48 * MIB + 5000
PIECE = 2 * MIB
READ = 64 * KIB
PLACES = [(n * 7 % 23) * 2 * MIB + MIB + n * 16 * KIB for n in range(23)]
"""Nowhere near each other, nor the ends: no window and no hint is opened."""


def made(work: Path, version: Version, size: int = SIZE) -> MadeTorrent:
    file = write_file(work / "payload" / "film.bin", 3, size)
    return make_torrent(file, work / "t.torrent", version=version, piece_length=PIECE)


def read_at_random(mount: Mounted, file: Path) -> int:
    """Read in many places, each rightly; the bytes that were fetched for it."""
    right = file.read_bytes()
    fd = os.open(mount / "film.bin", os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        for place in PLACES:
            assert os.pread(fd, READ, place) == right[place : place + READ]
    finally:
        os.close(fd)
    return int(attribute(mount / "film.bin", "downloaded"))


@pytest.mark.parametrize("version", ["v2", "hybrid"])
def test_random_reads_cost_the_blocks_under_them(tmp_path: Path, version: Version) -> None:
    torrent = made(tmp_path, version)
    with (
        seed(torrent.torrent, torrent.path, tmp_path, check=True) as peer,
        mounted(torrent.torrent, tmp_path, "--peer", peer.address, "--xattrs", "-vv") as mount,
    ):
        mount.wait_log("connected")
        fetched = read_at_random(mount, torrent.path)
        assert fetched <= 1.3 * len(PLACES) * READ
        assert attribute(mount / "film.bin", "hash_failures") == "0"
        # what was read by the block is put together with the rest
        assert_same(mount / "film.bin", torrent.path)
        assert int(attribute(mount / "film.bin", "downloaded")) <= SIZE + MIB


@pytest.mark.parametrize("hashes", ["both", "v1"])
def test_a_hybrid_magnet_gets_its_piece_layers_while_it_is_read(
    tmp_path: Path, hashes: str
) -> None:
    """With pieces of 16 MiB, where v1 would fetch nearly all of it for a few reads."""
    file = write_file(tmp_path / "payload" / "film.bin", 3, 160 * MIB + 5000)
    torrent = make_torrent(file, tmp_path / "t.torrent", version="hybrid", piece_length=16 * MIB)
    magnet = torrent.magnet() if hashes == "both" else f"magnet:?xt=urn:btih:{torrent.v1}"
    right = torrent.path
    with seed(torrent.torrent, torrent.path, tmp_path, check=True) as peer:
        with mounted(magnet, tmp_path, "--peer", peer.address, "--xattrs", "-vv") as mount:
            mount.wait_log("piece layers came")
            assert read_at_random(mount, right) < 2 * len(PLACES) * READ
        # they were stored: nobody is asked for them again
        with mounted(
            magnet, tmp_path, "--peer", peer.address, "--xattrs", "-vv", name="again"
        ) as mount:
            mount.wait_log("connected")
            assert read_at_random(mount, right) < 2 * len(PLACES) * READ
        assert "piece layers came" not in (tmp_path / "again.log").read_text()


@pytest.mark.parametrize("version", ["v2", "hybrid"])
def test_a_seeder_without_block_hashes_gives_whole_pieces(tmp_path: Path, version: Version) -> None:
    torrent = made(tmp_path, version)
    with (
        seed(torrent.torrent, torrent.path, tmp_path) as peer,
        mounted(torrent.torrent, tmp_path, "--peer", peer.address, "--xattrs", "-vv") as mount,
    ):
        mount.wait_log("connected")
        fetched = read_at_random(mount, torrent.path)
        assert fetched > 2 * len(PLACES) * READ
        assert_same(mount / "film.bin", torrent.path)


def test_block_hashes_of_a_peer_prove_what_a_web_seed_gives(tmp_path: Path) -> None:
    torrent = made(tmp_path, "hybrid")
    with (
        seed(torrent.torrent, torrent.path, tmp_path, check=True) as peer,
        web_seed(torrent.path.parent, tmp_path) as web,
        mounted(
            torrent.torrent,
            tmp_path,
            *("--peer", peer.address, "--web-seed", web.url(), "--xattrs", "-vv"),
        ) as mount,
    ):
        mount.wait_log("connected")
        assert read_at_random(mount, torrent.path) <= 2 * len(PLACES) * READ


def test_a_liar_is_found_by_its_first_block(tmp_path: Path) -> None:
    """Of a hybrid torrent: the hostile peer knows nothing of v2, nor of encryption."""
    torrent = made(tmp_path, "hybrid")
    with (
        hostile_peer(Payload.of_file(torrent.path, PIECE), liar()) as hostile,
        seed(torrent.torrent, torrent.path, tmp_path, check=True, upload_limit=MIB) as peer,
        mounted(
            torrent.torrent,
            tmp_path,
            *("--peer", peer.address, "--peer", hostile.address, "--xattrs", "-vv"),
            *("--encryption", "off"),
        ) as mount,
    ):
        mount.wait_log("connected")
        read_at_random(mount, torrent.path)
        assert hostile.wait_dropped(10)
        log = mount.log()
        assert f"banned 127.0.0.1:{hostile.port}" in log
        assert f"banned {peer.address}" not in log


@pytest.mark.parametrize("version", ["v2", "hybrid"])
def test_we_give_each_other_block_hashes(tmp_path: Path, version: Version) -> None:
    torrent = made(tmp_path, version)
    port = free_port()
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    with (
        seed(torrent.torrent, torrent.path, tmp_path) as peer,
        mounted(
            torrent.torrent, first, "--peer", peer.address, "--port", str(port), "-vv"
        ) as giver,
    ):
        assert_same(giver / "film.bin", torrent.path)
        with mounted(
            torrent.torrent, second, "--peer", f"127.0.0.1:{port}", "--xattrs", "-vv"
        ) as taker:
            taker.wait_log("connected")
            assert read_at_random(taker, torrent.path) <= 1.3 * len(PLACES) * READ


def test_hybrid_trees_arrive_whole_over_upgraded_connections(tmp_path: Path) -> None:
    """Padding between the files belongs to pieces, also where the v2 hash was agreed on."""
    port = free_port()
    sizes = {"a": 5000, "b": 3 * 256 * KIB + 77, "c": 1, "d": 256 * KIB}
    tree = write_tree(tmp_path / "payload" / "tree", sizes)
    torrent = make_torrent(tree, tmp_path / "t.torrent", version="hybrid", piece_length=256 * KIB)
    with (
        seed(torrent.torrent, torrent.path, tmp_path, check=True) as peer,
        mounted(
            torrent.torrent, tmp_path, "--peer", peer.address, "--port", str(port), "-vv"
        ) as mount,
    ):
        for name in sizes:
            assert_same(mount / "tree" / name, tree / name)
        here = [("127.0.0.1", port)]
        with download(torrent.torrent, tmp_path / "got", tmp_path, peers=here) as leech:
            leech.wait_done(30)
        for name in sizes:
            assert_same(tmp_path / "got" / "tree" / name, tree / name)
