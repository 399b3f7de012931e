"""Peers learned by peer exchange alone carry a read, both ways; a private torrent says nothing."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.interop.copying import KIB, MIB, assert_same, copy_equals, wait_until
from tests.swarm.mounted import mounted
from tests.swarm.payload import write_file
from tests.swarm.ports import free_port
from tests.swarm.seeder import download, seed
from tests.swarm.torrents import MadeTorrent, make_torrent
from torrentfs.wire import messages as m
from torrentfs.wire.connection import Connection
from torrentfs.wire.extension import OUR_EXTENSIONS
from torrentfs.wire.handshake import Handshake

pytestmark = pytest.mark.real


def make(tmp_path: Path, *, private: bool = False) -> MadeTorrent:
    file = write_file(tmp_path / "payload" / "film.mkv", 1, 3 * MIB + 5)
    torrent = tmp_path / f"private-{private}.torrent"
    return make_torrent(file, torrent, piece_length=256 * KIB, private=private)


def test_libtorrent_tells_us(tmp_path: Path) -> None:
    """We are called by somebody who gives next to nothing, but knows a seeder."""
    made = make(tmp_path)
    port = free_port()
    with seed(made.torrent, made.path, tmp_path / "1") as seeder:
        options = ("--port", str(port), "--no-utp", "-vv")
        with mounted(made.torrent, tmp_path, *options) as mount:
            # both at once: it tells what it knows once a minute
            here = [("127.0.0.1", seeder.port), ("127.0.0.1", port)]
            with download(made.torrent, tmp_path / "hub", tmp_path / "2", peers=here) as hub:
                hub.limit_upload(4000)  # protocol messages count, too
                wait_until(lambda: f"<Peer tcp 127.0.0.1:{seeder.port} " in mount.log(), 45)
                copy_equals(mount / made.path.name, made.path, tmp_path)
                assert "peers from 127.0.0.1" in mount.log()


@pytest.mark.parametrize("private", [False, True], ids=["public", "private"])
def test_we_tell_libtorrent(tmp_path: Path, private: bool) -> None:
    """It knows only us, who give nothing but know a seeder."""
    made = make(tmp_path, private=private)
    port = free_port()
    with seed(made.torrent, made.path, tmp_path / "1") as seeder:
        options = ("--peer", seeder.address, "--port", str(port), "--no-upload", "-vv")
        with mounted(made.torrent, tmp_path, *options) as mount:
            wait_until(lambda: "connected" in mount.log())
            here = [("127.0.0.1", port)]
            with download(made.torrent, tmp_path / "got", tmp_path, peers=here) as peer:
                if private:
                    wait_until(lambda: peer.status()["peers"])
                    with pytest.raises(TimeoutError):
                        peer.wait_done(6)
                    assert peer.status()["peers"] == 1
                else:
                    peer.wait_done(30)
                    assert_same(tmp_path / "got" / made.path.name, made.path)


def call(made: MadeTorrent, port: int) -> list[m.Message]:
    """Call the mount and note what it says; it is told of a peer that does not exist."""
    assert made.v1
    said: list[m.Message] = []
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        connection = Connection()
        hello = Handshake(bytes.fromhex(made.v1), b"-XX0001-listening-pr", extensions=True)
        line.sendall(connection.send(hello))
        answered = False
        while True:
            try:
                data = line.recv(65536)
            except TimeoutError:
                break
            assert data, "it hung up"
            connection.receive_data(data)
            said += [event for event in connection.events() if not isinstance(event, Handshake)]
            if connection.theirs is not None and not answered:
                answered = True
                line.sendall(
                    connection.send(m.ExtensionHandshake(extensions=OUR_EXTENSIONS, port=7000))
                )
                forged = b"d5:added6:\x7f\0\0\x01\0\x09e"
                line.sendall(connection.send(m.UnknownExtension(OUR_EXTENSIONS["ut_pex"], forged)))
                line.settimeout(4)  # two ticks, and time for a loaded machine
    return said


@pytest.mark.parametrize("private", [False, True], ids=["public", "private"])
def test_every_message_is_counted(tmp_path: Path, private: bool) -> None:
    made = make(tmp_path, private=private)
    port = free_port()
    with seed(made.torrent, made.path, tmp_path / "1") as seeder:
        options = ("--peer", seeder.address, "--port", str(port), "-vv")
        with mounted(made.torrent, tmp_path, *options) as mount:
            wait_until(lambda: "connected" in mount.log())
            said = call(made, port)
            exchanged = [message for message in said if isinstance(message, m.PeerExchange)]
            (greeting,) = (e for e in said if isinstance(e, m.ExtensionHandshake))
            assert ("ut_pex" in greeting.extensions) is not private
            assert ("peers from 127.0.0.1" in mount.log()) is not private
            if private:
                assert exchanged == []
            else:
                assert list(exchanged[0].added) == [("127.0.0.1", seeder.port)]
