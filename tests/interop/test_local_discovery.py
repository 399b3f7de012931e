"""Peers learned by local discovery alone carry a read; a private torrent is never named."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop.copying import KIB, MIB, copy_equals, wait_until
from tests.swarm.mounted import MountFailed, mounted
from tests.swarm.payload import sha256_file, write_file
from tests.swarm.seeder import seed
from tests.swarm.torrents import MadeTorrent, make_torrent
from torrentfs.wire.lsd import GROUP4, LocalAnnounce, parse_announce

pytestmark = pytest.mark.real

ON = {"TORRENTFS_NO_LSD": "0"}
LOOPBACK = ("--bind-interface", "lo", "-vv")
"""Multicast goes out by the interface of that address: nothing leaves the machine."""


def make(tmp_path: Path, name: str, *, private: bool = False) -> MadeTorrent:
    file = write_file(tmp_path / "payload" / f"{name}.mkv", len(name), 2 * MIB + 5)
    return make_torrent(file, tmp_path / f"{name}.torrent", piece_length=256 * KIB, private=private)


class Ear:
    """Hears what is multicast on loopback."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.heard: list[LocalAnnounce] = []

    def listen(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                self.heard.append(parse_announce(self._socket.recv(2000)))
            except TimeoutError:
                return

    def names(self, made: MadeTorrent) -> bool:
        return any(made.v1 == h.hex() for one in self.heard for h in one.info_hashes)


@contextmanager
def ear() -> Iterator[Ear]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(GROUP4)
        member = socket.inet_aton(GROUP4[0]) + socket.inet_aton("127.0.0.1")
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        yield Ear(sock)


@pytest.mark.parametrize("by_magnet", [False, True], ids=["file", "magnet"])
def test_two_mounts_find_each_other(tmp_path: Path, by_magnet: bool) -> None:
    made = make(tmp_path, "film")
    with seed(made.torrent, made.path, tmp_path) as seeder:
        options = ("--peer", seeder.address, *LOOPBACK)
        with mounted(
            made.torrent, tmp_path, *options, cache=tmp_path / "c1", environment=ON
        ) as one:
            copy_equals(one / made.path.name, made.path, tmp_path)
            seeder.kill()
            with mounted(
                made.magnet() if by_magnet else made.torrent,
                tmp_path,
                *LOOPBACK,
                cache=tmp_path / "c2",
                environment=ON,
                name="second",
            ) as second:
                assert sha256_file(second / made.path.name) == sha256_file(made.path)


def test_a_private_torrent_is_never_named(tmp_path: Path) -> None:
    public, private = make(tmp_path, "open"), make(tmp_path, "closed", private=True)
    with (
        ear() as heard,
        mounted([public.torrent, private.torrent], tmp_path, *LOOPBACK, environment=ON),
    ):
        wait_until(lambda: heard.listen(0.2) or heard.names(public))
        heard.listen(2)
        assert not heard.names(private)


def test_switched_off_nothing_is_said(tmp_path: Path) -> None:
    made = make(tmp_path, "film")
    with ear() as heard, mounted(made.torrent, tmp_path, *LOOPBACK):
        heard.listen(2)
        assert not heard.names(made)


def test_a_magnet_that_is_taken_for_private_is_not_named(tmp_path: Path) -> None:
    """Before its metadata is known, `--private` counts."""
    made = make(tmp_path, "film")
    options = ("--metadata-timeout", "2s", *LOOPBACK)
    with ear() as heard:
        for more in (("--private",), ()):
            assert not heard.names(made)
            with (
                pytest.raises(MountFailed),
                mounted(made.magnet(), tmp_path, *options, *more, environment=ON),
            ):
                pass
            heard.listen(0.5)
        assert heard.names(made)
