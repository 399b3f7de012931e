"""BEP 52 hash requests: what is served is proved, and no lie is believed."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torrentfs.errors import LocalProtocolError, RemoteProtocolError
from torrentfs.metainfo import merkle
from torrentfs.wire.hash_exchange import HashServer, LayerAssembler, LayerFetch, uncle_count
from torrentfs.wire.messages import Hashes, HashReject, HashRequest

PIECE = 65536
HEIGHT = 2


def layer_of(pieces: int) -> bytes:
    return b"".join(number.to_bytes(32) for number in range(1, pieces + 1))


def torrent(*counts: int, known: bool = True) -> SimpleNamespace:
    """As much of a metainfo as the exchange looks at: files of so many pieces."""
    layers = [layer_of(count) for count in counts]
    roots = [merkle.layer_root(layer, PIECE) for layer in layers]
    return SimpleNamespace(
        piece_layers=dict(zip(roots, layers, strict=True)) if known else {},
        geometry=SimpleNamespace(piece_length=PIECE),
        files=[
            SimpleNamespace(pieces_root=root, length=count * PIECE)
            for root, count in zip(roots, counts, strict=True)
        ],
        missing_layers=lambda: [] if known else list(range(len(counts))),
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(2, 2100), min_size=1, max_size=3))
def test_what_is_served_is_proved(counts: list[int]) -> None:
    server = HashServer(torrent(*counts))
    fetch = LayerFetch(torrent(*counts, known=False))
    waiting = fetch.requests()
    while waiting:
        answer = server.answer(waiting.pop(0))
        assert isinstance(answer, Hashes)
        fetch.on_hashes(answer)
        waiting += fetch.requests()
    assert fetch.done
    assert fetch.layers == torrent(*counts).piece_layers


def test_nothing_missing_is_done_at_once() -> None:
    fetch = LayerFetch(torrent(5))
    assert fetch.done
    assert fetch.requests() == []
    assert "0 missing" in repr(fetch)


def test_the_queue_is_bounded() -> None:
    fetch = LayerFetch(torrent(2000, 3000, known=False))
    assert len(fetch.requests(3)) == 3
    assert fetch.requests(3) == []


def test_what_one_peer_left_open_is_asked_of_the_next() -> None:
    server = HashServer(torrent(1300, 700))
    fetch = LayerFetch(torrent(1300, 700, known=False))
    first = fetch.requests(4)
    for request in first[:2]:
        answer = server.answer(request)
        assert isinstance(answer, Hashes)
        fetch.on_hashes(answer)
    fetch.ask_again()
    waiting = fetch.requests(100)
    assert len(waiting) == 3
    assert not set(waiting) & set(first[:2])
    for request in waiting:
        answer = server.answer(request)
        assert isinstance(answer, Hashes)
        fetch.on_hashes(answer)
    assert fetch.layers == torrent(1300, 700).piece_layers


def served(pieces: int = 1300) -> tuple[LayerAssembler, HashServer, list[HashRequest]]:
    source = torrent(pieces)
    (root,) = source.piece_layers
    assembler = LayerAssembler(root, pieces * PIECE, PIECE)
    return assembler, HashServer(source), assembler.requests(10)


def test_the_shape_of_requests_and_answers() -> None:
    _, server, requests = served()
    assert [(r.base_layer, r.index, r.length, r.proof_layers) for r in requests] == [
        (HEIGHT, 0, 512, 10),
        (HEIGHT, 512, 512, 10),
        (HEIGHT, 1024, 512, 10),
    ]
    answer = server.answer(requests[2])
    assert isinstance(answer, Hashes)
    assert len(answer.hashes) == (512 + 2) * 32
    assert uncle_count(512, 10) == 2


@pytest.mark.parametrize("place", [0, 511 * 32, 512 * 32, 513 * 32 + 31])
def test_one_wrong_bit_is_found(place: int) -> None:
    assembler, server, requests = served()
    answer = server.answer(requests[0])
    hashes = bytearray(answer.hashes)
    hashes[place] ^= 1
    with pytest.raises(RemoteProtocolError, match="do not match"):
        assembler.on_hashes(replace(answer, hashes=bytes(hashes)))


@pytest.mark.parametrize(
    "change",
    [
        {"index": 1},
        {"index": 1536},
        {"index": 512},
        {"length": 256},
        {"base_layer": 0},
        {"proof_layers": 9},
        {"pieces_root": bytes(32)},
        {"hashes": b""},
    ],
)
def test_answers_to_nothing_are_refused(change: dict) -> None:
    assembler, server, requests = served()
    with pytest.raises(RemoteProtocolError):
        assembler.on_hashes(replace(server.answer(requests[0]), **change))


def test_an_answer_counts_once() -> None:
    assembler, server, requests = served()
    assert not assembler.on_hashes(server.answer(requests[0]))
    with pytest.raises(RemoteProtocolError):
        assembler.on_hashes(server.answer(requests[0]))
    fetch = LayerFetch(torrent(5, known=False))
    with pytest.raises(RemoteProtocolError):
        fetch.on_hashes(server.answer(requests[0]))
    assert "1 runs" in repr(assembler)


def test_a_file_of_one_piece_has_no_layer() -> None:
    with pytest.raises(LocalProtocolError):
        LayerAssembler(bytes(32), PIECE, PIECE)


@pytest.mark.parametrize(
    "change",
    [
        {"pieces_root": bytes(32)},
        {"base_layer": 0},
        {"base_layer": 13},
        {"base_layer": 0xFFFFFFFF},
        {"index": 1},
        {"index": 2048},
        {"index": 0xFFFFFE00},
        {"length": 0},
        {"length": 1},
        {"length": 3},
        {"length": 4096},
        {"length": 1 << 20},
        {"proof_layers": 11},
        {"proof_layers": 0xFFFFFFFF},
    ],
)
def test_requests_that_cannot_be_answered_are_rejected(change: dict) -> None:
    _, server, requests = served()
    request = replace(requests[0], **change)
    answer = server.answer(request)
    assert isinstance(answer, HashReject)
    assert answer.index == request.index


def test_layers_above_the_pieces_are_served_too() -> None:
    source = torrent(1300)
    ((root, layer),) = source.piece_layers.items()
    answer = HashServer(source).answer(HashRequest(root, HEIGHT + 1, 0, 2, 0))
    assert isinstance(answer, Hashes)
    assert answer.hashes == merkle.parent_layer(layer, HEIGHT)[:64]


def test_few_trees_are_kept() -> None:
    source = torrent(5, 6, 7)
    server = HashServer(source)
    for root in source.piece_layers:
        assert isinstance(server.answer(HashRequest(root, HEIGHT, 0, 8, 2)), Hashes)
    assert len(server._trees) == 2
