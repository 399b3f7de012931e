"""The exception tree: who is to blame decides who catches.

Each class names what the catcher does about it, so that a boundary maps it once and nothing
above needs to know the library below:

* `LocalProtocolError`: we were about to break a protocol. Our bug; a test should have found it.
* `RemoteProtocolError`: the other side broke it. Drop the peer, tell the peer book.
* `TransportError`: bytes could not be moved. Try elsewhere.
* `DataUnavailable`: a read cannot be answered. Becomes its `errno` at the FUSE edge.
* `InvalidTorrent`, `ConfigError`, `MountError`, `MetadataTimeout`: become one line on stderr and
  an exit code of the command line.
"""

from __future__ import annotations

import errno as _errno


class TorrentFSError(Exception):
    """Root of everything this package raises on purpose; `str()` is one line for a person."""


class LocalProtocolError(TorrentFSError):
    """We were about to violate a protocol: a bug in torrentfs."""


class RemoteProtocolError(TorrentFSError):
    """A peer, tracker or web seed violated its protocol: drop it, never trust the rest."""


class TransportError(TorrentFSError):
    """A connection could not be made or broke: try another source."""


class StorageError(TorrentFSError):
    """The cache cannot keep or give back bytes (full, read-only, gone, damaged)."""


class DataUnavailable(TorrentFSError):
    """A read cannot be answered; `errno` goes to the kernel, `str()` to the log."""

    def __init__(self, reason: str, errno: int = _errno.EIO) -> None:
        super().__init__(reason)
        self.errno = errno


class InvalidTorrent(TorrentFSError, ValueError):
    """A .torrent file, info dictionary or magnet link is malformed or over a limit."""


class ConfigError(TorrentFSError, ValueError):
    """An option, config file or environment variable is wrong (exit code 1)."""


class MountError(TorrentFSError):
    """The mount point or FUSE itself cannot be used (exit code 2)."""


class MetadataTimeout(TorrentFSError):
    """No peer gave a magnet's metadata in time (exit code 3)."""
