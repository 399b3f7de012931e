"""Extended attributes `user.torrentfs.*`: what the mount knows of a torrent. Only with `--xattrs`.

`infohash`, `infohash_v2`, `torrent` (its name) and, on files, `file` (the index in the torrent)
are always there; the torrent adds its own (`state`, `progress`, ...). Without `--xattrs` the
kernel is told ENOSYS once and asks no more: `ls -l` would ask four times per entry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torrentfs.vfs.tree import Tree

PREFIX = "user.torrentfs."
"""Before every name."""
VALUE_MAX = 65536
"""Longest value that Linux takes (XATTR_SIZE_MAX)."""


def xattrs_of(tree: Tree, inode: int) -> dict[bytes, bytes]:
    """All extended attributes of `inode` with their full names. Raises `FileNotFoundError`."""
    found = tree.volume(inode)
    if found is None:
        torrents, files, size = tree.totals(inode)
        values = {"torrents": str(torrents), "files": str(files), "size": str(size)}
    else:
        volume, file = found
        metainfo = volume.metainfo
        values = {str(name): str(value) for name, value in volume.xattrs().items()}
        values["torrent"] = metainfo.name
        if metainfo.hashes.v1 is not None:
            values["infohash"] = metainfo.hashes.v1.hex()
        if metainfo.hashes.v2 is not None:
            values["infohash_v2"] = metainfo.hashes.v2.hex()
            values.setdefault("infohash", metainfo.hashes.v2.hex())
        if file is not None:
            values["file"] = str(file)
    return {_encode(PREFIX + name): _encode(value)[:VALUE_MAX] for name, value in values.items()}


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
