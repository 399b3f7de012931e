"""Order, back-off, bans and bounds of the peer book."""

from __future__ import annotations

import pytest

from torrentfs.scheduling.peerbook import (
    FORMER,
    GIVEN,
    MOST_FORMER,
    PeerBook,
    canonical_priority,
    crc32c,
)

A, B, C = ("10.0.0.1", 1), ("10.0.0.2", 2), ("2001:db8::3", 3)


def test_bep_40_vectors() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    one = ("123.213.32.10", 0)
    assert canonical_priority(one, ("98.76.54.32", 0)) == 0xEC2D7224
    assert canonical_priority(one, ("123.213.32.234", 0)) == 0x99568189
    assert canonical_priority(("98.76.54.32", 0), one) == 0xEC2D7224
    assert canonical_priority(one, ("2001:db8::1", 0)) == 0
    assert canonical_priority(one, ("peer.example", 0)) == 0
    assert canonical_priority(("1.2.3.4", 5), ("1.2.3.4", 6)) == crc32c(b"\0\x05\0\x06")


def test_each_address_once_in_order_of_arrival_and_the_users_first() -> None:
    book = PeerBook()
    assert book.add(A, "tracker", 0.0)
    assert not book.add(A, "pex", 0.0)
    assert not book.add(("10.0.0.9", 0), "pex", 0.0)
    book.add(B, "tracker", 0.0)
    book.add(C, GIVEN, 0.0)
    order = []
    while (address := book.next(0.0)) is not None:
        book.on_connecting(address, 0.0)
        order.append(address)
    assert order == [C, A, B]
    assert book.next_time(0.0) is None


def fail_always(book: PeerBook) -> tuple[list[float], float]:
    """The rests after each of twelve failures of `A`, and what time it is then."""
    now, rests = 0.0, []
    for _ in range(12):
        book.on_connecting(A, now)
        book.on_closed(A, now, "refused", False)
        when = book.next_time(now)
        assert when is not None
        assert book.next(when - 0.1) is None
        rests.append(when - now)
        now = when
    return rests, now


def test_failures_back_off_and_success_forgives() -> None:
    book = PeerBook()
    book.add(A, "tracker", 0.0)
    rests, now = fail_always(book)
    assert rests[:4] == [15.0, 30.0, 60.0, 120.0]
    assert max(rests) == 3600.0
    book.on_connected(A, now)
    book.on_closed(A, now, "bye", useful=True)
    assert book.next(now + 5.0) == A


def test_a_waiting_read_shortens_long_rests() -> None:
    book = PeerBook()
    book.add(A, "tracker", 0.0)
    for _ in range(8):
        book.on_connecting(A, 0.0)
        book.on_closed(A, 0.0, "refused", False)
    assert book.next_time(0.0) == 15.0 * 2**7
    assert book.shorten_rests(100.0)
    assert book.next_time(100.0) == 115.0
    assert not book.shorten_rests(101.0)  # and repeating it does not put the dial off
    assert book.next(115.0) == A


def test_what_the_user_gave_is_tried_again_soon() -> None:
    book = PeerBook()
    book.add(A, GIVEN, 0.0)
    rests, now = fail_always(book)
    assert rests[:4] == [1.0, 2.0, 4.0, 8.0]
    assert max(rests) == 60.0
    book.on_closed(A, now, "bye", useful=True)
    assert book.next(now + 1.0) == A


@pytest.mark.parametrize(
    "host", ["98.76.54.32", "2606:2800:220:1::1", "::ffff:98.76.54.32"], ids=["v4", "v6", "mapped"]
)
def test_a_ban_is_by_host_and_for_good(host: str) -> None:
    book = PeerBook()
    liar, other = (host, 1), (host, 77)
    book.add(liar, GIVEN, 0.0)
    book.add(other, "pex", 0.0)
    book.ban(liar, "sent a bad block")
    assert book.is_banned(liar)
    assert book.is_banned(other)
    assert book.banned == {liar: "sent a bad block"}
    assert len(book) == 0
    assert not book.add(liar, "tracker", 0.0)
    assert not book.add(other, "tracker", 0.0)
    book.on_closed(liar, 0.0, "banned", False)
    assert book.next(9e9) is None


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "::1", "::ffff:127.0.0.1"),
        *("192.168.1.7", "10.0.0.1", "100.64.3.2", "fe80::1", "fd00::1", "peer.example"),
    ],
)
def test_where_many_share_an_address_one_liar_is_not_all(host: str) -> None:
    """Loopback, a home's network, a provider's NAT, a tunnel: behind each are several peers."""
    book = PeerBook()
    liar, honest = (host, 1), (host, 77)
    book.add(liar, GIVEN, 0.0)
    book.add(honest, "pex", 0.0)
    book.ban(liar, "sent a bad block")
    assert book.is_banned(liar)
    assert not book.is_banned(honest)
    assert not book.add(liar, "tracker", 0.0)
    assert book.next(0.0) == honest
    assert len(book) == 1


def test_bans_are_bounded_and_the_oldest_lapses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torrentfs.scheduling.peerbook.MAX_BANNED", 3)
    book = PeerBook()
    for number in range(5):
        book.ban((f"98.76.54.{number}", 1), "sent a bad block")
    assert len(book.banned) == 3
    assert not book.is_banned(("98.76.54.1", 1))
    assert book.is_banned(("98.76.54.4", 9))


