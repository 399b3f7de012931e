"""The row of STUN or TURN servers: who is asked next, who rests, what is news."""

from __future__ import annotations

from torrentfs.transports.webrtc.config import server_place
from torrentfs.transports.webrtc.servers import SILENCE, SILENT, Failure, Server, Servers, refusal

A, B, C = (Server(f"turn:{name}", server_place(f"turn:{name}"), "me", "secret") for name in "abc")
SILENT_ = Failure(SILENT)
REFUSED = refusal(401)


def due(servers: Servers, now: float, *, waited_for: bool = False, needed: bool = False) -> str:
    found = servers.due(now, waited_for=waited_for, needed=needed)
    return "".join(each.place.host for each in found)


def test_the_first_that_was_named_is_asked_first() -> None:
    servers = Servers([A, B, C])
    assert due(servers, 0) == due(servers, 0, waited_for=True) == "abc"
    assert not Servers([])


def test_who_fails_goes_to_the_end_and_rests() -> None:
    servers = Servers([A, B])
    assert servers.on_failure(A, SILENT_, 10)
    assert due(servers, 10) == "b"
    assert not servers.on_answer(B, (), 11)


def test_one_that_failed_is_asked_again_after_its_rest_though_another_answers() -> None:
    """Else what is told of it would never be taken back."""
    servers = Servers([A, B, C])
    servers.on_failure(A, SILENT_, 0)
    servers.on_failure(B, SILENT_, 0)
    assert due(servers, SILENCE) == due(servers, SILENCE, needed=True) == "acb"  # one at a time
    assert due(servers, SILENCE, waited_for=True) == "c"
    assert due(servers, SILENCE, waited_for=True, needed=True) == "cab"
    assert servers.on_answer(A, (), SILENCE)
    assert due(servers, SILENCE + 1) == "bca"
    assert servers.complaints() == "turn:b does not answer"


def test_several_that_find_out_at_once_move_it_once() -> None:
    servers = Servers([A, B, C])
    assert servers.on_failure(A, SILENT_, 10)
    assert not servers.on_failure(A, SILENT_, 10.1)
    assert due(servers, 100, waited_for=True, needed=True) == "bca"


def test_nobody_waits_for_one_that_failed_until_it_has_answered() -> None:
    servers = Servers([A])
    servers.on_failure(A, SILENT_, 0)
    assert due(servers, SILENCE + 1, waited_for=True) == ""
    assert due(servers, SILENCE + 1) == "a"
    assert servers.on_answer(A, (), SILENCE + 2)
    assert due(servers, SILENCE + 2, waited_for=True) == "a"


def test_where_one_is_needed_a_silent_one_is_asked_and_one_that_refuses_is_not() -> None:
    servers = Servers([A, B])
    servers.on_failure(A, SILENT_, 0)
    servers.on_failure(B, REFUSED, 0)
    assert due(servers, 1, waited_for=True, needed=True) == "a"
    assert due(servers, SILENCE, waited_for=True, needed=True) == "ab"
    assert servers.complaints() == "turn:a does not answer, turn:b refuses the credentials (401)"


def test_another_cause_is_news() -> None:
    servers = Servers([A])
    assert servers.on_failure(A, SILENT_, 0)
    assert servers.on_failure(A, REFUSED, 100)
    assert not servers.on_failure(A, REFUSED, 200)
    assert servers.on_answer(A, (), 300)
    assert servers.complaints() == ""


def test_an_address_that_got_no_answer_rests_for_this_server() -> None:
    servers = Servers([A, B])
    servers.on_answer(A, ["172.17.0.1"], 0)
    ours = ["192.0.2.1", "172.17.0.1"]
    assert servers.hearing(A, ours, 1) == ["192.0.2.1"]
    assert servers.hearing(B, ours, 1) == ours
    assert servers.hearing(A, ours, SILENCE) == ours


def test_codes_have_words_of_ours() -> None:
    assert refusal(486) == Failure("has given this user all that he may have (486)", True)
    assert refusal(599) == Failure("answers with an error (599)", True)


def test_no_password_is_shown() -> None:
    assert "secret" not in repr(A) + repr(Servers([A]))
