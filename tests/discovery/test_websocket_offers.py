"""Offers live for a while, are answered once, and are few."""

from __future__ import annotations

from torrentfs.discovery.websocket_offers import (
    ANSWER_TIME,
    BURST,
    MAX_UNANSWERED,
    OFFER_TIME,
    OurOffers,
    TheirOffers,
)

A, B, C = b"a" * 20, b"b" * 20, b"c" * 20


def key(n: int) -> tuple[bytes, bytes, bytes]:
    return A, B, n.to_bytes(20)


def test_an_answer_is_believed_once_and_in_time() -> None:
    offers = OurOffers()
    offers.add([A, B], 0.0)
    offers.add([C], 10.0)
    assert offers.next_end == OFFER_TIME
    assert offers.last_end == OFFER_TIME + 10.0
    assert offers.take(A, 1.0)
    assert not offers.take(A, 1.0)
    assert not offers.take(b"never made", 1.0)
    assert not offers.take(B, OFFER_TIME)
    assert offers.expire(OFFER_TIME) == [B]
    assert offers.expire(OFFER_TIME) == []
    assert len(offers) == 1
    assert offers.clear() == [C]
    assert offers.next_end == float("inf")
    assert offers.last_end == float("-inf")
    assert repr(offers) == "<OurOffers 0>"


def test_few_wait_for_our_answer() -> None:
    offers = TheirOffers()
    taken = [offers.admit(key(n), 0.0) for n in range(1000)]
    assert taken.count(True) == MAX_UNANSWERED == len(offers)
    assert offers.end(key(0), 1.0)
    assert not offers.end(key(0), 1.0)
    assert not offers.admit(key(1), 1.0)  # it waits already
    assert offers.admit(key(0), 1.0)
    assert repr(offers) == f"<TheirOffers {MAX_UNANSWERED}>"


def test_what_was_not_answered_in_time_makes_room() -> None:
    offers = TheirOffers()
    for n in range(MAX_UNANSWERED):
        offers.admit(key(n), 0.0)
    assert not offers.admit(key(99), ANSWER_TIME - 1)
    assert offers.admit(key(99), ANSWER_TIME)
    assert len(offers) == 1
    assert not offers.end(key(99), 2 * ANSWER_TIME)


def test_not_faster_than_allowed_however_fast_we_decline() -> None:
    offers = TheirOffers()
    taken = 0
    for n in range(10_000):
        now = n / 100
        if offers.admit(key(n), now):
            taken += 1
            offers.end(key(n), now)
    assert taken <= BURST + 100
