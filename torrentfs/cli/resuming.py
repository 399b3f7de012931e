"""`share` once more: what was hashed for an earlier one is not hashed again.

A torrent that was made of the same path with the same options, whose .torrent is still there and
whose files all have the stamps of then, is that torrent. One that is checked (`--torrent`) is read
where files have other stamps. What is remembered, and when it counts, says `storage.remembered`.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from torrentfs.cli.making import Made, check_against
from torrentfs.cli.output import complain
from torrentfs.daemon.config import default_state_dir
from torrentfs.errors import TorrentFSError

if TYPE_CHECKING:
    from collections.abc import Collection

    from torrentfs.cli.making import Making
    from torrentfs.storage.payload import Payload


class Resuming:
    """Makes and checks torrents, less what is known; `check` reads everything all the same.

    It has to exist before files are listed.
    """

    def __init__(self, *, check: bool) -> None:
        from torrentfs.storage.remembered import Remembered

        self._remembered = Remembered(default_state_dir() / "shared")
        self._check = check
        self._began_ns = time.time_ns()

    def make(self, making: Making, payload: Payload) -> Made:
        """The torrent of `payload`, as it was made before or anew."""
        from torrentfs.storage.remembered import write_out

        before = self._made_before(making, payload)
        if before is None:
            write_out(payload, self._began_ns)
        return before or making.make(payload)

    def check(self, path: Path, torrent: Path) -> Made:
        """What `torrent` was made of lies at `path`; `ConfigError` if not."""
        from torrentfs.storage.remembered import write_out

        def sure(payload: Payload, data: bytes) -> Collection[int]:
            write_out(payload, self._began_ns)
            known = self._remembered.find(payload, _purpose_of(data))
            return () if known is None or self._check else known.sure

        return check_against(path, torrent, sure)

    def keep(self, made: Made, place: Path, making: Making | None) -> None:
        """Remember it, now that its .torrent is at `place`; None: it was checked."""
        purpose = _purpose_of(made.torrent) if making is None else _purpose(making)
        try:
            self._remembered.keep(made.payload, purpose, place, made.torrent, self._began_ns)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            where = self._remembered.directory
            complain(f"cannot write to {where} ({reason}): the next share hashes everything again")

    def _made_before(self, making: Making, payload: Payload) -> Made | None:
        from torrentfs.daemon.sources import FileSource, read_torrent_file
        from torrentfs.metainfo.torrent_file import parse_torrent

        known = self._remembered.find(payload, _purpose(making))
        if known is None or self._check or len(known.sure) < len(payload.files):
            return None
        try:
            torrent = read_torrent_file(FileSource(known.torrent, Path(known.torrent)))
            if hashlib.sha256(torrent).hexdigest() != known.sha256:
                return None
            return Made(torrent, parse_torrent(torrent), payload)
        except (TorrentFSError, ValueError):  # it is not there any more
            return None


def _purpose(making: Making) -> str:
    return f"make {json.dumps(asdict(making), sort_keys=True)}"


def _purpose_of(torrent: bytes) -> str:
    return f"check {hashlib.sha256(torrent).hexdigest()}"
