"""WebRTC offers: shares, precedence, the line."""

from __future__ import annotations

import weakref

from hypothesis import given
from hypothesis import strategies as st

from torrentfs.scheduling.offers import FEWEST, MOST, SETTLED, OfferShares, Taken
from torrentfs.scheduling.turns import PLACES


class Room:
    """Shares of torrents that are numbers; offers are made at once."""

    def __init__(self, total: int = 100) -> None:
        self.awaited: set[int] = set()
        self.shares: OfferShares[int] = OfferShares(total, self.awaited.__contains__)
        self.now = 0.0
        self.made = 0

    def ask(self, owner: int, count: int = 15) -> int:
        self.shares.join(owner)
        grant = self.shares.ask(owner, count, self.now)
        for _ in range(grant.allowed):
            self.made += 1
            self.shares.on_made(owner, b"%d" % self.made, self.now)
        return grant.allowed

    def numbers(self, count: int) -> list[int]:
        return [self.shares.number(owner) for owner in range(count)]


def test_as_many_as_may_be_active_find_some() -> None:
    """Each would take 15: five for each of three trackers."""
    for awaited in (False, True):
        room = Room()
        for owner in range(PLACES):
            if awaited:
                room.awaited.add(owner)
            assert room.ask(owner) >= FEWEST
        assert room.numbers(3) == [MOST, MOST, 8]
        assert room.shares.used <= 100


def test_more_are_no_more_than_the_share() -> None:
    room = Room()
    assert [room.ask(1, 4), room.ask(1, 4), room.ask(1, 4), room.ask(1, 4)] == [4, 4, 2, 0]
    for offer in (b"1", b"2"):
        room.shares.on_end(1, offer)
    assert room.ask(1) == 2
    assert room.shares.next_in_line() is None  # it has what it may have


def test_who_has_left_and_has_no_offer_is_forgotten() -> None:
    """An owner is a swarm with all that it knows, and torrents come and go for weeks."""

    class Owner:
        pass

    shares: OfferShares[Owner] = OfferShares(100, lambda owner: False)
    owner = Owner()
    shares.join(owner)
    assert shares.ask(owner, 2, 0.0).allowed == 2
    shares.on_made(owner, b"1", 0.0)
    shares.on_not_made(owner)
    shares.on_end(owner, b"1")
    shares.leave(owner)
    left = weakref.ref(owner)
    del owner
    assert left() is None


def test_who_is_awaited_shares_with_its_like() -> None:
    room = Room()
    for owner in range(20):
        room.ask(owner)
    room.awaited.add(20)
    assert room.ask(20) == MOST


def test_a_waiting_read_takes_the_oldest_of_who_rests() -> None:
    room = Room(10)
    for owner in range(5):
        room.now += 1
        assert room.ask(owner) == 2
    room.awaited |= {0, 9}
    room.shares.join(9)
    room.now += SETTLED
    grant = room.shares.ask(9, 2, room.now)
    assert grant == (2, (Taken(1, b"3"), Taken(2, b"5")))
    assert room.numbers(5) == [2, 1, 1, 2, 2]


def test_an_offer_that_was_just_made_stays() -> None:
    room = Room(4)
    room.ask(0)
    room.ask(1)
    room.awaited.add(2)
    room.now = SETTLED - 0.1
    assert room.ask(2) == 0
    room.now = SETTLED
    assert room.ask(2) == 2


def test_who_rests_takes_nothing_of_a_waiting_read() -> None:
    room = Room(4)
    room.awaited |= {0, 1}
    room.ask(0)
    room.ask(1)
    room.now = 100.0
    assert room.ask(2) == 0
    room.shares.leave(0)  # its search is over, and its offers still there
    assert room.ask(2) == 1


def test_among_equals_who_has_two_more_gives() -> None:
    room = Room(8)
    for owner in range(4):
        room.ask(owner)
    room.now = 100.0
    assert room.ask(4) == 1  # then it has one, and nobody three
    assert sorted(room.numbers(5)) == [1, 1, 2, 2, 2]


def test_the_line() -> None:
    room = Room(2)
    room.awaited |= {0, 3}
    room.ask(0)
    for owner in (1, 2, 3):
        assert room.ask(owner) == 0
    assert room.shares.next_in_line() is None  # nothing is free
    room.shares.on_end(0, b"1")
    assert [room.shares.next_in_line() for _ in range(4)] == [3, 1, 2, None]
    assert room.ask(2) == 1
    room.shares.leave(2)
    room.shares.on_end(2, b"3")
    assert room.shares.next_in_line() is None
    assert repr(room.shares) == "<OfferShares 1 of 2, 0 in line>"


STEPS = st.tuples(st.sampled_from(["ask", "end", "wait", "rest", "leave"]), st.integers(0, 7))


@given(st.lists(STEPS, max_size=80), st.integers(1, 12))
def test_the_total_and_the_most_are_kept(steps: list[tuple[str, int]], total: int) -> None:
    room = Room(total)
    for what, owner in steps:
        room.now += 1.0
        if what == "ask":
            room.ask(owner, 5)
        elif what == "end":
            room.shares.on_end(owner, b"%d" % (room.made - owner))
        elif what == "leave":
            room.shares.leave(owner)
        else:
            (room.awaited.add if what == "wait" else room.awaited.discard)(owner)
        assert room.shares.used == sum(room.numbers(8)) <= total
        assert max(room.numbers(8)) <= MOST
        told = room.shares.next_in_line()
        assert told is None or room.shares.used < total
