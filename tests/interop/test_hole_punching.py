"""Two hosts behind NAT boxes that open no port meet through a public one (BEP 55).

Each test has libtorrent in another part: that of nobody, of the relay, of who is asked for, of who
asks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.interop.copying import MIB, assert_same, wait_until
from tests.swarm.mounted import Mounted, mounted
from tests.swarm.network import PUBLIC, Home, homes
from tests.swarm.payload import write_file
from tests.swarm.seeder import download, seed
from tests.swarm.shared import Share, shared
from tests.swarm.torrents import MadeTorrent, make_torrent

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

PORT, OTHER_PORT = 6881, 6882
"""Of who has the file, and of who wants it."""

AT = (PUBLIC, 7000)
RELAY = f"{PUBLIC}:7000"

WITHOUT_MAPPING = {"pcp": False, "upnp": False, "public": True}


def make(tmp_path: Path) -> MadeTorrent:
    file = write_file(tmp_path / "payload" / "film.mkv", 1, 3 * MIB + 5)
    return make_torrent(file, tmp_path / "film.torrent")


@contextmanager
def our_relay(made: MadeTorrent, work: Path, host: Home, *options: str) -> Iterator[Mounted]:
    """A mount that nobody reads, and that gives nothing: it only knows the others."""
    where = ("--bind-interface", host.address, "--port", str(AT[1]))
    with mounted(
        made.torrent, work / "relay", *where, "--no-upload", "-vv", *options, before=host.before
    ) as mount:
        yield mount


@contextmanager
def our_reader(made: MadeTorrent, work: Path, host: Home, *options: str) -> Iterator[Mounted]:
    """A mount that knows the relay alone."""
    where = ("--bind-interface", host.address, "--port", str(OTHER_PORT), "--peer", RELAY)
    with mounted(
        made.torrent, work / "reader", *where, "-vv", *options, before=host.before
    ) as mount:
        yield mount


@contextmanager
def our_sharer(made: MadeTorrent, work: Path, host: Home, *options: str) -> Iterator[Share]:
    """Shares the file, and knows the relay alone."""
    work.mkdir(exist_ok=True)
    where = ("--torrent", str(made.torrent), "--port", str(PORT), "--peer", RELAY)
    with shared(
        made.path, work, *where, "-vv", *options, bind=host.address, before=host.before
    ) as share:
        yield share


def libtorrents(host: Home, port: int) -> dict[str, Any]:
    """How libtorrent runs there."""
    return {"hosts": [host.address], "port": port, "utp": True, "before": host.before}


@contextmanager
def bystander(made: MadeTorrent, work: Path, host: Home) -> Iterator[None]:
    """Somebody else, of whom the relay tells those that are connected to it now.

    So for a minute it tells them nothing more, and they do not hear of those who come next. Else
    both would dial each other in the same moment, and need nobody to introduce them.
    """
    options = libtorrents(host, 7001)
    with download(
        made.torrent, work / "by", work / "bystander", peers=[AT], wanted=False, **options
    ):
        yield


def assert_read(mount: Mounted, made: MadeTorrent) -> None:
    read = (mount / made.path.name).read_bytes()
    assert hashlib.sha256(read).digest() == hashlib.sha256(made.path.read_bytes()).digest()


def test_we_meet_through_ours(tmp_path: Path) -> None:
    made = make(tmp_path)
    with ExitStack() as stack:
        one, two, public = stack.enter_context(homes(tmp_path, **WITHOUT_MAPPING))
        relay = stack.enter_context(our_relay(made, tmp_path, public))
        share = stack.enter_context(our_sharer(made, tmp_path / "share", one))
        stack.enter_context(bystander(made, tmp_path, public))
        share.wait_log(f"1 peers from {RELAY}")
        mount = stack.enter_context(our_reader(made, tmp_path, two))
        has, wants = f"{one.outer}:{PORT}", f"{two.outer}:{OTHER_PORT}"
        assert_read(mount, made)
        assert f"<Peer utp {has} " in mount.log()
        assert f"asking {RELAY} for {has}" in mount.log()
        assert f"introducing {wants} to {has}" in relay.log()
        assert f"{RELAY} brings us to {wants}" in share.log()


def test_we_meet_through_libtorrent(tmp_path: Path) -> None:
    """It introduces those that are connected to it over uTP."""
    made = make(tmp_path)
    with ExitStack() as stack:
        one, two, public = stack.enter_context(homes(tmp_path, **WITHOUT_MAPPING))
        options = libtorrents(public, AT[1])
        stack.enter_context(
            download(made.torrent, tmp_path / "no", tmp_path / "relay", wanted=False, **options)
        )
        share = stack.enter_context(our_sharer(made, tmp_path / "share", one, "--no-tcp"))
        stack.enter_context(bystander(made, tmp_path, public))
        share.wait_log(f"<Peer utp {PUBLIC}:7001 ", 75)
        mount = stack.enter_context(our_reader(made, tmp_path, two, "--no-tcp"))
        assert_read(mount, made)
        assert f"asking {RELAY} for {one.outer}:{PORT}" in mount.log()
        assert f"{RELAY} brings us to {two.outer}:{OTHER_PORT}" in share.log()


def test_libtorrent_is_asked_for(tmp_path: Path) -> None:
    made = make(tmp_path)
    with ExitStack() as stack:
        one, two, public = stack.enter_context(homes(tmp_path, **WITHOUT_MAPPING))
        relay = stack.enter_context(our_relay(made, tmp_path, public))
        options = libtorrents(one, PORT)
        seeder = stack.enter_context(seed(made.torrent, made.path, tmp_path / "seed", **options))
        seeder.connect(*AT)
        wait_until(lambda: f"<Peer utp {one.outer}:{PORT} " in relay.log(), 20)
        stack.enter_context(bystander(made, tmp_path, public))
        wait_until(lambda: seeder.status()["peers"] == 2)
        mount = stack.enter_context(our_reader(made, tmp_path, two))
        assert_read(mount, made)
        has, wants = f"{one.outer}:{PORT}", f"{two.outer}:{OTHER_PORT}"
        assert f"asking {RELAY} for {has}" in mount.log()
        assert f"introducing {wants} to {has}" in relay.log()
        assert f"<Peer utp {has} " in mount.log()


def test_libtorrent_asks_for_us(tmp_path: Path) -> None:
    made = make(tmp_path)
    with ExitStack() as stack:
        one, two, public = stack.enter_context(homes(tmp_path, **WITHOUT_MAPPING))
        relay = stack.enter_context(our_relay(made, tmp_path, public))
        share = stack.enter_context(our_sharer(made, tmp_path / "share", one))
        stack.enter_context(bystander(made, tmp_path, public))
        share.wait_log(f"1 peers from {RELAY}")
        options = libtorrents(two, OTHER_PORT)
        copy = tmp_path / "copy"
        peer = stack.enter_context(
            download(made.torrent, copy, tmp_path / "download", peers=[AT], **options)
        )
        peer.wait_done(60)
        assert_same(copy / made.path.name, made.path)
        has, wants = f"{one.outer}:{PORT}", f"{two.outer}:{OTHER_PORT}"
        assert f"introducing {wants} to {has}" in relay.log()
        assert f"{RELAY} brings us to {wants}" in share.log()
