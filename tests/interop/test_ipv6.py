"""Peers on ::1, dialled by us and dialling us (BEP 7 and the plain TCP of BEP 3)."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.interop.copying import MIB, VERSIONS, assert_same, copy_equals
from tests.interop.udp6tracker import udp6_tracker
from tests.swarm.mounted import mounted
from tests.swarm.payload import write_file
from tests.swarm.ports import free_port
from tests.swarm.seeder import download, seed
from tests.swarm.torrents import Version, make_torrent
from tests.swarm.tracker import tracker

pytestmark = pytest.mark.real


@pytest.mark.parametrize("by_magnet", [False, True], ids=["file", "magnet"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_peer_that_is_only_on_ipv6(tmp_path: Path, version: Version, by_magnet: bool) -> None:
    file = write_file(tmp_path / "payload" / "six.bin", 6, 2 * MIB + 6)
    made = make_torrent(file, tmp_path / "t.torrent", version=version)
    with seed(made.torrent, file, tmp_path, ipv4=False, ipv6=True) as seeder:
        assert seeder.address.startswith("[::1]:")
        source = made.magnet() if by_magnet else made.torrent
        with mounted(source, tmp_path, "--peer", seeder.address) as mount:
            copy_equals(mount / file.name, file, tmp_path)


def test_a_magnet_names_a_peer_on_ipv6(tmp_path: Path) -> None:
    file = write_file(tmp_path / "payload" / "six.bin", 6, MIB)
    made = make_torrent(file, tmp_path / "t.torrent")
    with (
        seed(made.torrent, file, tmp_path, ipv4=False, ipv6=True) as seeder,
        mounted(made.magnet(**{"x.pe": seeder.address}), tmp_path) as mount,
    ):
        copy_equals(mount / file.name, file, tmp_path)


@pytest.mark.parametrize("host", ["::1", "127.0.0.1"])
def test_both_families_reach_one_port(tmp_path: Path, host: str) -> None:
    file = write_file(tmp_path / "payload" / "both.bin", 7, 2 * MIB + 7)
    made = make_torrent(file, tmp_path / "t.torrent")
    port = free_port()
    with (
        seed(made.torrent, file, tmp_path, ipv4=False, ipv6=True) as seeder,
        mounted(made.torrent, tmp_path, "--peer", seeder.address, "--port", str(port)) as mount,
    ):
        copy_equals(mount / file.name, file, tmp_path)
        seeder.kill()
        with download(
            made.magnet(), tmp_path / "got", tmp_path, peers=[(host, port)], ipv6=True
        ) as peer:
            peer.wait_done(30)
        assert_same(tmp_path / "got" / file.name, file)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_tracker_on_ipv6_over_http(tmp_path: Path, version: Version) -> None:
    """A peer that is only on ::1, found by a tracker that is only on ::1 (BEP 7)."""
    file = write_file(tmp_path / "payload" / "six.bin", 8, MIB + 8)
    made = make_torrent(file, tmp_path / "t.torrent", version=version)
    with (
        tracker(tmp_path, http_host="::1") as server,
        seed(made.torrent, file, tmp_path, ipv4=False, ipv6=True, trackers=[server.http]),
    ):
        server.wait_announce("start")
        with mounted(made.magnet(tr=server.http), tmp_path) as mount:
            copy_equals(mount / file.name, file, tmp_path)


def test_a_tracker_on_ipv6_over_udp_hears_of_us(tmp_path: Path) -> None:
    """That tracker never tells of IPv6 peers over UDP; the next test has one that does."""
    file = write_file(tmp_path / "payload" / "six.bin", 8, MIB + 8)
    made = make_torrent(file, tmp_path / "t.torrent")
    with tracker(tmp_path) as server:
        with mounted(made.torrent, tmp_path, "--tracker", server.udp6) as mount:
            assert server.wait_announce("start").startswith("::1:")
            assert mount.end() == 0
        server.wait_announce("stop")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_tracker_on_ipv6_over_udp(tmp_path: Path, version: Version) -> None:
    file = write_file(tmp_path / "payload" / "six.bin", 8, MIB + 8)
    made = make_torrent(file, tmp_path / "t.torrent", version=version)
    with (
        udp6_tracker() as url,
        seed(made.torrent, file, tmp_path, ipv4=False, ipv6=True) as seeder,
        ExitStack() as stack,
    ):
        first = stack.enter_context(
            mounted(
                made.torrent,
                tmp_path,
                *("--peer", seeder.address, "--tracker", url),
                name="first",
                cache=tmp_path / "cache 1",
            )
        )
        copy_equals(first / file.name, file, tmp_path)
        seeder.kill()
        # The second mount knows the tracker only, which told it of the first, by IPv6.
        second = stack.enter_context(
            mounted(made.magnet(tr=url), tmp_path, name="second", cache=tmp_path / "cache 2")
        )
        copy_equals(second / file.name, file, tmp_path / "cache 2")
