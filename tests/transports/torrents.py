"""Small v1 torrents, and the bytes they name, for tests of web seeds."""

from __future__ import annotations

import hashlib
import random
from typing import NamedTuple

from torrentfs.metainfo import bencoding
from torrentfs.metainfo.torrent_file import Metainfo, parse_info


class Sample(NamedTuple):
    """A torrent with its piece space and its files (pads left out) by URL-less raw path."""

    metainfo: Metainfo
    space: bytes
    files: dict[tuple[str, ...], bytes]


def payload(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def sample(
    files: list[tuple[tuple[str, ...], int]] | int,
    *,
    name: str = "sample",
    piece_length: int = 32768,
) -> Sample:
    """One file of that many bytes, or several; a path beginning with ".pad" is a padding file."""
    entries, contents, space = [], {}, b""
    for number, (path, length) in enumerate([((), files)] if isinstance(files, int) else files):
        pad = bool(path) and path[0] == ".pad"
        data = bytes(length) if pad else payload(length, number)
        space += data
        entries.append({"path": list(path), "length": length, **({"attr": "p"} if pad else {})})
        if not pad:
            contents[path] = data
    hashes = b"".join(
        hashlib.sha1(space[at : at + piece_length]).digest()
        for at in range(0, len(space), piece_length)
    )
    info: dict[str, object] = {"name": name, "piece length": piece_length, "pieces": hashes}
    info |= {"length": files} if isinstance(files, int) else {"files": entries}
    return Sample(parse_info(bencoding.encode(info)), space, contents)
