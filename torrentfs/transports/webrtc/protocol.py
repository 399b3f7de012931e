"""What the two processes say to each other: messages to bytes and back, sans I/O.

The control socket is a SOCK_SEQPACKET pair, so the kernel keeps messages apart, and a descriptor
sent along with one (SCM_RIGHTS, only ever with `Opened`) cannot be taken for another's. A message
is a JSON array: its name, then its fields in the order of the dataclass. JSON since SDP is text
and nothing here is frequent: payload never comes this way.

The worker parses what strangers send, so what it says is checked like anything remote: size,
names, number and type of fields; all else is a `RemoteProtocolError`, after which the worker is
ended. A message of ours over the size is a `LocalProtocolError`; callers check `is_sdp` before.

A connection is known by a number that the trio side chooses and never uses twice. Of each one
the worker says `Ended` exactly once, when nothing of it is left; `Failed` may come before.
"""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass, fields

from torrentfs.errors import ConfigError, LocalProtocolError, RemoteProtocolError
from torrentfs.transports.webrtc.config import RtcConfig, TurnServer

MAX_SDP = 16 * 1024
"""Bytes of UTF-8 of a session description. A browser's with a data channel alone has 0.5 to 2 KB,
of which each candidate is about 100 bytes."""
MAX_MESSAGE = 64 * 1024
"""Bytes of a message: a description in JSON, where a character can take six, does not reach it
unless it is garbage."""
MAX_REASON = 500
MAX_CONNECTION = 2**53


@dataclass(frozen=True, slots=True)
class Configure:
    """To the worker, first of all."""

    config: RtcConfig


@dataclass(frozen=True, slots=True)
class MakeOffer:
    """To the worker: answered by `OfferMade` or `Failed`."""

    connection: int


@dataclass(frozen=True, slots=True)
class AcceptAnswer:
    """To the worker: a peer answered our offer. `Opened` or `Failed` follows."""

    connection: int
    sdp: str


@dataclass(frozen=True, slots=True)
class AnswerOffer:
    """To the worker: a peer's offer. `AnswerMade`, then `Opened`; or `Failed`."""

    connection: int
    sdp: str


@dataclass(frozen=True, slots=True)
class Forget:
    """To the worker: nobody wants this connection any more. Unknown ones are no mistake."""

    connection: int


@dataclass(frozen=True, slots=True)
class OfferMade:
    """From the worker: a complete description (all candidates), to be sent to one peer."""

    connection: int
    sdp: str


@dataclass(frozen=True, slots=True)
class AnswerMade:
    """From the worker: the answer to a peer's offer."""

    connection: int
    sdp: str


@dataclass(frozen=True, slots=True)
class Opened:
    """From the worker, with one descriptor: the stream of an open data channel."""

    connection: int
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Failed:
    """From the worker: what was asked of this connection did not work."""

    connection: int
    reason: str


@dataclass(frozen=True, slots=True)
class ServerTold:
    """From the worker: a STUN or TURN server failed, and why; no `reason`: it is well again."""

    url: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """From the worker: nothing of this connection is left there."""

    connection: int


ToWorker = Configure | MakeOffer | AcceptAnswer | AnswerOffer | Forget
FromWorker = OfferMade | AnswerMade | Opened | Failed | ServerTold | Ended
Message = ToWorker | FromWorker

_KINDS: dict[str, type[Message]] = {
    kind.__name__: kind
    for kind in (
        Configure,
        MakeOffer,
        AcceptAnswer,
        AnswerOffer,
        Forget,
        OfferMade,
        AnswerMade,
        Opened,
        Failed,
        ServerTold,
        Ended,
    )
}
_TYPES = {"int": int, "str": str, "bool": bool}


def is_sdp(text: str) -> bool:
    """Whether a stranger's text may be put into a message at all: encodable, and of a size."""
    return 0 < len(text) <= MAX_SDP and _is_text(text) and len(text.encode()) <= MAX_SDP


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON can carry half of a surrogate pair
        return False
    return True


def encode(message: Message) -> bytes:
    """The bytes of one message; `LocalProtocolError` over `MAX_MESSAGE`."""
    if isinstance(message, Configure):
        values: list[object] = [_config_to_plain(message.config)]
    else:
        values = [getattr(message, field.name) for field in fields(message)]
    try:
        line = json.dumps([type(message).__name__, *values], ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise LocalProtocolError(f"cannot be sent: {error}") from error
    if len(line) > MAX_MESSAGE:
        raise LocalProtocolError(f"a message of {len(line)} bytes: at most {MAX_MESSAGE}")
    return line


def decode(data: bytes) -> Message:
    """The message of these bytes; `RemoteProtocolError` when they are not one."""
    if len(data) > MAX_MESSAGE:
        raise RemoteProtocolError(f"a control message of more than {MAX_MESSAGE} bytes")
    try:
        parts = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"a control message that is no JSON: {error}") from error
    if not isinstance(parts, list) or not parts or not isinstance(parts[0], str):
        raise RemoteProtocolError("a control message without a name")
    kind = _KINDS.get(parts[0])
    if kind is None:
        raise RemoteProtocolError(f"an unknown control message: {parts[0][:40]!r}")
    if kind is Configure:
        return Configure(_config_from_plain(parts[1:]))
    expected = fields(kind)
    values = parts[1:]
    if len(values) != len(expected):
        raise RemoteProtocolError(f"{kind.__name__} with {len(values)} fields")
    for field, value in zip(expected, values, strict=True):
        # `type is`: a bool is an int to isinstance
        if type(value) is not _TYPES[str(field.type)]:
            raise RemoteProtocolError(f"{kind.__name__}.{field.name} of a wrong type")
        if isinstance(value, int) and not 0 <= value <= MAX_CONNECTION:
            raise RemoteProtocolError(f"{kind.__name__}.{field.name} out of range")
        if isinstance(value, str) and not _is_text(value):
            raise RemoteProtocolError(f"{kind.__name__}.{field.name} is no text")
    return kind(*values)


def _config_to_plain(config: RtcConfig) -> dict[str, object]:
    return {
        **{field.name: getattr(config, field.name) for field in fields(config)},
        "turn": [astuple(server) for server in config.turn],
    }


def _config_from_plain(values: list[object]) -> RtcConfig:
    try:
        (plain,) = values
        assert isinstance(plain, dict)
        turn = tuple(TurnServer(*server) for server in plain.pop("turn"))
        config = RtcConfig(turn=turn, stun=tuple(plain.pop("stun")), **plain)
        encode(Configure(config))  # its texts are texts
        return config
    except (
        AssertionError,
        AttributeError,
        ValueError,
        TypeError,
        KeyError,
        ConfigError,
        LocalProtocolError,
    ) as error:
        raise RemoteProtocolError(f"a wrong configuration: {error}") from error
