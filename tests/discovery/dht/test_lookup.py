"""A lookup, driven by hand."""

from __future__ import annotations

from random import Random

from torrentfs.discovery.dht.lookup import (
    ALPHA,
    CLOSEST,
    MAX_CANDIDATES,
    MAX_QUESTIONS,
    PER_ANSWER,
    PER_PLACE,
    ROUTER_TRIES,
    Lookup,
)
from torrentfs.wire.krpc import Address, Contact

TARGET = bytes(20)


def node(number: int) -> Contact:
    """The greater the number, the farther; on a local network, where any id is allowed."""
    return Contact(
        number.to_bytes(20), (f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 5)
    )


def nodes(*numbers: int) -> list[Contact]:
    return [node(number) for number in numbers]


def lookup(*numbers: int, routers: tuple[Address, ...] = ()) -> Lookup:
    return Lookup(TARGET, nodes(*numbers), ipv6=False, routers=routers)


def numbers(addresses: list[Address]) -> list[int]:
    return [int.from_bytes(bytes(map(int, host.split(".")))[1:]) for host, _ in addresses]


def answer(run: Lookup, number: int, *named: int, token: bytes | None = b"t") -> None:
    run.on_answer(node(number).address, node(number).id, nodes(*named), token)


def test_the_closest_are_asked_first_and_not_all_at_once() -> None:
    run = lookup(9, 5, 7, 1, 3)
    assert numbers(run.next_questions()) == [1, 3, 5, 7]
    assert run.next_questions() == []
    assert not run.is_done
    answer(run, 3, 2, 11)
    assert numbers(run.next_questions()) == [2]


def test_it_ends_when_the_closest_have_answered() -> None:
    run = lookup(*range(1, 21))
    asked: list[int] = []
    while questions := run.next_questions():
        for number in numbers(questions):
            asked.append(number)
            answer(run, number)
    assert run.is_done
    assert asked == list(range(1, CLOSEST + 1))
    assert [contact for contact, _ in run.closest()] == nodes(*range(1, CLOSEST + 1))
    assert {token for _, token in run.closest()} == {b"t"}


def test_silent_and_slow_ones_do_not_count() -> None:
    run = lookup(*range(1, 21))
    first = run.next_questions()
    assert len(first) == ALPHA
    run.on_silence(first[0])
    run.on_slow(first[1])
    assert numbers(run.next_questions()) == [5, 6]
    run.on_silence(first[1])  # known already
    assert run.next_questions() == []
    while True:
        for address in first[2:]:
            answer(run, *numbers([address]))
        first = [None, None, *run.next_questions()]  # type: ignore[list-item]
        if first == [None, None]:
            run.on_silence(node(5).address)
            run.on_silence(node(6).address)
            first += run.next_questions()
        if run.is_done:
            break
    assert node(1) not in [contact for contact, _ in run.closest()]


def test_a_late_answer_is_welcome() -> None:
    run = lookup(1, 2)
    run.next_questions()
    run.on_slow(node(1).address)
    run.on_slow(node(2).address)
    assert run.next_questions() == []
    assert run.is_done
    answer(run, 1, 7)
    assert run.closest() == [(node(1), b"t")]
    assert numbers(run.next_questions()) == [7]


def test_an_answer_nobody_asked_for_is_ignored() -> None:
    run = lookup(1, 2)
    answer(run, 1, 7)
    assert run.answers == 0
    assert numbers(run.next_questions()) == [1, 2]
    answer(run, 1, 7)
    answer(run, 1, 8)
    assert run.answers == 1


def test_without_a_token_a_node_cannot_be_told() -> None:
    run = lookup(1, 2)
    run.next_questions()
    answer(run, 1, token=None)
    answer(run, 2)
    assert run.closest() == [(node(2), b"t")]


def test_who_has_another_id_counts_where_it_is() -> None:
    run = lookup(1, 2)
    run.next_questions()
    run.on_answer(node(1).address, node(900).id, [], b"t")
    answer(run, 2)
    assert run.closest()[-1] == (Contact(node(900).id, node(1).address), b"t")


def test_routers_are_asked_when_too_few_are_known() -> None:
    router, router6 = ("10.255.0.1", 9), ("fd00::1", 9)
    run = lookup(1, routers=(router, router6, router))
    assert run.next_questions() == [node(1).address, router]
    run.on_answer(router, b"r" * 20, nodes(5, 6), b"t")
    assert numbers(run.next_questions()) == [5, 6]
    # it answered, so it is a node: where there are few others it is told of us as well
    assert run.closest() == [(Contact(b"r" * 20, router), b"t")]