def test_the_book_is_bounded_and_failing_addresses_make_room() -> None:
    book = PeerBook(most=3)
    for n in range(5):
        book.add((f"10.0.1.{n}", 1), "pex", 0.0)
    assert len(book) == 3
    book.on_connecting(("10.0.1.1", 1), 0.0)
    book.on_closed(("10.0.1.1", 1), 0.0, "refused", False)
    assert book.add(("10.0.2.1", 1), "pex", 0.0)
    assert len(book) == 3
    assert "3 addresses" in repr(book)


def test_our_own_address_orders_by_bep_40() -> None:
    book = PeerBook()
    others = [(f"98.76.{n}.32", 1) for n in range(20)]
    for other in others:
        book.add(other, "tracker", 0.0)
    own = ("123.213.32.10", 6881)
    book.set_own_address(own)
    assert book.next(0.0) == max(others, key=lambda other: canonical_priority(own, other))


def test_our_own_address_is_what_two_hosts_say_it_is() -> None:
    book = PeerBook()
    others = [(f"98.76.{n}.32", 1) for n in range(20)]
    for other in others:
        book.add(other, "tracker", 0.0)
    own, lie = ("123.213.32.10", 6881), ("1.2.3.4", 6881)
    book.on_told_own_address(lie, by="5.5.5.5")
    book.on_told_own_address(lie, by="5.5.5.5")
    assert book.next(0.0) == others[0]
    book.on_told_own_address(own, by="5.5.5.6")
    book.on_told_own_address(own, by="5.5.5.7")
    assert book.next(0.0) == max(others, key=lambda other: canonical_priority(own, other))


def test_peers_of_last_time_come_after_the_users_and_before_all_others() -> None:
    book = PeerBook()
    book.add(A, "tracker", 0.0)
    book.add(B, FORMER, 0.0)
    book.add(C, GIVEN, 0.0)
    order = []
    while (address := book.next(0.0)) is not None:
        book.on_connecting(address, 0.0)
        order.append(address)
    assert order == [C, B, A]


def test_peers_of_last_time_that_are_gone_leave_room_for_others() -> None:
    book = PeerBook()
    former = [("10.1.0.1", port) for port in range(1, 31)]
    for address in former:
        book.add(address, FORMER, 0.0)
    tried = []
    while (address := book.next(0.0)) is not None:
        book.on_connecting(address, 0.0)
        tried.append(address)
    assert tried == former[:MOST_FORMER]
    book.add(A, "tracker", 0.0)
    assert book.next(0.0) == A
    book.on_connected(tried[0], 0.0)  # one lives, one does not
    book.on_closed(tried[1], 0.0, "refused", useful=False)
    assert book.next(0.0) == former[MOST_FORMER]
    # who failed is one of many from now on
    book = PeerBook()
    book.add(B, FORMER, 0.0)
    book.add(A, "tracker", 0.0)
    book.on_connecting(B, 0.0)
    book.on_closed(B, 0.0, "refused", useful=False)
    assert book.next(15.0) == A


def test_it_knows_whom_it_can_dial() -> None:
    book = PeerBook()
    book.add(A, "tracker", 0.0)
    assert book.knows(A)
    assert not book.knows(B)


def test_ourselves() -> None:
    book = PeerBook()
    assert not book.is_ourselves(("8.8.8.8", 5))
    book.on_ourselves(("8.8.8.8", 5))
    book.set_own_address(("9.9.9.9", 6))
    assert book.is_ourselves(("8.8.8.8", 5))
    assert book.is_ourselves(("9.9.9.9", 6))
    assert not book.is_ourselves(("9.9.9.9", 5))


def test_who_we_leave_has_not_failed() -> None:
    book = PeerBook()
    book.add(A, "tracker", 0.0)
    book.add(B, "tracker", 0.0)
    for address in (A, B):
        book.on_connecting(address, 0.0)
    book.on_connected(B, 0.0)
    book.on_gave(B)
    for address in (A, B, C):
        book.on_left(address)
    assert book.next(0.0) == B  # it was useful
    book.on_connecting(B, 0.0)
    assert book.next(0.0) == A


def test_of_many_the_best_are_kept_and_no_ban_is_forgotten() -> None:
    book = PeerBook()
    for number in range(100):
        book.add((f"10.1.0.{number}", 1), "tracker", 0.0)
    book.add(B, GIVEN, 0.0)
    useful = ("10.1.0.77", 1)
    book.on_connecting(useful, 0.0)
    book.on_closed(useful, 0.0, "went away", useful=True)
    book.ban(("192.0.2.1", 1), "lied")
    book.keep_best(3)
    assert book.addresses() == [B, useful, ("10.1.0.0", 1)]
    assert book.is_banned(("192.0.2.1", 1))


def test_when_our_own_network_failed_nobody_rests_and_nobody_has_failed() -> None:
    book = PeerBook()
    book.add(A, "tracker", 0.0)
    _, now = fail_always(book)
    book.on_connecting(A, now)
    book.on_closed(A, now, "the interface vpn0 is gone", False)
    book.forget_failures()
    assert book.next(now) == A
    book.on_connecting(A, now)
    book.on_closed(A, now, "refused", False)
    assert book.next_time(now) == now + 15
