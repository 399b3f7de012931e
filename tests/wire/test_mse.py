"""The encryption handshake: both roles against each other, cut anyhow, and against nonsense."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.errors import LocalProtocolError, RemoteProtocolError
from torrentfs.wire.mse import (
    _PRIME,
    BOTH,
    KEY_BYTES,
    MAX_INITIAL,
    MAX_PAD,
    Initiator,
    Method,
    Responder,
    Secured,
    rc4,
)

SKEYS = [bytes([number]) * 20 for number in range(5)]
PLAIN, RC4 = Method.PLAIN, Method.RC4


def exchange(
    one: Initiator, other: Responder, rng: Random, *, tail: bytes = b"", most: int = 0
) -> tuple[Secured, Secured]:
    """Run both to the end, over a line that cuts as `rng` says (`most` bytes at a time)."""
    there, back = bytearray(one.first()), bytearray()
    while one.secured is None or other.secured is None:
        assert there or back, "both wait"
        if there and other.secured is None:
            size = rng.randint(1, most) if most else len(there)
            back += other.receive(bytes(there[:size]))
            del there[:size]
            if other.secured is not None and other.secured.encrypt is not None:
                back += other.secured.encrypt.update(tail)
            elif other.secured is not None:
                back += tail
        if back and one.secured is None:
            size = rng.randint(1, most) if most else len(back)
            there += one.receive(bytes(back[:size]))
            del back[:size]
    first, second = one.secured, other.secured
    if back:  # what one did not get to see inside its handshake
        rest = bytes(back)
        rest = first.decrypt.update(rest) if first.decrypt is not None else rest
        first = Secured(
            first.method, first.skey, first.encrypt, first.decrypt, first.received + rest
        )
    return first, second


@given(
    st.integers(0, 1 << 30),
    st.sampled_from([0, 1, 7, 100, 700]),
    st.sampled_from([PLAIN, RC4, BOTH]),
    st.binary(max_size=100),
    st.binary(max_size=50),
)
def test_both_sides_agree_however_it_is_cut(
    seed: int, most: int, provide: Method, initial: bytes, tail: bytes
) -> None:
    rng = Random(seed)
    one = Initiator(SKEYS[2], rng.randbytes, provide=provide, initial=initial)
    other = Responder(SKEYS, rng.randbytes)
    ours, theirs = exchange(one, other, rng, tail=tail, most=most)
    assert ours.method is theirs.method is (RC4 if provide is RC4 else PLAIN)
    assert ours.skey == theirs.skey == SKEYS[2]
    assert (theirs.received, ours.received) == (initial, tail)
    if ours.encrypt is not None:
        assert theirs.decrypt is not None
        assert theirs.encrypt is not None
        assert ours.decrypt is not None
        assert theirs.decrypt.update(ours.encrypt.update(b"there")) == b"there"
        assert ours.decrypt.update(theirs.encrypt.update(b"back")) == b"back"
    else:
        assert theirs.encrypt is None


def test_what_the_responder_wants_of_what_is_offered() -> None:
    for allow, prefer, provide, expected in [
        (BOTH, RC4, BOTH, RC4),
        (BOTH, PLAIN, BOTH, PLAIN),
        (RC4, PLAIN, BOTH, RC4),
        (PLAIN, RC4, BOTH, PLAIN),
        (RC4, PLAIN, PLAIN, None),
        (PLAIN, PLAIN, RC4, None),
    ]:
        rng = Random(1)
        one = Initiator(SKEYS[0], rng.randbytes, provide=provide)
        other = Responder(SKEYS, rng.randbytes, allow=allow, prefer=prefer)
        if expected is None:
            with pytest.raises(RemoteProtocolError, match="no encryption that we would use"):
                exchange(one, other, rng)
        else:
            assert exchange(one, other, rng)[0].method is expected


def test_a_torrent_that_is_not_here() -> None:
    rng = Random(1)
    with pytest.raises(RemoteProtocolError, match="not here"):
        exchange(Initiator(b"x" * 20, rng.randbytes), Responder(SKEYS, rng.randbytes), rng)


def test_keys_that_make_the_secret_known_are_refused() -> None:
    for number in (0, 1, _PRIME - 1, _PRIME, _PRIME + 1):
        key = number.to_bytes(KEY_BYTES)
        for role in (Responder(SKEYS, Random(1).randbytes), Initiator(b"x", Random(1).randbytes)):
            with pytest.raises(RemoteProtocolError, match="impossible"):
                role.receive(key)


@given(st.binary(max_size=3000), st.integers(1, 900))
def test_nonsense_ends_within_bounds(data: bytes, step: int) -> None:
    for role in (Responder(SKEYS, Random(1).randbytes), Initiator(b"x", Random(1).randbytes)):
        given_back = 0
        try:
            for at in range(0, len(data), step):
                given_back += len(role.receive(data[at : at + step]))
        except RemoteProtocolError:
            pass
        else:
            assert len(data) < KEY_BYTES + MAX_PAD + 20
        assert len(role._buffer) < KEY_BYTES + MAX_PAD + 20 + step
        assert given_back <= KEY_BYTES + 2 * MAX_PAD + 100


def test_the_search_ends_after_512_bytes() -> None:
    rng = Random(3)
    other = Responder(SKEYS, rng.randbytes)
    one = Initiator(SKEYS[0], rng.randbytes)
    hello = one.first()[:KEY_BYTES]
    third = one.receive(other.receive(hello))
    other.receive(bytes(MAX_PAD))  # as long as a pad may be
    other.receive(third)
    assert other.secured is not None
    late = Responder(SKEYS, rng.randbytes)
    one = Initiator(SKEYS[0], rng.randbytes)
    third = one.receive(late.receive(one.first()[:KEY_BYTES]))
    with pytest.raises(RemoteProtocolError, match="no beginning"):
        late.receive(bytes(MAX_PAD + 1) + third)


def test_what_we_may_not_say() -> None:
    with pytest.raises(LocalProtocolError):
        Initiator(b"x", Random(1).randbytes, provide=Method(0))
    with pytest.raises(LocalProtocolError):
        Initiator(b"x", Random(1).randbytes, initial=bytes(MAX_INITIAL + 1))


def tampered(skip: bytes) -> None:
    """A responder is offered `skip` (VC, provide, length of the pad, ...) by who knows the key."""
    rng = Random(5)
    one, other = Initiator(SKEYS[0], rng.randbytes), Responder(SKEYS, rng.randbytes)
    third = one.receive(other.receive(one.first()[:KEY_BYTES]))
    other.receive(third[:40] + rc4(b"keyA", one._shared, SKEYS[0]).update(skip))


@pytest.mark.parametrize(
    ("offer", "words"),
    [
        (b"12345678" + bytes(6), "cannot be read"),
        (bytes(8) + b"\0\0\0\3\2\1", "padding of 513"),
        (bytes(8) + b"\0\0\0\3\0\0\xff\xff", "65535 bytes along"),
        (bytes(8) + b"\0\0\0\0\0\0\0\0", "no encryption"),
        (bytes(8) + b"\0\0\0\4\0\0\0\0", "no encryption"),
    ],
)
def test_offers_that_are_refused(offer: bytes, words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=words):
        tampered(offer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"\0\0\0\3\0\0", "selected encryption 3"),
        (b"\0\0\0\0\0\0", "selected encryption 0"),
        (b"\0\0\0\2\2\1", "padding of 513"),
        (b"\0\0\0\1\0\0", "selected encryption 1"),
    ],
)
def test_answers_that_are_refused(answer: bytes, words: str) -> None:
    rng = Random(5)
    one = Initiator(SKEYS[0], rng.randbytes, provide=RC4)
    other = Responder(SKEYS, rng.randbytes)
    one.receive(other.receive(one.first()[:KEY_BYTES]))
    with pytest.raises(RemoteProtocolError, match=words):
        one.receive(rc4(b"keyB", one._shared, SKEYS[0]).update(bytes(8) + answer))