def test_routers_are_asked_when_those_we_knew_are_dead() -> None:
    router = ("10.255.0.1", 9)
    run = lookup(*range(1, 20), routers=(router,))
    first = run.next_questions()
    assert router not in first
    run.on_slow(first[0])
    assert router in run.next_questions()


def test_routers_are_not_asked_when_all_is_well() -> None:
    router = ("10.255.0.1", 9)
    run = lookup(*range(1, 20), routers=(router,))
    asked: list[Address] = []
    while questions := run.next_questions():
        asked += questions
        for number in numbers(questions):
            answer(run, number)
    # at the very end there was nobody left to wait for: not even then
    assert router not in asked


def test_a_router_is_asked_again_while_nobody_answers() -> None:
    router = ("10.255.0.1", 9)
    run = lookup(routers=(router,))
    for _ in range(ROUTER_TRIES):
        assert run.next_questions() == [router]
        assert not run.is_done
        run.on_slow(router)
    assert run.next_questions() == []
    assert run.is_done
    run.on_answer(router, b"r" * 20, nodes(5), None)  # late, and welcome
    assert numbers(run.next_questions()) == [5]
    run.on_silence(router)
    assert not run.is_done


def test_one_answer_and_one_network_add_a_few() -> None:
    run = lookup(100)
    run.next_questions()
    answer(run, 100, *range(1, 60))
    assert len(run._candidates) == 1 + PER_ANSWER
    crowd = [Contact(n.to_bytes(20), (f"8.8.8.{n}", 5)) for n in range(1, 9)]
    run = Lookup(TARGET, crowd, ipv6=False)
    assert len(run._candidates) == PER_PLACE


def test_ids_that_bep_42_forbids_hide_nobody() -> None:
    liars = [Contact(n.to_bytes(20), (f"8.{n}.1.1", 5)) for n in range(1, 60)]
    honest = nodes(*range(1000, 1040))
    run = Lookup(TARGET, [*liars, *honest], ipv6=False)
    asked: list[Address] = []
    while questions := run.next_questions():
        asked += questions
        for address in questions:
            node_id = next(c.id for c in [*liars, *honest] if c.address == address)
            run.on_answer(address, node_id, [], b"t")
    assert len(asked) == 2 * CLOSEST
    assert len(run.closest()) == 2 * CLOSEST


def test_where_nobody_keeps_bep_42_all_is_as_without() -> None:
    everybody = [Contact(n.to_bytes(20), (f"8.{n}.1.1", 5)) for n in range(1, 60)]
    run = Lookup(TARGET, everybody, ipv6=False)
    asked = run.next_questions()
    assert len(asked) == ALPHA
    while questions := run.next_questions():
        asked += questions
    for address in asked:
        run.on_answer(address, bytes(19) + bytes([int(address[0].split(".")[1])]), [], b"t")
        asked += run.next_questions()
    assert len(asked) == CLOSEST
    assert run.is_done


def test_strangers_do_not_lead_us_home() -> None:
    stranger = Contact(b"s" * 20, ("8.8.8.8", 5))
    run = Lookup(TARGET, [stranger], ipv6=False)
    run.next_questions()
    home = [Contact(b"h" * 20, ("192.168.0.1", 53)), Contact(b"i" * 20, ("127.0.0.1", 22))]
    run.on_answer(stranger.address, stranger.id, home, b"t")
    assert run.next_questions() == []


def test_the_other_family_and_ourselves_are_no_candidates() -> None:
    own = node(3)
    six = Contact(b"6" * 20, ("fd00::1", 5))
    run = Lookup(TARGET, [own, six, node(4)], ipv6=False, own_id=own.id)
    assert run.next_questions() == [node(4).address]


def test_questions_and_candidates_are_bounded() -> None:
    """Liars that name ever closer nodes, all of which answer."""
    rng = Random(1)
    run = lookup(1 << 20)
    asked = 0
    closest = 1 << 20
    while questions := run.next_questions():
        for address in questions:
            asked += 1
            closest -= 100
            known = run._by_address[address].contact
            names = [closest - rng.randrange(90) for _ in range(8)]
            run.on_answer(address, known.id, nodes(*names), b"t")
        assert len(run._candidates) <= MAX_CANDIDATES
    assert asked == MAX_QUESTIONS
    assert run.is_done
