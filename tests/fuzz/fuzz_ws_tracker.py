"""Messages of WebSocket trackers and of their clients: values, or `RemoteProtocolError`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.errors import RemoteProtocolError
from torrentfs.wire import limits, ws_tracker
from torrentfs.wire.announce import AnnounceReply, AnnounceRequest, TrackerFailure

if TYPE_CHECKING:
    from collections.abc import Iterable

MODULES = ["torrentfs.wire.announce", "torrentfs.wire.text", "torrentfs.wire.ws_tracker"]

_HASH, _PEER, _ID = bytes(range(236, 256)), b"-WW0109-\xff\x00abcdefghij", bytes(range(120, 140))
_SDP = 'v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\na=ice-pwd:"\\é\r\n'


def seeds() -> Iterable[bytes]:
    """One of each message and request; the first byte chooses the reader."""
    reply = AnnounceReply(120, 60, 5, 6, warning="slow down", tracker_id=b"\xff")
    request = AnnounceRequest(_HASH, _PEER, 0, 1, 2, 3, "started", tracker_id=b"id")
    messages: tuple[ws_tracker.Message, ...] = (
        ws_tracker.Announced(_HASH, reply),
        ws_tracker.Refused(_HASH, TrackerFailure(b"not registered")),
        ws_tracker.Refused(None, TrackerFailure(b"invalid info_hash")),
        ws_tracker.PeerOffer(_HASH, _PEER, _ID, _SDP),
        ws_tracker.PeerAnswer(_HASH, _PEER, _ID, _SDP),
        ws_tracker.Scraped(_HASH, 1, 2, 3),
    )
    for message in messages:
        yield b"\0" + ws_tracker.encode_message(message).encode()
    requests: tuple[ws_tracker.Request, ...] = (
        ws_tracker.Announce(request, (ws_tracker.Offer(_ID, _SDP), ws_tracker.Offer(_HASH, _SDP))),
        ws_tracker.Answer(_HASH, _PEER, _ID, b"offer", _SDP),
        ws_tracker.Scrape((_HASH, _ID)),
    )
    for each in requests:
        yield b"\1" + ws_tracker.encode_request(each).encode()
    yield b"\0" + b'{"action":' * 2000 + b'["announce"' * 2000


def one_input(data: bytes) -> None:
    """Read it; what came out must be within its limits and go round."""
    kind, body = (data[:1] or b"\0")[0] % 2, data[1:]
    try:
        if kind == 0:
            for message in ws_tracker.parse_messages(body):
                _check(message)
        else:
            request = ws_tracker.parse_request(body)
            again = ws_tracker.parse_request(ws_tracker.encode_request(request))
            if not isinstance(request, ws_tracker.Announce):
                assert again == request
            else:
                assert isinstance(again, ws_tracker.Announce)
                assert again.offers == request.offers
    except RemoteProtocolError as refused:
        reason = str(refused)
    else:
        return
    assert reason.isprintable()


def _check(message: ws_tracker.Message) -> None:
    if isinstance(message, ws_tracker.Refused):
        assert str(message.failure).isprintable()
        return
    assert len(message.info_hash) == 20
    if isinstance(message, ws_tracker.PeerOffer | ws_tracker.PeerAnswer):
        assert len(message.peer_id) == 20
        assert 0 < len(message.offer_id) <= limits.MAX_OFFER_ID_BYTES
        assert 0 < len(message.sdp.encode()) <= limits.MAX_SDP_BYTES
    again = ws_tracker.parse_messages(ws_tracker.encode_message(message))
    if isinstance(message, ws_tracker.Announced) and message.reply.warning:
        return  # "?" for what no terminal can show, and blanks at its ends, are gone already
    assert again == (message,)
