"""A running share as others of the same user see it: one JSON object for who connects.

The socket lies in the directory of those of the mounts (`daemon.control.place`): only its user and
root get in. It is told everything at once and asked nothing, so there is no protocol to get wrong;
one is answered after the other, and who takes nothing for a moment is left. Whose socket it is says
the kernel (SO_PEERCRED), not the object. A socket that nobody listens to any more is swept away by
the next share or mount.
"""

from __future__ import annotations

import errno
import json
import logging
import secrets
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import trio

from torrentfs.daemon.control.place import UnixSocket, runtime_directory
from torrentfs.errors import ConfigError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from torrentfs.engine.stats import SessionStatistics, TorrentStatistics

log = logging.getLogger(__name__)

PREFIX = "share-"
MAX_PEERS = 200
"""Peers of a torrent that are told: those that get most now."""
PATIENCE = 2.0
"""Seconds that somebody may take for what he is told."""
_PAUSE = 0.5
_SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@contextmanager
def status_socket() -> Iterator[socket.socket | None]:
    """A listening socket for as long as the context lasts; None where none can be had."""
    place = runtime_directory() / f"{PREFIX}{secrets.token_hex(8)}.sock"
    try:
        made = UnixSocket(place)
    except ConfigError as error:
        log.warning("torrentfs shares will not know of this: %s", error)
        yield None
        return
    try:
        yield made.listener
    finally:
        made.close()


async def tell_status(listener: socket.socket, status: Callable[[], SessionStatistics]) -> None:
    """Tell whoever connects, until cancelled."""
    listening = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    while True:
        try:
            stream = await listening.accept()
        except OSError as error:
            if error.errno not in _SCARCE:
                raise
            await trio.sleep(_PAUSE)
            continue
        async with stream:
            try:
                with trio.move_on_after(PATIENCE):
                    await stream.send_all(json.dumps(describe(status())).encode())
            except trio.BrokenResourceError:
                log.debug("somebody who asked for the status went away")


def describe(now: SessionStatistics) -> dict[str, Any]:
    """What is told; keys are only added."""
    return {"port": now.port, "torrents": [_describe(torrent) for torrent in now.torrents]}


def _describe(torrent: TorrentStatistics) -> dict[str, Any]:
    names = ("name", "key", "size", "pieces_have", "pieces_total", "uploaded", "upload_rate")
    peers = sorted(torrent.peers, key=lambda peer: (-peer.upload_rate, -peer.uploaded))
    return {
        **{name: getattr(torrent, name) for name in names},
        "peer_count": len(peers),
        "peers": [asdict(peer) for peer in peers[:MAX_PEERS]],
    }
