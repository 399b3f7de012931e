"""What is put around a torrent, by what it is and what the user wants."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.metainfo.torrents import Version, build
from torrentfs.discovery.trackers import Totals
from torrentfs.engine.config import SessionConfig
from torrentfs.engine.dormant import Shelving
from torrentfs.engine.outfit import totals_of
from torrentfs.engine.session import open_session
from torrentfs.metainfo.magnet import magnet_of
from torrentfs.metainfo.torrent_file import build_torrent, parse_torrent
from torrentfs.transports.webrtc.config import RtcConfig

TOLD = {
    "trackers": [["http://tracker/announce"]],
    "web_seeds": ["http://seed/"],
    "http_seeds": ["http://hoffman/"],
}


def config(directory: Path, **fields: object) -> SessionConfig:
    defaults: dict[str, object] = {"cache_dir": directory, "min_free": 0, "tcp": False}
    return SessionConfig(**{**defaults, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(("version", "seeds"), [("v1", 3), ("hybrid", 3), ("v2", 2)])
async def test_what_the_torrent_and_the_user_name(
    tmp_path: Path, version: Version, seeds: int
) -> None:
    bare = parse_torrent(build(version))
    metainfo = parse_torrent(build_torrent(bare.info, bare.piece_layers.stored(), **TOLD))  # type: ignore[arg-type]
    async with open_session(config(tmp_path)) as session:
        swarm, web = session._outfitter.outfit(
            metainfo, ["udp://mine:1", "http://tracker/announce"], ["http://mine/"], Totals
        )
        assert swarm.trackers is not None
        urls = [tracker.url for tracker in swarm.trackers.statistics()]
        assert urls == ["http://tracker/announce", "udp://mine:1"]
        assert len(web) == seeds  # BEP 17 knows v1 pieces only
        assert swarm.dht is None  # no UDP port


@pytest.mark.parametrize("private", [False, True])
async def test_of_a_private_torrent_only_its_own_trackers_hear(
    tmp_path: Path, private: bool
) -> None:
    """Others may be named by the mount, or by a magnet of the same info-hash (BEP 27)."""
    # docs/semantics.md: "A private torrent (BEP 27) is told to its own trackers only"
    own = [["http://own/announce", "wss://own"], ["udp://own:1"]]
    told = parse_torrent(build_torrent(parse_torrent(build("v1")).info, trackers=own))
    metainfo = replace(told, private=private)
    more = ["udp://all:1", "http://all/announce", "wss://all"]
    async with open_session(config(tmp_path, rtc=RtcConfig())) as session:
        swarm, web = session._outfitter.outfit(metainfo, more, ["http://mine/"], Totals)
        assert swarm.trackers is not None
        urls = {tracker.url for tracker in swarm.trackers.statistics()}
        assert urls == {url for tier in own for url in tier} | (set() if private else set(more))
        assert swarm.trackers.beside is not None
        browsers = {tracker.url for tracker in swarm.trackers.beside.statistics()}
        assert browsers == ({"wss://own"} if private else {"wss://own", "wss://all"})
        assert swarm.trackers._single is private
        assert [seed.url for seed in web] == ["http://mine/"]  # who is asked for bytes tells nobody


async def test_a_private_torrent_that_names_none_has_those_of_the_user(tmp_path: Path) -> None:
    metainfo = replace(parse_torrent(build("v1")), private=True)
    async with open_session(config(tmp_path)) as session:
        swarm, _ = session._outfitter.outfit(metainfo, ["http://mine/announce"], [], Totals)
        assert swarm.trackers is not None
        assert [each.url for each in swarm.trackers.statistics()] == ["http://mine/announce"]


async def test_a_newer_torrent_file_is_asked_from_then_on(tmp_path: Path) -> None:
    bare = parse_torrent(build("v1"))
    old = parse_torrent(build_torrent(bare.info, **TOLD))  # type: ignore[arg-type]
    new = parse_torrent(build_torrent(bare.info, trackers=[["http://tracker/new"]]))
    async with open_session(config(tmp_path)) as session:
        shelving = Shelving(metainfo=old, peers=[("10.0.0.1", 1)])
        (dormant,) = await session.shelve_many([shelving])
        assert not await dormant.renew(shelving)
        first = await dormant.wake()
        assert first.swarm.trackers is not None
        assert await dormant.renew(Shelving(metainfo=new, peers=[("10.0.0.2", 2)]))
        assert dormant.torrent is None
        assert not await dormant.renew(Shelving(metainfo=new))
        second = await dormant.wake()
        assert second.swarm.trackers is not None
        assert [t.url for t in second.swarm.trackers.statistics()] == ["http://tracker/new"]
        assert second.seeds == []
        assert second.swarm is first.swarm
        for peer in (("10.0.0.1", 1), ("10.0.0.2", 2)):
            assert second.swarm.book.knows(peer)
        assert await dormant.renew(Shelving(metainfo=new, web_seeds=["http://mine/"]))
        assert [seed.url for seed in (await dormant.wake()).seeds] == ["http://mine/"]
    async with open_session(config(tmp_path)) as session:
        assert (await session.resolve(magnet_of(bare), timeout=1)).trackers == new.trackers


async def test_what_the_user_does_not_want(tmp_path: Path) -> None:
    metainfo = parse_torrent(build_torrent(parse_torrent(build("v1")).info, **TOLD))  # type: ignore[arg-type]
    async with open_session(config(tmp_path, web_seeds=False)) as session:
        assert session._outfitter.outfit(metainfo, [], ["http://mine/"], Totals).seeds == []


async def test_without_trackers_nobody_announces(tmp_path: Path) -> None:
    metainfo = parse_torrent(build("v1"))
    async with open_session(config(tmp_path)) as session:
        torrent = await session.add(metainfo)
        assert torrent.swarm.trackers is None
        assert torrent.swarm.talk == torrent.talk
        left = metainfo.geometry.length
        assert totals_of(torrent) == Totals(uploaded=0, downloaded=0, left=left)


async def test_the_outfit_of_a_dormant_outlives_its_torrent(tmp_path: Path) -> None:
    metainfo = parse_torrent(build("v1"))
    async with open_session(config(tmp_path)) as session:
        dormant = await session.shelve(metainfo, peers=[("10.0.0.1", 1)])
        first = await dormant.wake()
        outfit = dormant.outfit
        await dormant.sleep()
        second = await dormant.wake()
        assert second is not first
        assert dormant.outfit is outfit
        assert second.swarm is first.swarm
        assert second.swarm.book.knows(("10.0.0.1", 1))
