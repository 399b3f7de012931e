"""What we say first on a connection to a peer of a torrent (BEP 3, 6, 10, 21)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.engine.exchange import KINDS, extensions
from torrentfs.engine.uploads import MAX_REQUESTS
from torrentfs.wire import messages as m
from torrentfs.wire.fast import allowed_fast_set

if TYPE_CHECKING:
    from torrentfs.engine.torrent import Torrent
    from torrentfs.wire.connection import Connection


def greeting(torrent: Torrent, connection: Connection, host: str, kind: str) -> list[m.Message]:
    """The messages to begin with, in order, for the peer at the IP address `host`.

    `kind` is that of its stream: behind a WebRTC connection is nobody who could be dialled.

    Which pieces we have comes first; then the extension handshake; then the pieces that the peer
    may ask for while it is choked, of those that we have. On a connection that a magnet's metadata
    search began, it was said that we have nothing.
    """
    have = torrent.store.have
    messages: list[m.Message] = []
    if connection.said_pieces:
        messages += [m.Have(piece) for piece in have]
    elif connection.fast and have.complete:
        messages.append(m.HaveAll())
    elif connection.fast and not have:
        messages.append(m.HaveNone())
    elif have:
        messages.append(m.BitfieldMessage(bytes(have)))
    if connection.extensions:
        messages.append(
            m.ExtensionHandshake(
                extensions=extensions(
                    exchange=torrent.ways.peer_exchange,
                    punching=torrent.ways.hole_punching and kind in KINDS,
                ),
                version=torrent.client_version,
                port=torrent.listen_port or None,
                request_queue=MAX_REQUESTS,
                metadata_size=len(torrent.metainfo.info),
                upload_only=have.complete,
                your_ip=host,
            )
        )
    dht = torrent.swarm.dht
    if dht is not None and connection.theirs is not None and connection.theirs.dht:
        messages.append(m.Port(dht.node_port))
    if connection.fast and torrent.serving.allowed:
        pieces = allowed_fast_set(host, torrent.metainfo.hashes.wire[0], have.size)
        messages += [m.AllowedFast(piece) for piece in pieces if piece in have]
    return messages
