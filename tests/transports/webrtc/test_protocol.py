"""Messages between the processes: every one comes back as it was, and nothing else is accepted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.errors import LocalProtocolError, RemoteProtocolError
from torrentfs.transports.webrtc.config import RtcConfig, TurnServer
from torrentfs.transports.webrtc.protocol import (
    MAX_CONNECTION,
    MAX_MESSAGE,
    MAX_SDP,
    AcceptAnswer,
    AnswerMade,
    AnswerOffer,
    Configure,
    Ended,
    Failed,
    Forget,
    MakeOffer,
    Message,
    OfferMade,
    Opened,
    decode,
    encode,
    is_sdp,
)

NUMBERS = st.integers(0, MAX_CONNECTION)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    *(st.builds(kind, NUMBERS) for kind in (MakeOffer, Forget, Ended)),
    *(
        st.builds(kind, NUMBERS, TEXTS)
        for kind in (AcceptAnswer, AnswerOffer, OfferMade, AnswerMade, Failed)
    ),
    st.builds(Opened, NUMBERS, TEXTS, st.integers(0, 65535)),
    st.just(
        Configure(
            RtcConfig(
                stun=("stun:a",),
                turn=(TurnServer("turn:b", "user", "pass"), TurnServer("turns:c")),
                relay_only=True,
                bind="eth0",
                max_connections=7,
                max_offers=3,
            )
        )
    ),
    st.just(Configure(RtcConfig())),
)


@given(MESSAGES)
def test_comes_back_as_it_was(message: Message) -> None:
    assert decode(encode(message)) == message


@given(st.binary(max_size=200))
def test_noise_is_a_declared_error(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)


@given(st.sampled_from(["Configure", "MakeOffer", "Opened", "Failed", "Nonsense"]), st.lists(JSON))
def test_other_fields_are_a_declared_error_or_a_message(name: str, values: list[object]) -> None:
    try:
        message = decode(json.dumps([name, *values]).encode())
    except RemoteProtocolError:
        return
    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"[1]",
        b'["MakeOffer"]',
        b'["MakeOffer",true]',
        b'["MakeOffer",-1]',
        b'["MakeOffer",1.0]',
        b'["MakeOffer",99999999999999999999]',
        b'["MakeOffer",1,2]',
        b'["OfferMade",1,2]',
        b'["OfferMade",1,"\\ud800"]',
        b'["Configure",{"stun":[],"turn":[["turn:a","\\ud800"]]}]',
        b'["Configure",{"stun":[],"turn":[],"bind":"\\udfff"}]',
        b'["Configure",{}]',
        b'["Configure",{"stun":["http://x"],"turn":[]}]',
        b'["Configure",{"stun":[],"turn":[["a","b","c","d"]]}]',
        b'["Configure",{"stun":[],"turn":[],"more":1}]',
        b"[" * 60000,
        b'["Failed",1,"' + b"x" * MAX_MESSAGE + b'"]',
    ],
)
def test_what_is_no_message(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(data)


def test_a_message_over_the_size_is_our_mistake() -> None:
    with pytest.raises(LocalProtocolError):
        encode(OfferMade(1, "x" * MAX_MESSAGE))
    with pytest.raises(LocalProtocolError):
        encode(OfferMade(1, "\ud800"))


def test_whatever_may_be_sent_fits() -> None:
    for text in ("\0" * MAX_SDP, "\\" * MAX_SDP, "a" * MAX_SDP):
        if is_sdp(text):
            try:
                encode(AnswerOffer(MAX_CONNECTION, text))
            except LocalProtocolError:
                assert text[0] == "\0"  # six characters each: the bridge parses it before


def test_a_text_that_can_be_sent() -> None:
    assert is_sdp("v=0")
    assert is_sdp("x" * MAX_SDP)
    assert not is_sdp("")
    assert not is_sdp("x" * (MAX_SDP + 1))
    assert not is_sdp("ä" * MAX_SDP)
    assert not is_sdp("\ud800")
