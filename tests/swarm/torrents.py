"""Torrents made by libtorrent, so that what we read was not written by us."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import libtorrent as lt

from tests.swarm.payload import files_below

Version = Literal["v1", "v2", "hybrid"]


class MadeTorrent(NamedTuple):
    """A payload on disk and its torrent: `path` is the file or the directory."""

    path: Path
    torrent: Path
    data: bytes
    v1: str | None
    """Hex info-hash, 40 digits."""
    v2: str | None
    """Hex info-hash, 64 digits."""

    def magnet(self, **fields: str | Sequence[str]) -> str:
        """A magnet link: the hashes, then `fields` (``tr=[...]``, ``ws=...``) as given."""
        parts = []
        if self.v1:
            parts.append(f"xt=urn:btih:{self.v1}")
        if self.v2:
            parts.append(f"xt=urn:btmh:1220{self.v2}")
        for key, values in fields.items():
            for value in [values] if isinstance(values, str) else values:
                parts.append(f"{key}={value}")
        return "magnet:?" + "&".join(parts)


def make_torrent(
    path: Path,
    torrent: Path,
    *,
    version: Version = "v1",
    piece_length: int = 256 * 1024,
    trackers: Sequence[Sequence[str]] = (),
    web_seeds: Sequence[str] = (),
    private: bool = False,
    comment: str = "",
) -> MadeTorrent:
    """Make a torrent of the file or directory `path`, write it to `torrent`."""
    entries = [
        lt.create_file_entry(f"{path.name}/{name}" if name else path.name, file.stat().st_size)
        for name, file in files_below(path).items()
    ]
    flag = {
        "v1": lt.create_torrent.v1_only,
        "v2": lt.create_torrent.v2_only,
        "hybrid": 0,
    }[version]
    creator = lt.create_torrent(entries, piece_length, flag)
    for tier, urls in enumerate(trackers):
        for url in urls:
            creator.add_tracker(url, tier)
    for url in web_seeds:
        creator.add_url_seed(url)
    creator.set_priv(private)
    if comment:
        creator.set_comment(comment)
    lt.set_piece_hashes(creator, str(path.parent))
    data: bytes = lt.bencode(creator.generate())
    torrent.parent.mkdir(parents=True, exist_ok=True)
    torrent.write_bytes(data)
    loaded: Any = lt.load_torrent_buffer(data).ti
    hashes = loaded.info_hashes()
    return MadeTorrent(
        path,
        torrent,
        data,
        str(hashes.v1) if hashes.has_v1() else None,
        str(hashes.v2) if hashes.has_v2() else None,
    )
