"""The whole of the peer protocol against a real libtorrent seeder, knowing only a magnet."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, TypeVar

import pytest

from tests.swarm.payload import write_file, write_tree
from tests.swarm.seeder import seed
from tests.swarm.torrents import Version, make_torrent
from torrentfs.metainfo.checking import check_piece
from torrentfs.metainfo.geometry import BLOCK_LENGTH
from torrentfs.metainfo.torrent_file import Metainfo, parse_info, parse_torrent
from torrentfs.wire import messages as m
from torrentfs.wire.connection import Connection, Event
from torrentfs.wire.extension import OUR_EXTENSIONS
from torrentfs.wire.handshake import Handshake
from torrentfs.wire.hash_exchange import LayerFetch
from torrentfs.wire.metadata import MetadataAssembler
from torrentfs.wire.peer_id import client_name, make_peer_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torrentfs.metainfo.hashes import InfoHashes


T = TypeVar("T")


class Talk:
    """A blocking conversation with one peer."""

    def __init__(self, port: int, info_hash: bytes, *, v2: bool) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.connection = Connection()
        self._events: list[Event] = []
        ours = Handshake(info_hash, make_peer_id(os.urandom(12)), fast=True, extensions=True, v2=v2)
        self.say(ours)
        self.theirs = self.wait(Handshake)

    def say(self, *messages: Event) -> None:
        self.socket.sendall(b"".join(map(self.connection.send, messages)))

    def events(self) -> Iterator[Event]:
        while True:
            if self._events:
                yield self._events.pop(0)
                continue
            count = self.socket.recv_into(self.connection.get_buffer())
            assert count, "the seeder closed the connection"
            self.connection.buffer_updated(count)
            self._events = self.connection.events()

    def wait(self, kind: type[T]) -> T:
        """The next event of a kind; the others are passed over, but none may be a refusal."""
        for event in self.events():
            assert not isinstance(event, m.MetadataReject | m.HashReject | m.RejectRequest)
            if isinstance(event, kind):
                return event
        raise AssertionError


def fetch_metadata(talk: Talk, hashes: InfoHashes) -> Metainfo:
    """Info dictionary by BEP 9, piece layers by BEP 52."""
    talk.say(m.HaveNone(), m.ExtensionHandshake(extensions=OUR_EXTENSIONS, version="test"))
    hello = talk.wait(m.ExtensionHandshake)
    assert hello.metadata_size is not None
    assembler = MetadataAssembler(hello.metadata_size, hashes)
    while assembler.result is None:
        talk.say(*assembler.requests())
        answer = talk.wait(m.MetadataData)
        assembler.on_data(answer.piece, answer.total_size, answer.data)
    metainfo = parse_info(assembler.result, hashes)
    layers = LayerFetch(metainfo)
    while not layers.done:
        talk.say(*layers.requests())
        layers.on_hashes(talk.wait(m.Hashes))
    return metainfo.with_piece_layers(layers.layers)


def fetch_pieces(talk: Talk, metainfo: Metainfo) -> None:
    """Every piece, checked."""
    geometry = metainfo.geometry
    talk.connection.set_num_pieces(geometry.num_pieces)
    talk.say(m.Interested())
    talk.wait(m.Unchoke)
    for piece in range(geometry.num_pieces):
        size = geometry.piece_size(piece)
        requests = [
            (piece, begin, min(BLOCK_LENGTH, size - begin))
            for begin in range(0, size, BLOCK_LENGTH)
        ]
        talk.socket.sendall(talk.connection.send_requests(requests))
        data = bytearray(size)
        for _ in requests:
            block = talk.wait(m.Piece)
            assert block.piece == piece
            data[block.begin : block.begin + len(block.data)] = block.data
        assert check_piece(metainfo, piece, data)


@pytest.mark.real
@pytest.mark.parametrize("version", ["v1", "v2", "hybrid"])
def test_metadata_layers_and_every_piece(tmp_path: Path, version: Version) -> None:
    tree = write_tree(tmp_path / "payload" / "tree")
    made = make_torrent(tree, tmp_path / "t.torrent", version=version, piece_length=65536)
    expected = parse_torrent(made.data)
    with seed(made.torrent, tree, tmp_path) as seeder:
        for info_hash in expected.hashes.wire:
            talk = Talk(seeder.port, info_hash, v2=version != "v1")
            with talk.socket:
                assert talk.theirs.fast
                assert talk.theirs.extensions
                assert client_name(talk.theirs.peer_id).startswith("libtorrent 2.")
                metainfo = fetch_metadata(talk, expected.hashes)
                assert metainfo.info == expected.info
                fetch_pieces(talk, metainfo)


@pytest.mark.real
def test_a_layer_of_several_runs(tmp_path: Path) -> None:
    """1,300 pieces of 16 KiB: three runs with uncles, the last one half behind the end."""
    file = write_file(tmp_path / "file", 1, 1300 * 16384 - 5)
    made = make_torrent(file, tmp_path / "t.torrent", version="v2", piece_length=16384)
    expected = parse_torrent(made.data)
    with seed(made.torrent, file, tmp_path) as seeder:
        talk = Talk(seeder.port, expected.hashes.wire[0], v2=True)
        with talk.socket:
            metainfo = fetch_metadata(talk, expected.hashes)
    assert dict(metainfo.piece_layers) == dict(expected.piece_layers)
