"""Reading `--ip-filter`: a file of ranges, plain or packed with gzip, into an `IpFilter`.

The lists that people use have up to 400,000 lines and are read once, before anything is
connected. What a packed file may unpack to is bounded. Files of which nothing is understood are an
error; single lines that are not are counted (`IpFilter.unread`), for a line to the user.
"""

from __future__ import annotations

import gzip
import zlib
from itertools import chain
from typing import TYPE_CHECKING

from torrentfs.errors import ConfigError
from torrentfs.scheduling.ip_filter import LONGEST_LINE, IpFilter, parse_ip_filter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

MAX_BYTES = 256 * 1024 * 1024
"""Unpacked bytes of all files together; the largest lists have 30 MB."""
_GZIP = b"\x1f\x8b"


def read_ip_filters(paths: tuple[Path, ...]) -> IpFilter | None:
    """One filter of all files; None without any. `ConfigError` names the file that is wrong."""
    if not paths:
        return None
    made = parse_ip_filter(chain.from_iterable(_lines(path) for path in paths))
    names = ", ".join(map(str, paths))
    if not made.ranges and made.unread:
        raise ConfigError(
            f"{names}: no line is a range of addresses as in eMule's .dat, PeerGuardian's .p2p "
            f"or a list like 192.0.2.0/24 ({made.first_bad})"
        )
    return made


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with open(path, "rb") as file:
            packed = file.peek(2)[:2] == _GZIP
            yield from _bounded(gzip.GzipFile(fileobj=file) if packed else file, path)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot read the IP filter {path}: {str(reason).lower()}") from error


def _bounded(file: BinaryIO | gzip.GzipFile, path: Path) -> Iterator[bytes]:
    """The lines, each cut where it is too long to be one."""
    left = MAX_BYTES
    goes_on = False
    while line := file.readline(LONGEST_LINE + 2):
        left -= len(line)
        if left < 0:
            raise ConfigError(f"the IP filter {path} is too large: the most is 256 MiB unpacked")
        if not goes_on:
            yield line
        goes_on = not line.endswith(b"\n")
