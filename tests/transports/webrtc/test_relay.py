"""STUN and TURN as they are: coturn between two workers."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import trio

from tests.swarm.relay import PASSWORD, USER, Relay, relay
from tests.transports.webrtc.test_aiortc_backend import connect, is_empty, read, until
from torrentfs.errors import TransportError
from torrentfs.transports.webrtc.bridge import open_webrtc
from torrentfs.transports.webrtc.config import RtcConfig, TurnServer
from torrentfs.transports.webrtc.sdp import parse

pytestmark = pytest.mark.real

SIZE = 300_000


@pytest.fixture(scope="module")
def coturn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    with relay(tmp_path_factory.mktemp("relay")) as running:
        yield running


def through(*urls: str, password: str = PASSWORD, relay_only: bool = True) -> RtcConfig:
    turn = tuple(TurnServer(url, USER, password) for url in urls)
    return RtcConfig(turn=turn, bind="127.0.0.1", relay_only=relay_only)


async def test_the_stun_server_sees_us(coturn: Relay) -> None:
    async with open_webrtc(RtcConfig(stun=(coturn.stun,), bind="127.0.0.1")) as rtc:
        assert "typ srflx raddr 127.0.0.1" in (await rtc.offer()).sdp


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_relay_only_tells_nothing_but_the_relay_and_carries_bytes(
    coturn: Relay, transport: str
) -> None:
    config = through(f"{coturn.turn}?transport={transport}")
    with trio.fail_after(30):
        async with open_webrtc(config) as one, open_webrtc(config) as other:
            said = []

            def hear(sdp: str) -> str:
                said.append(sdp)
                return sdp

            ours, theirs = await connect(one, other, hear)
            data = os.urandom(SIZE)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ours.send_all, data)
                assert await read(theirs, SIZE) == data
            await theirs.send_all(b"thanks")
            assert await read(ours, 6) == b"thanks"
            for sdp in said:
                (only,) = parse(sdp).candidates
                assert only.kind == "relay"
                assert sdp.count("candidate:") == sdp.count("raddr 0.0.0.0 rport 9") == 1
            await ours.aclose()
            await theirs.aclose()
            for rtc in (one, other):
                await until(lambda rtc=rtc: is_empty(rtc))


@pytest.mark.expect_log("refuses the credentials (401)")
async def test_a_wrong_password_is_said(coturn: Relay, caplog: pytest.LogCaptureFixture) -> None:
    async with open_webrtc(through(coturn.turn, password="wrong")) as rtc:
        for _ in range(2):
            with pytest.raises(TransportError, match=r"refuses the credentials \(401\)"):
                await rtc.offer()
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"WebRTC: {coturn.turn} refuses the credentials (401)"
    ]


@pytest.mark.expect_log("refuses the credentials (401)")
async def test_without_the_relay_there_is_still_an_offer(coturn: Relay) -> None:
    config = through(coturn.turn, password="wrong", relay_only=False)
    async with open_webrtc(config) as rtc:
        (only,) = parse((await rtc.offer()).sdp).candidates
        assert only.kind == "host"
        assert rtc.troubles == {coturn.turn: "refuses the credentials (401)"}


@pytest.mark.expect_log("refuses connections")
async def test_the_second_relay_is_used_when_the_first_is_dead(coturn: Relay) -> None:
    dead = "turn:127.0.0.1:9?transport=tcp"
    async with open_webrtc(through(dead, coturn.turn)) as rtc:
        (only,) = parse((await rtc.offer()).sdp).candidates
        assert only.kind == "relay"
        assert list(rtc.troubles) == [dead]
