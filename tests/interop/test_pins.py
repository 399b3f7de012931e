"""Pins and prefetches with real seeders and a real cache: what is pinned outlives a restart, its
seeder and everything that streams through; what is evicted is off the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.swarm.payload import write_file
from tests.swarm.seeder import LibtorrentPeer, seed
from tests.swarm.torrents import MadeTorrent, make_torrent
from torrentfs.engine.config import SessionConfig
from torrentfs.engine.dormant import Dormant, Shelving
from torrentfs.engine.session import Session, open_session
from torrentfs.errors import ConfigError, DataUnavailable
from torrentfs.metainfo.torrent_file import parse_torrent

pytestmark = pytest.mark.real

MIB = 1 << 20
PIECE = 256 << 10
CACHE = 32 * MIB


def config(work: Path) -> SessionConfig:
    return SessionConfig(
        cache_dir=work / "cache", cache_size=CACHE, memory_limit=4 * MIB, min_free=0,
        read_timeout=10.0, utp=False, lsd=False, dht=None, port_mapping=False, rtc=None,
    )  # fmt: skip


def made(work: Path, name: str, number: int, size: int) -> MadeTorrent:
    path = write_file(work / "payload" / name, number, size)
    return make_torrent(path, work / f"{name}.torrent", piece_length=PIECE)


async def shelved(
    session: Session, torrent: MadeTorrent, seeder: LibtorrentPeer | None, **more: object
) -> Dormant:
    peers = [("127.0.0.1", seeder.port)] if seeder is not None else []
    metainfo = parse_torrent(torrent.torrent.read_bytes())
    shelving = Shelving(metainfo=metainfo, peers=peers, **more)  # type: ignore[arg-type]
    return (await session.shelve_many([shelving]))[0]


def on_disk(work: Path, dormant: Dormant) -> int:
    tree = work / "cache" / "torrents" / dormant.key / "data"
    return sum(path.lstat().st_blocks * 512 for path in tree.rglob("*") if path.is_file())


async def until_here(dormant: Dormant) -> None:
    with trio.fail_after(60):
        while dormant.errands.missing(dormant.errands.kept_pieces):  # noqa: ASYNC110
            await trio.sleep(0.05)


async def read_all(dormant: Dormant) -> None:
    length = dormant.metainfo.geometry.length
    for offset in range(0, length, MIB):
        await dormant.read(0, offset, MIB)


async def test_what_is_pinned_stays(tmp_path: Path) -> None:
    film, other = made(tmp_path, "film", 1, 12 * MIB), made(tmp_path, "other", 2, 80 * MIB)
    data = film.path.read_bytes()
    with seed(film.torrent, film.path, tmp_path) as seeder:
        async with open_session(config(tmp_path)) as session:
            dormant = await shelved(session, film, seeder)
            await dormant.pin()
            await until_here(dormant)
            pins = dormant.pins
    with seed(other.torrent, other.path, tmp_path) as seeder:
        async with open_session(config(tmp_path)) as session:
            dormant = await shelved(session, film, None, pins=pins)
            stream = await shelved(session, other, seeder)
            with pytest.raises(ConfigError, match=r"no room to pin 80\.0 MiB: 16\.0 MiB are left"):
                await stream.pin()
            await read_all(stream)  # two and a half times what the cache holds
            assert session.cache.statistics().evicted_pieces > 0
            assert session.cache.trouble is None
            for offset in range(0, len(data), MIB):
                found = await dormant.read(0, offset, MIB)
                assert bytes(found) == data[offset : offset + MIB]
            assert dormant.torrent is not None
            assert dormant.torrent.inactive is not None  # nobody was called for it

            assert on_disk(tmp_path, dormant) >= len(data)
            assert await dormant.evict() == 0  # pinned
            assert await dormant.evict(pinned=True) >= len(data)
            assert on_disk(tmp_path, dormant) < PIECE
            with pytest.raises(DataUnavailable):
                await dormant.read(0, 0, 10)


async def test_a_prefetch_is_had_without_a_read_and_why_says_who_has_the_rest(
    tmp_path: Path,
) -> None:
    film = made(tmp_path, "film", 1, 12 * MIB)
    with seed(film.torrent, film.path, tmp_path) as seeder:
        async with open_session(config(tmp_path)) as session:
            dormant = await shelved(session, film, seeder)
            prefetch = dormant.prefetch(0, 2 * MIB, 4 * MIB)
            with trio.fail_after(60):
                await prefetch.done.wait()
            assert (prefetch.missing, prefetch.total) == (0, 16)
            assert dormant.torrent is not None
            assert dormant.torrent.store.have.count == 16
            assert (await dormant.why(0, 3 * MIB)).state == "here"
            rest = await dormant.why(0, 8 * MIB)
            assert rest.state == "idle"
            assert [holder.name for holder in rest.holders] == [f"127.0.0.1:{seeder.port}"]
            with pytest.raises(ConfigError, match="no room to prefetch"):
                (await shelved(session, made(tmp_path, "big", 3, 40 * MIB), None)).prefetch(0)
