"""The queue of what one peer asked for."""

from __future__ import annotations

from torrentfs.engine.uploads import BATCH, MAX_REQUESTS, UploadQueue
from torrentfs.scheduling.picker import Request

BLOCK = 16384


def anything(request: Request) -> bool:
    return True


def ask(queue: UploadQueue, piece: int, begin: int = 0, length: int = BLOCK) -> bool:
    return queue.on_request(Request(piece, begin, length), servable=anything)


def test_requests_are_answered_in_order_and_once() -> None:
    queue = UploadQueue()
    queue.unchoke()
    assert all(ask(queue, piece) for piece in (3, 1, 2, 1))
    assert [request.piece for request in queue.take()] == [3, 1, 2]
    assert not queue


def test_choked_peers_get_their_allowed_pieces_only() -> None:
    queue = UploadQueue()
    queue.allowed = {7}
    assert not ask(queue, 1)
    assert ask(queue, 7)
    queue.unchoke()
    assert ask(queue, 1)
    assert queue.choke() == [Request(1, 0, BLOCK)]
    assert [request.piece for request in queue.take()] == [7]


def test_the_queue_is_bounded_and_a_repeated_request_is_no_new_one() -> None:
    queue = UploadQueue()
    queue.unchoke()
    assert all(ask(queue, piece) for piece in range(MAX_REQUESTS))
    assert not ask(queue, MAX_REQUESTS)
    assert ask(queue, 5)
    assert len(queue) == MAX_REQUESTS


def test_a_batch_is_bounded_by_its_bytes() -> None:
    queue = UploadQueue()
    queue.unchoke()
    for piece in range(100):
        ask(queue, piece, length=128 * 1024)
    assert sum(request.length for request in queue.take()) == BATCH
    assert len(queue) == 98


def test_a_cancel_is_known_only_while_queued() -> None:
    queue = UploadQueue()
    queue.unchoke()
    ask(queue, 1)
    assert queue.on_cancel(Request(1, 0, BLOCK))
    assert not queue.on_cancel(Request(1, 0, BLOCK))
    assert not queue.take()


def test_what_is_not_servable_is_refused() -> None:
    queue = UploadQueue()
    queue.unchoke()
    assert not queue.on_request(Request(1, 0, 1), servable=lambda request: False)
