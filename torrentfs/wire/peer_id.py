"""Peer ids (BEP 20): 20 bytes that name one running client, the first of them its program."""

from __future__ import annotations

import re

from torrentfs.errors import LocalProtocolError
from torrentfs.wire.text import printable

PREFIX = b"-TF0100-"
"""Azureus style: two letters of the program, four digits of version 0.1.0(.0)."""

RANDOM_BYTES = 20 - len(PREFIX)

_AZUREUS = re.compile(rb"-([A-Za-z~][A-Za-z0-9~])([0-9A-Za-z.]{3})([0-9A-Za-z.-])-?")
_SHADOW = re.compile(rb"([ABCEKMOQRSTU])([0-9A-Za-z.-]{3,5})--")

_AZUREUS_NAMES = {
    b"7T": "aTorrent",
    b"AZ": "Vuze",
    b"BC": "BitComet",
    b"BI": "BiglyBT",
    b"BT": "BitTorrent",
    b"DE": "Deluge",
    b"FD": "Free Download Manager",
    b"FL": "Flud",
    b"KG": "KGet",
    b"KT": "KTorrent",
    b"LP": "Lphant",
    b"LT": "libtorrent",
    b"PI": "PicoTorrent",
    b"PT": "Popcorn Time",
    b"RB": "rTorrent",
    b"RN": "rain",
    b"SD": "Xunlei",
    b"TF": "torrentfs",
    b"TL": "Tribler",
    b"TR": "Transmission",
    b"TX": "Tixati",
    b"UM": "uTorrent Mac",
    b"UT": "uTorrent",
    b"UW": "uTorrent Web",
    b"WD": "WebTorrent Desktop",
    b"WW": "WebTorrent",
    b"XF": "Xfplay",
    b"XL": "Xunlei",
    b"aN": "anacrolix/torrent",
    b"lt": "rTorrent (libTorrent)",
    b"qB": "qBittorrent",
    b"rQ": "rqbit",
}

_SHADOW_NAMES = {
    b"A": "ABC",
    b"M": "BitTorrent",
    b"O": "Osprey",
    b"Q": "BTQueue",
    b"R": "Tribler",
    b"S": "Shadow",
    b"T": "BitTornado",
    b"U": "UPnP NAT",
}


def make_peer_id(random_bytes: bytes) -> bytes:
    """Our peer id from at least 12 random bytes: letters and digits, so trackers log it well."""
    if len(random_bytes) < RANDOM_BYTES:
        raise LocalProtocolError(f"a peer id takes {RANDOM_BYTES} random bytes")
    alphabet = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-."
    return PREFIX + bytes(alphabet[byte & 63] for byte in random_bytes[:RANDOM_BYTES])


def client_name(peer_id: bytes) -> str:
    """The program behind a peer id with its version, or the printable start of the id itself."""
    if match := _AZUREUS.match(peer_id):
        code, digits, last = match.groups()
        numbers = [_digit(byte) for byte in digits]
        if last.isdigit() and last != b"0":
            numbers.append(last.decode())
        name = _AZUREUS_NAMES.get(code) or code.decode()
        return f"{name} {'.'.join(numbers)}"
    if peer_id.startswith(b"M") and (match := re.match(rb"M(\d+)-(\d+)-(\d+)-", peer_id)):
        return "BitTorrent " + b".".join(match.groups()).decode()
    if match := _SHADOW.match(peer_id):
        name = _SHADOW_NAMES.get(match[1]) or match[1].decode()
        return f"{name} {'.'.join(_digit(byte) for byte in match[2].rstrip(b'-'))}"
    return printable(peer_id[:8].rstrip(b"\0")) or "unknown"


def _digit(byte: int) -> str:
    """One place of a version: 0-9, then A = 10, as most clients count."""
    letter = chr(byte)
    return str(ord(letter) - 55) if "A" <= letter <= "Z" else letter
