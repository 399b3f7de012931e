"""The demo's own swarm, in a process of its own: a seeder, a tracker and a web seed on loopback.

All of it is this very code base: the seeder is a `Session` that was given every piece, the
tracker answers with the server's side of our tracker codec.  ``python -m scripts.demo_swarm`` takes
one JSON line (``payload``: the directory to share, ``work``: a directory for its cache), prints one
(the magnet, and what is where) when it can be used, one per ``{"do": "status"}``, and ends when its
stdin closes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import trio

from scripts.demo_tracker import Tracker, serve_tracker
from scripts.demo_webseed import web_seed
from torrentfs.engine.config import SessionConfig
from torrentfs.engine.session import Session, open_session
from torrentfs.engine.torrent import Torrent
from torrentfs.metainfo.create import TorrentBuilder, build_torrent, tree_order
from torrentfs.metainfo.magnet import magnet_of
from torrentfs.metainfo.torrent_file import Metainfo, parse_torrent

PIECE_LENGTH = 256 * 1024
CHUNK = 1 << 20


def make_torrent(payload: Path, tracker_url: str, web_seed_url: str) -> Metainfo:
    """A hybrid torrent (v1 and v2 in one) of the directory `payload`."""
    found = [file for file in payload.rglob("*") if file.is_file()]
    sizes = tree_order((file.relative_to(payload).parts, file.stat().st_size) for file in found)
    builder = TorrentBuilder(payload.name, sizes, PIECE_LENGTH, version="hybrid")
    for parts, _ in sizes:
        with payload.joinpath(*parts).open("rb") as stream:
            while chunk := stream.read(CHUNK):
                builder.update(chunk)
    info, layers = builder.finish()
    data = build_torrent(info, layers, trackers=[[tracker_url]], web_seeds=[web_seed_url])
    return parse_torrent(data)


async def fill(torrent: Torrent, payload: Path) -> None:
    """Give the seeder every piece, as if it had downloaded them."""
    geometry = torrent.metainfo.geometry
    parts: list[bytes] = []
    for file in torrent.metainfo.files:
        parts.append(bytes(file.length) if file.pad else payload.joinpath(*file.path).read_bytes())
    content = b"".join(parts)
    for piece in range(geometry.num_pieces):
        start = piece * geometry.piece_length
        data = bytearray(content[start : start + geometry.piece_size(piece)])
        await torrent.store.put(piece, data)


async def run(payload: Path, work: Path) -> None:
    """Serve until stdin closes."""
    config = SessionConfig(cache_dir=work / "seeder-cache", bind="127.0.0.1", min_free=0)
    with web_seed(payload.parent) as web:
        async with open_session(config) as session, trio.open_nursery() as nursery:
            tracker: Tracker = await nursery.start(serve_tracker)
            metainfo = await trio.to_thread.run_sync(
                make_torrent, payload, tracker.url, web.url("")
            )
            torrent = await session.add(metainfo)
            await fill(torrent, payload)
            await tracker.wait_announced()
            answer(
                magnet=magnet_of(metainfo).to_uri(),
                tracker=tracker.url,
                seeder=f"127.0.0.1:{session.port}",
                web_seed=web.url(""),
                pieces=metainfo.geometry.num_pieces,
            )
            while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
                if json.loads(line).get("do") == "status":
                    answer(peer=uploaded(session), web=web.sent)
            nursery.cancel_scope.cancel()


def uploaded(session: Session) -> int:
    """Payload bytes that the seeder sent so far."""
    return sum(torrent.uploaded for torrent in session.torrents.values())


def answer(**fields: Any) -> None:
    """One JSON line to the parent."""
    print(json.dumps(fields), flush=True)


def main() -> int:
    """Read the order, serve it; a failure is one JSON line with ``error``."""
    order = json.loads(sys.stdin.readline())
    try:
        trio.run(run, Path(order["payload"]), Path(order["work"]))
    except Exception as error:
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        answer(error=f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
