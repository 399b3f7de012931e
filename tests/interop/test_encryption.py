"""Encrypted connections with libtorrent: wanted by one side, by both, refused; as it behaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.copying import KIB, MIB, assert_same, copy_equals, wait_until
from tests.swarm.mounted import MountFailed, mounted
from tests.swarm.payload import write_file
from tests.swarm.ports import free_port
from tests.swarm.seeder import download, seed
from tests.swarm.torrents import MadeTorrent, make_torrent

pytestmark = pytest.mark.real

FORCED, ENABLED, DISABLED = range(3)
PLAINTEXT, RC4, BOTH = 1, 2, 3


def policy(number: int, level: int = BOTH) -> dict[str, int]:
    return {"in_enc_policy": number, "out_enc_policy": number, "allowed_enc_level": level}


@pytest.fixture
def made(tmp_path: Path) -> MadeTorrent:
    file = write_file(tmp_path / "payload" / "film.mkv", 1, 3 * MIB + 5)
    return make_torrent(file, tmp_path / "t.torrent", piece_length=256 * KIB)


MEET = [
    # ours, theirs, their level; is the handshake encrypted, is the stream
    ("prefer", ENABLED, BOTH, True, False),
    ("prefer", FORCED, BOTH, True, False),
    ("prefer", FORCED, RC4, True, True),
    ("prefer", DISABLED, BOTH, False, False),
    ("require", ENABLED, BOTH, True, True),
    ("require", FORCED, BOTH, True, True),
    ("require", FORCED, RC4, True, True),
    ("off", ENABLED, BOTH, False, False),
    ("off", DISABLED, BOTH, False, False),
]
PART = [
    ("off", FORCED, BOTH),
    ("require", DISABLED, BOTH),
    ("require", FORCED, PLAINTEXT),
]


@pytest.mark.parametrize(("ours", "theirs", "level", "encrypted", "rc4"), MEET)
def test_we_dial(
    tmp_path: Path,
    made: MadeTorrent,
    ours: str,
    theirs: int,
    level: int,
    encrypted: bool,
    rc4: bool,
) -> None:
    with (
        seed(made.torrent, made.path, tmp_path, settings=policy(theirs, level)) as seeder,
        mounted(made.torrent, tmp_path, "--peer", seeder.address, "--encryption", ours) as mount,
    ):
        copy_equals(mount / made.path.name, made.path, tmp_path)
        (peer,) = seeder.peers()
        assert (peer["encrypted"], peer["rc4"]) == (encrypted, rc4)


@pytest.mark.parametrize(("ours", "theirs", "level"), PART)
def test_we_dial_in_vain(
    tmp_path: Path, made: MadeTorrent, ours: str, theirs: int, level: int
) -> None:
    """A magnet that needs that peer: nothing is mounted, and nothing was sent."""
    with seed(made.torrent, made.path, tmp_path, settings=policy(theirs, level)) as seeder:
        options = ("--peer", seeder.address, "--encryption", ours, "--metadata-timeout", "3s")
        with pytest.raises(MountFailed), mounted(made.magnet(), tmp_path, *options):
            pass
        assert seeder.status()["uploaded"] == 0


@pytest.mark.parametrize(("ours", "theirs", "level", "encrypted", "rc4"), MEET)
def test_libtorrent_dials(
    tmp_path: Path,
    made: MadeTorrent,
    ours: str,
    theirs: int,
    level: int,
    encrypted: bool,
    rc4: bool,
) -> None:
    port = free_port()
    with seed(made.torrent, made.path, tmp_path, settings=policy(ENABLED)) as seeder:
        options = ("--peer", seeder.address, "--port", str(port), "--encryption", ours)
        with mounted(made.torrent, tmp_path, *options) as mount:
            copy_equals(mount / made.path.name, made.path, tmp_path)
            seeder.kill()
            settings = policy(theirs, level)
            here = [("127.0.0.1", port)]
            with download(
                made.torrent, tmp_path / "got", tmp_path, peers=here, settings=settings
            ) as peer:
                peer.wait_done(30)
                assert_same(tmp_path / "got" / made.path.name, made.path)


@pytest.mark.parametrize(("ours", "theirs", "level"), PART)
def test_libtorrent_dials_in_vain(
    tmp_path: Path, made: MadeTorrent, ours: str, theirs: int, level: int
) -> None:
    port = free_port()
    with mounted(made.torrent, tmp_path, "--port", str(port), "--encryption", ours, "-vv") as mount:
        settings = policy(theirs, level)
        here = [("127.0.0.1", port)]
        with download(
            made.torrent, tmp_path / "got", tmp_path, peers=here, settings=settings
        ) as peer:
            wait_until(lambda: "incoming" in mount.log())
            assert peer.status()["peers"] == 0 or not peer.status()["downloaded"]
            assert "connected" not in mount.log()
