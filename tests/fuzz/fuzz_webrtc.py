"""Session descriptions and the worker's messages: values, or `RemoteProtocolError`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.errors import RemoteProtocolError
from torrentfs.transports.webrtc import protocol, sdp
from torrentfs.transports.webrtc.config import RtcConfig, TurnServer

if TYPE_CHECKING:
    from collections.abc import Iterable

MODULES = ["torrentfs.transports.webrtc.protocol", "torrentfs.transports.webrtc.sdp"]

_DESCRIPTION = sdp.Description(
    ufrag="abcd",
    password="x" * 22,
    fingerprints=(("sha-256", ":".join(["0F"] * 32)),),
    setup="actpass",
    candidates=(
        sdp.Candidate("1", 2122260223, "192.0.2.1", 4000, "host"),
        sdp.Candidate("2", 1, "2001:db8::1", 4001, "srflx", ("192.0.2.1", 9)),
        sdp.Candidate("3", 0, "0a1b-2c.local", 65535, "host"),
    ),
)


def seeds() -> Iterable[bytes]:
    """A description, and one of each message; the first byte chooses the reader."""
    text = sdp.render(_DESCRIPTION)
    yield b"\0" + text.encode()
    config = RtcConfig(("stun:a",), (TurnServer("turn:b", "user", "pass"),), bind="eth0")
    messages: tuple[protocol.Message, ...] = (
        protocol.Configure(config),
        protocol.MakeOffer(1),
        protocol.AcceptAnswer(2, text),
        protocol.Opened(3, "2001:db8::1", 4000),
        protocol.Failed(4, "no"),
        protocol.ServerTold("turn:b", "does not answer"),
        protocol.Ended(5),
    )
    for message in messages:
        yield b"\1" + protocol.encode(message)
    yield b"\1" + b'["Failed",' + b"[" * 5000


def one_input(data: bytes) -> None:
    """Read it; what came out must be within its limits and go round."""
    kind, body = (data[:1] or b"\0")[0] % 2, data[1:]
    try:
        found = sdp.parse(body.decode(errors="replace")) if kind == 0 else protocol.decode(body)
    except RemoteProtocolError:
        return
    if not isinstance(found, sdp.Description):
        assert protocol.decode(protocol.encode(found)) == found
        return
    assert len(found.candidates) <= sdp.MAX_CANDIDATES
    for candidate in found.candidates:
        assert 0 < candidate.port < 65536
    again = sdp.parse(sdp.render(found))
    assert (again.ufrag, again.fingerprints) == (found.ufrag, found.fingerprints)
    assert [each.host for each in again.candidates] == [each.host for each in found.candidates]
