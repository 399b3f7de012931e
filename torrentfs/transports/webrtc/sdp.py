"""Session descriptions (RFC 8866) with one data channel and nothing else, sans I/O.

A stranger's description is untrusted text of a rich format, of which a data channel needs a
dozen lines: who may connect (ICE user name fragment and password, RFC 8839), which certificate
will show up (fingerprints, RFC 8122), who starts DTLS (`setup`, RFC 4145), the SCTP port and
message size (RFC 8841), and the candidates. Everything else is passed over unread, so no parser
of media formats stands open to the world. A description with audio, video or two sections cannot
be answered by us and is refused.

Ours are complete when made: trickling candidates needs a channel that trackers do not give.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torrentfs.errors import RemoteProtocolError
from torrentfs.transports.webrtc.protocol import MAX_SDP

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_CANDIDATES = 32
"""Of one description, later ones are passed over: each costs us a check every 20 ms, sent to an
address of the peer's choice (RFC 8445 section 19.5.1 wants a limit, 100 by default)."""
MAX_FINGERPRINTS = 8
DEFAULT_MESSAGE_SIZE = 65536
"""Bytes a peer takes in a message if it says nothing (RFC 8841 section 6.1)."""
LEAST_MESSAGE_SIZE = 1024
"""A peer that takes less in a message (and is no browser) would have us send in crumbs."""
DEFAULT_SCTP_PORT = 5000

_DIGESTS = {"sha-256": 32, "sha-384": 48, "sha-512": 64}
_SETUPS = {"actpass", "active", "passive"}
_KINDS = {"host", "srflx", "prflx", "relay"}
_TOKEN = re.compile(r"[!#-'*-.0-9A-Z^-~]{1,64}")
_CREDENTIAL = re.compile(r"[!-9;-~]{4,256}")
"""RFC 8839 allows letters, digits, + and / alone; some are laxer. A colon ends a user name."""
_MDNS = re.compile(r"[A-Za-z0-9-]{1,63}\.local")
_MEDIA = re.compile(r"m=application (\d{1,5}) (?:UDP|TCP)/DTLS/SCTP webrtc-datachannel\s*")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place where a peer may be reached over UDP; `host` is an IP address or a `.local` name."""

    foundation: str
    priority: int
    host: str
    port: int
    kind: str
    related: tuple[str, int] | None = None

    @property
    def is_name(self) -> bool:
        """Whether the address is hidden behind an mDNS name, as browsers do on a page that has
        neither camera nor microphone."""
        return self.host.endswith(".local")


@dataclass(frozen=True, slots=True)
class Description:
    """One side of a connection; `max_message_size` 0 means any size."""

    ufrag: str
    password: str
    fingerprints: tuple[tuple[str, str], ...]
    setup: str
    candidates: tuple[Candidate, ...] = ()
    mid: str = "0"
    sctp_port: int = DEFAULT_SCTP_PORT
    max_message_size: int = DEFAULT_MESSAGE_SIZE
    ice_lite: bool = False


def render(description: Description, session: int = 0) -> str:
    """The text of a description of ours; `session` is any number, for the origin line."""
    lines = [
        "v=0",
        f"o=- {session} 2 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        f"a=group:BUNDLE {description.mid}",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "c=IN IP4 0.0.0.0",
        *(f"a=candidate:{_render_candidate(each)}" for each in description.candidates),
        "a=end-of-candidates",
        f"a=ice-ufrag:{description.ufrag}",
        f"a=ice-pwd:{description.password}",
        *(f"a=fingerprint:{digest} {value}" for digest, value in description.fingerprints),
        f"a=setup:{description.setup}",
        f"a=mid:{description.mid}",
        f"a=sctp-port:{description.sctp_port}",
        f"a=max-message-size:{description.max_message_size}",
    ]
    return "\r\n".join(lines) + "\r\n"


def _render_candidate(candidate: Candidate) -> str:
    line = (
        f"{candidate.foundation} 1 udp {candidate.priority} {candidate.host} {candidate.port}"
        f" typ {candidate.kind}"
    )
    if candidate.related is not None:
        line += f" raddr {candidate.related[0]} rport {candidate.related[1]}"
    return line


def parse(text: str) -> Description:
    """The description in a peer's offer or answer; `RemoteProtocolError` says what is wrong."""
    if len(text) > MAX_SDP:
        raise RemoteProtocolError("a session description over the size limit")
    lines = text.splitlines()
    if not lines or lines[0].strip() != "v=0":
        raise RemoteProtocolError("not a session description")
    media = [line for line in lines if line.startswith("m=")]
    if len(media) != 1 or not _MEDIA.fullmatch(media[0]):
        raise RemoteProtocolError("a session description of something else than one data channel")
    # Those before the section hold for it as well; what the section says itself goes first.
    attributes: dict[str, list[str]] = {}
    for line in lines:
        name, value = _attribute(line)
        attributes.setdefault(name, []).append(value)

    def last(name: str, otherwise: str = "") -> str:
        return attributes.get(name, [otherwise])[-1]

    size = _number(
        last("max-message-size", str(DEFAULT_MESSAGE_SIZE)), 0, 2**64, "max-message-size"
    )
    if 0 < size < LEAST_MESSAGE_SIZE:
        raise RemoteProtocolError(f"a peer that takes messages of at most {size} bytes")
    return Description(
        ufrag=_matching(_CREDENTIAL, last("ice-ufrag"), "ICE user name"),
        password=_matching(_CREDENTIAL, last("ice-pwd"), "ICE password"),
        fingerprints=_fingerprints(attributes.get("fingerprint", [])),
        setup=_setup(last("setup")),
        candidates=_candidates(attributes.get("candidate", [])),
        mid=_matching(_TOKEN, last("mid", "0"), "mid"),
        sctp_port=_number(last("sctp-port", str(DEFAULT_SCTP_PORT)), 1, 65535, "SCTP port"),
        max_message_size=size,
        ice_lite="ice-lite" in attributes,
    )


