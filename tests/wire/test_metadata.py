"""BEP 9 in both directions."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.errors import RemoteProtocolError
from torrentfs.metainfo.hashes import InfoHashes
from torrentfs.wire.messages import MetadataData, MetadataReject, MetadataRequest
from torrentfs.wire.metadata import QUEUE, MetadataAssembler, MetadataServer

INFO = bytes(range(256)) * 200  # four blocks, the last one short
HASHES = InfoHashes.of_info(INFO, v1=True, v2=True)


def fetch(server: MetadataServer, assembler: MetadataAssembler) -> None:
    waiting = assembler.requests()
    while waiting:
        answer = server.answer(waiting.pop())
        assert isinstance(answer, MetadataData)
        assembler.on_data(answer.piece, answer.total_size, answer.data)
        waiting += assembler.requests()


@pytest.mark.parametrize("size", [1, 16383, 16384, 16385, 500_000])
def test_what_is_served_is_assembled(size: int) -> None:
    info = (INFO * 10)[:size]
    hashes = InfoHashes(v1=hashlib.sha1(info).digest())
    assembler = MetadataAssembler(size, hashes)
    fetch(MetadataServer(info), assembler)
    assert assembler.result == info
    assert assembler.received == assembler.num_blocks
    assert assembler.requests() == []
    assert not assembler.on_data(0, size, b"late")


def test_blocks_that_do_not_exist_are_rejected() -> None:
    server = MetadataServer(INFO)
    assert server.answer(MetadataRequest(4)) == MetadataReject(4)
    assert server.answer(MetadataRequest(0xFFFFFFFF)) == MetadataReject(0xFFFFFFFF)


@pytest.mark.parametrize("size", [0, -1, 1 << 40])
def test_impossible_sizes(size: int) -> None:
    with pytest.raises(RemoteProtocolError):
        MetadataAssembler(size, HASHES)


def test_the_queue_is_bounded_and_remembers() -> None:
    assembler = MetadataAssembler(1 << 20, HASHES)
    first = assembler.requests()
    assert [request.piece for request in first] == list(range(QUEUE))
    assert assembler.requests() == []
    assembler.on_data(0, 1 << 20, bytes(16384))
    assembler.on_reject(3)
    assembler.on_reject(60)
    assert [request.piece for request in assembler.requests()] == [3, QUEUE]
    assert "1/64" in repr(assembler)


@pytest.mark.parametrize(
    ("piece", "total", "size"),
    [(0, 5, 16384), (4, len(INFO), 16384), (-1, len(INFO), 16384), (0, len(INFO), 16383)],
)
def test_lies_about_sizes(piece: int, total: int, size: int) -> None:
    assembler = MetadataAssembler(len(INFO), HASHES)
    assembler.requests()
    with pytest.raises(RemoteProtocolError):
        assembler.on_data(piece, total, bytes(size))


def test_a_block_nobody_asked_for_is_dropped() -> None:
    assembler = MetadataAssembler(len(INFO), HASHES)
    assert not assembler.on_data(0, len(INFO), bytes(16384))
    assert assembler.received == 0


@pytest.mark.parametrize("forms", [(True, False), (False, True), (True, True)])
def test_only_the_hash_is_believed(forms: tuple[bool, bool]) -> None:
    hashes = InfoHashes.of_info(INFO, v1=forms[0], v2=forms[1])
    right = MetadataAssembler(len(INFO), hashes)
    fetch(MetadataServer(INFO), right)
    assert right.result == INFO
    wrong = MetadataAssembler(len(INFO), hashes)
    with pytest.raises(RemoteProtocolError, match="does not match"):
        fetch(MetadataServer(bytes(len(INFO))), wrong)
    assert wrong.result is None
    assert wrong.requests() == []


@given(st.permutations(range(4)))
def test_any_order(order: list[int]) -> None:
    assembler = MetadataAssembler(len(INFO), HASHES)
    assembler.requests()
    done = [
        assembler.on_data(piece, len(INFO), INFO[piece * 16384 : (piece + 1) * 16384])
        for piece in order
    ]
    assert done == [False, False, False, True]
    assert assembler.result == INFO
