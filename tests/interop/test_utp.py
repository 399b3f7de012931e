"""uTP to and from libtorrent, with TCP switched off on both sides."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.copying import KIB, MIB, assert_same, copy_equals, wait_until
from tests.swarm.mounted import mounted
from tests.swarm.payload import sha256_file, write_file
from tests.swarm.ports import free_port
from tests.swarm.seeder import download, seed
from tests.swarm.torrents import make_torrent

pytestmark = pytest.mark.real

NO_TCP = {"enable_incoming_tcp": False, "enable_outgoing_tcp": False}
SIZE = 1024 * MIB
"""Of the large file."""


@pytest.mark.timeout(180)
def test_much_is_read_from_libtorrent(tmp_path: Path) -> None:
    file = write_file(tmp_path / "payload" / "film.mkv", 1, SIZE)
    made = make_torrent(file, tmp_path / "t.torrent", piece_length=MIB)
    with (
        seed(made.torrent, file, tmp_path, utp=True, settings=NO_TCP) as seeder,
        mounted(made.torrent, tmp_path, "--peer", seeder.address, "--no-tcp", "-vv") as mount,
    ):
        assert sha256_file(mount / file.name) == sha256_file(file)
        assert "<Peer utp" in mount.log()
        assert "<Peer tcp" not in mount.log()


@pytest.mark.parametrize("encryption", ["prefer", "require", "off"])
def test_libtorrent_dials_and_reads_from_us(tmp_path: Path, encryption: str) -> None:
    file = write_file(tmp_path / "payload" / "film.mkv", 2, 24 * MIB + 7)
    made = make_torrent(file, tmp_path / "t.torrent", piece_length=256 * KIB)
    port = free_port()
    options = ("--no-tcp", "--port", str(port), "--encryption", encryption, "-vv")
    policy = {**NO_TCP, "out_enc_policy": 1}  # pe_enabled: encrypted first, then plain
    with seed(made.torrent, file, tmp_path, utp=True, settings=NO_TCP) as seeder:
        with mounted(made.torrent, tmp_path, "--peer", seeder.address, *options) as mount:
            copy_equals(mount / file.name, file, tmp_path)
            seeder.kill()
            here = [("127.0.0.1", port)]
            with download(
                made.torrent, tmp_path / "got", tmp_path, peers=here, utp=True, settings=policy
            ) as peer:
                peer.wait_done(30)
            # probes of the path's size arrive there like any packet
            wait_until(lambda: "<PathMtu 1472" in mount.log())
        assert_same(tmp_path / "got" / file.name, file)


def test_over_ipv6(tmp_path: Path) -> None:
    file = write_file(tmp_path / "payload" / "film.mkv", 3, 8 * MIB + 7)
    made = make_torrent(file, tmp_path / "t.torrent", piece_length=256 * KIB)
    with (
        seed(
            made.torrent, file, tmp_path, ipv4=False, ipv6=True, utp=True, settings=NO_TCP
        ) as seeder,
        mounted(made.torrent, tmp_path, "--peer", seeder.address, "--no-tcp") as mount,
    ):
        copy_equals(mount / file.name, file, tmp_path)


def test_tcp_wins_where_both_are_possible(tmp_path: Path) -> None:
    file = write_file(tmp_path / "payload" / "film.mkv", 4, MIB)
    made = make_torrent(file, tmp_path / "t.torrent", piece_length=256 * KIB)
    with (
        seed(made.torrent, file, tmp_path, utp=True) as seeder,
        mounted(made.torrent, tmp_path, "--peer", seeder.address, "-vv") as mount,
    ):
        copy_equals(mount / file.name, file, tmp_path)
        assert "<Peer tcp" in mount.log()


def test_utp_is_tried_where_tcp_is_closed(tmp_path: Path) -> None:
    file = write_file(tmp_path / "payload" / "film.mkv", 5, MIB)
    made = make_torrent(file, tmp_path / "t.torrent", piece_length=256 * KIB)
    with (
        seed(made.torrent, file, tmp_path, utp=True, settings=NO_TCP) as seeder,
        mounted(made.torrent, tmp_path, "--peer", seeder.address, "-vv") as mount,
    ):
        copy_equals(mount / file.name, file, tmp_path)
        assert "<Peer utp" in mount.log()


def test_two_mounts_of_ours(tmp_path: Path) -> None:
    file = write_file(tmp_path / "payload" / "film.mkv", 6, 24 * MIB + 7)
    made = make_torrent(file, tmp_path / "t.torrent", piece_length=256 * KIB)
    port = free_port()
    with seed(made.torrent, file, tmp_path) as seeder:
        options = ("--peer", seeder.address, "--port", str(port))
        with mounted(made.torrent, tmp_path, *options, cache=tmp_path / "c1") as first:
            copy_equals(first / file.name, file, tmp_path)
            seeder.kill()
            with mounted(
                made.torrent,
                tmp_path,
                *("--peer", f"127.0.0.1:{port}", "--no-tcp", "-vv"),
                cache=tmp_path / "c2",
                name="second",
            ) as second:
                assert sha256_file(second / file.name) == sha256_file(file)
                wait_until(lambda: "<Peer utp" in second.log())
