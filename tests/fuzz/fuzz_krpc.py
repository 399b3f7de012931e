"""Messages of the DHT: a value that goes round, or `RemoteProtocolError`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.errors import RemoteProtocolError
from torrentfs.wire.krpc import (
    AnnouncePeer,
    Contact,
    Failure,
    FindNode,
    GetItem,
    GetPeers,
    InfohashSample,
    Item,
    Message,
    OtherCall,
    Ping,
    PutItem,
    Query,
    Response,
    SampleInfohashes,
    encode_message,
    parse_message,
)
from torrentfs.wire.limits import MAX_TEXT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

MODULES = ["torrentfs.wire.krpc", "torrentfs.wire.text", "torrentfs.metainfo.bencoding"]

_ME, _YOU = b"m" * 20, b"y" * 20


def _messages() -> Iterable[Message]:
    yield Query(b"aa", _ME, Ping(), read_only=True)
    yield Query(b"aa", _ME, FindNode(_YOU, ("n4", "n6")), version=b"TF01")
    yield Query(b"aa", _ME, GetPeers(_YOU))
    yield Query(b"aa", _ME, AnnouncePeer(_YOU, None, b"token"))
    yield Query(b"aa", _ME, AnnouncePeer(_YOU, 6881, b"token"))
    yield Query(b"aa", _ME, OtherCall(b"find_owner", _YOU))
    yield Query(b"aa", _ME, SampleInfohashes(_YOU, ("n6",)))
    yield Response(b"aa", _ME, sample=InfohashSample(21600, 3, (_ME, _YOU)))
    four, six = ("192.0.2.1", 6881), ("2001:db8::1", 51413)
    yield Response(
        *(b"aa", _ME, (Contact(_YOU, four),), (Contact(_YOU, six),)),
        *((four, six), b"token", None, four, b"LT02"),
    )
    item = Item(b"d2:ih20:" + _ME + b"e", b"k" * 32, b"s" * 64, 7, b"salt")
    yield Query(b"aa", _ME, GetItem(_YOU))
    yield Query(b"aa", _ME, PutItem(item, b"token", 6))
    yield Query(b"aa", _ME, PutItem(Item(b"12:Hello World!"), b"token"))
    yield Response(b"aa", _ME, item=Item(item.value, item.key, item.signature, 7))
    yield Failure(b"aa", 203, "bad token")


def seeds() -> Iterable[bytes]:
    """One of each message."""
    return map(encode_message, _messages())


def one_input(data: bytes) -> None:
    """Read it; what came out must be sendable, and be read as the same."""
    try:
        message = parse_message(data)
    except RemoteProtocolError as refused:
        reason = str(refused)
    else:
        if isinstance(message, Failure) and len(message.words.encode()) > MAX_TEXT_BYTES:
            return  # broken UTF-8 made it longer: it would be cut again
        assert parse_message(encode_message(message)) == message
        return
    assert reason.isprintable()