def without_candidates(text: str, is_unwanted: Callable[[tuple[str, int]], bool]) -> str:
    """The description without candidates at an unwanted address; nothing else is looked at.

    `RemoteProtocolError` when there was one and no other address is left. A `.local` name, which
    says nothing of where it leads, does not count as one.
    """
    kept: list[str] = []
    addresses, dropped = 0, 0
    for line in text.splitlines():
        name, value = _attribute(line)
        candidate = _candidate(value) if name == "candidate" else None
        if candidate is not None and not candidate.is_name:
            if is_unwanted((candidate.host, candidate.port)):
                dropped += 1
                continue
            addresses += 1
        kept.append(line)
    if not dropped:
        return text
    if not addresses:
        raise RemoteProtocolError("a peer at an address that is not wanted")
    return "\r\n".join(kept) + "\r\n"


def _attribute(line: str) -> tuple[str, str]:
    """Its name and value; no name for a line of another kind."""
    if not line.startswith("a="):
        return "", ""
    name, _, value = line[2:].strip().partition(":")
    return name, value


def _matching(pattern: re.Pattern[str], value: str, what: str) -> str:
    if not pattern.fullmatch(value):
        raise RemoteProtocolError(f"a session description with a bad {what}")
    return value


def _number(value: str, low: int, high: int, what: str) -> int:
    value = value.strip()
    # isascii: int() takes digits of every script; 20 digits are 2**64
    if not (value.isascii() and value.isdigit() and len(value) <= 20 and low <= int(value) <= high):
        raise RemoteProtocolError(f"a session description with a bad {what}")
    return int(value)


def _setup(value: str) -> str:
    if value not in _SETUPS:
        raise RemoteProtocolError("a session description that does not say who starts DTLS")
    return value


def _fingerprints(values: list[str]) -> tuple[tuple[str, str], ...]:
    """Those with a digest that we can compute, of which there must be one."""
    known = []
    for value in values[:MAX_FINGERPRINTS]:
        digest, _, text = value.strip().partition(" ")
        digest, text = digest.lower(), text.strip().upper()
        size = _DIGESTS.get(digest)
        if size is None:
            continue
        if not re.fullmatch(rf"[0-9A-F]{{2}}(:[0-9A-F]{{2}}){{{size - 1}}}", text):
            raise RemoteProtocolError("a session description with a bad fingerprint")
        known.append((digest, text))
    if not known:
        raise RemoteProtocolError("a session description without a fingerprint that we know")
    return tuple(known)


def _candidates(values: list[str]) -> tuple[Candidate, ...]:
    """The usable ones; RFC 8839 has those passed over that one does not understand."""
    found: dict[tuple[str, int], Candidate] = {}
    for value in values:
        candidate = _candidate(value)
        if candidate is not None and len(found) < MAX_CANDIDATES:
            found.setdefault((candidate.host, candidate.port), candidate)
    return tuple(found.values())


def _candidate(value: str) -> Candidate | None:
    parts = value.split()
    if len(parts) < 8 or parts[1] != "1" or parts[2].lower() != "udp" or parts[6] != "typ":
        return None
    foundation, priority, host, port, kind = parts[0], parts[3], parts[4], parts[5], parts[7]
    numbers = priority.isascii() and priority.isdigit() and port.isascii() and port.isdigit()
    if not numbers or len(priority) > 10 or len(port) > 5 or not 0 < int(port) < 65536:
        return None
    if kind not in _KINDS or not re.fullmatch(r"[A-Za-z0-9+/]{1,32}", foundation):
        return None
    if _MDNS.fullmatch(host):
        return Candidate(foundation, int(priority), host.lower(), int(port), kind)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if address.is_multicast or address.is_unspecified or getattr(address, "scope_id", None):
        return None
    return Candidate(foundation, int(priority), str(address), int(port), kind)
