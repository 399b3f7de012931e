"""Is this piece what the torrent says? The one place where received bytes become trusted ones.

v1 and hybrid torrents: SHA-1 over the whole piece, padding included (BEP 3). v2-only torrents: the
merkle root of the piece against the file's piece layer, or against its pieces root when the file is
not larger than a piece (BEP 52). Hashing releases the GIL, so this runs well in a worker thread.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from torrentfs.metainfo import merkle

if TYPE_CHECKING:
    from torrentfs.metainfo.torrent_file import Metainfo


def check_piece(metainfo: Metainfo, piece: int, data: merkle.Buffer) -> bool:
    """True when `data` is exactly piece number `piece`.

    `IndexError` outside the torrent; `LookupError` when the hash is not known yet (a v2 piece
    layer that is still to be fetched).
    """
    if len(data) != metainfo.geometry.piece_size(piece):
        return False
    if metainfo.has_v1:
        digest = hashlib.sha1(data, usedforsecurity=False).digest()
        return digest == metainfo.piece_hash(piece)
    expected = metainfo.piece_hash(piece)
    file = metainfo.file_of_piece(piece)
    if metainfo.geometry.file_lengths[file] <= metainfo.geometry.piece_length:
        return merkle.root_of(merkle.leaf_hashes(data)) == expected
    return merkle.piece_root(data, metainfo.geometry.piece_length) == expected
