"""The tracker of the `bittorrent-tracker` package: peers found by nothing else, and told of us."""

from __future__ import annotations

import json
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from tests.control.controlled import Controlled
from tests.interop.copying import MIB, VERSIONS, copy_equals
from tests.library.looking import until
from tests.swarm.child import ChildFailed
from tests.swarm.mounted import TORRENTFS, MountFailed, mounted
from tests.swarm.payload import write_file
from tests.swarm.quiet import quiet_environment
from tests.swarm.seeder import download, seed
from tests.swarm.torrents import MadeTorrent, Version, make_torrent
from tests.swarm.tracker import Tracker, tracker
from torrentfs.discovery.scrape import scrape
from torrentfs.engine.config import SessionConfig
from torrentfs.engine.session import open_session
from torrentfs.metainfo.torrent_file import parse_torrent

pytestmark = pytest.mark.real


def film(work: Path, version: Version = "v1", **torrent: object) -> MadeTorrent:
    """A torrent of 2 MiB."""
    file = write_file(work / "payload" / "film.mkv", 9, 2 * MIB + 9)
    return make_torrent(file, work / "t.torrent", version=version, **torrent)  # type: ignore[arg-type]


def url_of(server: Tracker, way: str) -> str:
    """Its announce URL over HTTP or UDP."""
    return server.http if way == "http" else server.udp


@pytest.mark.parametrize("way", ["http", "udp"])
@pytest.mark.parametrize("version", VERSIONS)
def test_peers_are_found_by_the_tracker_alone(tmp_path: Path, version: Version, way: str) -> None:
    with tracker(tmp_path) as server:
        url = url_of(server, way)
        made = film(tmp_path, version, trackers=[[url]])
        with seed(made.torrent, made.path, tmp_path):
            server.wait_announce("start")
            with mounted(made.torrent, tmp_path, name="by file") as mount:
                copy_equals(mount / made.path.name, made.path, tmp_path)
            with mounted(
                made.magnet(tr=url), tmp_path, name="by magnet", cache=tmp_path / "cache 2"
            ) as mount:
                copy_equals(mount / made.path.name, made.path, tmp_path / "cache 2")


@pytest.mark.parametrize("way", ["http", "udp"])
def test_the_tracker_is_told_when_we_come_finish_and_go(tmp_path: Path, way: str) -> None:
    made = film(tmp_path)
    with (
        tracker(tmp_path) as server,
        seed(made.torrent, made.path, tmp_path) as seeder,
        mounted(
            made.torrent, tmp_path, "--peer", seeder.address, "--tracker", url_of(server, way)
        ) as mount,
    ):
        server.wait_announce("start")
        copy_equals(mount / made.path.name, made.path, tmp_path)
        server.wait_announce("complete")
        assert mount.end() == 0
        server.wait_announce("stop")


@pytest.mark.parametrize("private", [True, False], ids=["private", "public"])
@pytest.mark.parametrize("way", ["http", "udp"])
def test_a_private_torrent_is_told_to_its_own_trackers_alone(
    tmp_path: Path, way: str, private: bool
) -> None:
    """`--tracker` is for every torrent of the mount, and a magnet may name others."""
    with tracker(tmp_path / "own") as own, tracker(tmp_path / "other") as other:
        made = film(tmp_path, trackers=[[own.http]], private=private)
        more = made.magnet(tr=[other.http, other.udp])
        plain = film(tmp_path / "plain", private=private)
        # which is told to nobody: a tracker that knows no peer does not end a round
        with (
            seed(plain.torrent, plain.path, tmp_path) as seeder,
            mounted(
                *(made.torrent, tmp_path),
                *("--tracker", url_of(other, way), "--peer", seeder.address),
            ) as mount,
        ):
            done = Controlled(mount, seeder, made, tmp_path).ask("add", more)
            assert done.returncode == 0, done.stderr
            own.wait_announce("start")
            copy_equals(mount / made.path.name, made.path, tmp_path)
            own.wait_announce("complete")
            if not private:
                other.wait_announce("start")
            assert mount.end() == 0
        own.wait_announce("stop")
        if private:
            with pytest.raises(ChildFailed):
                other.child.wait_line(0.5)


@pytest.mark.parametrize("way", ["added", "watched"])
def test_a_new_announce_url_of_a_known_torrent_holds_for_good(tmp_path: Path, way: str) -> None:
    """Private trackers have a key of the user in the URL, and give out a new one now and then."""
    plain = film(tmp_path / "plain", private=True)
    watch = tmp_path / "watch"
    watch.mkdir()
    with (
        tracker(tmp_path) as server,
        seed(plain.torrent, plain.path, tmp_path, trackers=[server.http]) as seeder,
    ):
        server.wait_announce("start")
        made = film(tmp_path, trackers=[["http://127.0.0.1:1/announce"]], private=True)
        if way == "watched":
            made.torrent.rename(watch / "t.torrent")
        sources, options = [made.torrent][: way == "added"], ["--watch", str(watch)]
        with mounted(sources, tmp_path, *options) as mount:
            until((mount / made.path.name).exists)
            new = film(tmp_path, trackers=[[server.http]], private=True)
            if way == "watched":
                new.torrent.rename(watch / "t.torrent")
            else:
                done = Controlled(mount, seeder, new, tmp_path).ask("add", str(new.torrent))
                assert done.returncode == 0, done.stderr
            mount.wait_log("there are other trackers")
            copy_equals(mount / made.path.name, made.path, tmp_path)
        (tmp_path / "copy").unlink()
        with mounted([], tmp_path, *options, cache=tmp_path / "cache 2") as mount:
            until((mount / made.path.name).exists)
            copy_equals(mount / made.path.name, made.path, tmp_path)


@pytest.mark.parametrize("trouble", ["closed", "silent", "refusing"])
@pytest.mark.parametrize("way", ["http", "udp"])
def test_failover_to_the_second_tier(tmp_path: Path, way: str, trouble: str) -> None:
    plain = film(tmp_path)
    with (
        tracker(tmp_path / "bad", refuse="not registered here") as bad,
        tracker(tmp_path) as good,
        seed(plain.torrent, plain.path, tmp_path, trackers=[good.http]),
    ):
        good.wait_announce("start")
        if trouble == "closed":
            bad.kill()
        elif trouble == "silent":
            bad.freeze()
        tiers = [[url_of(bad, way)], [good.http, good.udp]]
        made = make_torrent(plain.path, tmp_path / "tiers.torrent", trackers=tiers)
        with mounted(made.torrent, tmp_path, "-vv") as mount:
            copy_equals(mount / made.path.name, made.path, tmp_path)
            if trouble == "refusing":
                mount.wait_log("not registered here")


def test_a_magnet_fails_over_too(tmp_path: Path) -> None:
    made = film(tmp_path)
    with (
        tracker(tmp_path / "bad", refuse="not registered here") as bad,
        tracker(tmp_path) as good,
        seed(made.torrent, made.path, tmp_path, trackers=[good.udp]),
    ):
        good.wait_announce("start")
        with mounted(made.magnet(tr=[bad.http, good.udp]), tmp_path) as mount:
            copy_equals(mount / made.path.name, made.path, tmp_path)


def test_nothing_is_found_and_the_tracker_is_named(tmp_path: Path) -> None:
    made = film(tmp_path)
    with (
        tracker(tmp_path, refuse="not registered here") as bad,
        pytest.raises(MountFailed, match=r"ended with 3:[^$]*not registered here"),
        mounted(made.magnet(tr=bad.http), tmp_path, "--metadata-timeout", "2s"),
    ):
        pytest.fail("mounted without metadata")


@pytest.mark.parametrize("way", ["http", "udp"])
@pytest.mark.parametrize("version", VERSIONS)
def test_two_mounts_find_each_other(tmp_path: Path, version: Version, way: str) -> None:
    """The first has read all, its seeder is gone; the second knows nothing but the tracker."""
    with tracker(tmp_path) as server:
        url = url_of(server, way)
        made = film(tmp_path, version)
        with ExitStack() as stack:
            seeder = stack.enter_context(seed(made.torrent, made.path, tmp_path))
            options = ("--peer", seeder.address, "--tracker", url)
            first = stack.enter_context(
                mounted(made.torrent, tmp_path, *options, name="1", cache=tmp_path / "cache 1")
            )
            copy_equals(first / made.path.name, made.path, tmp_path)
            seeder.kill()
            server.wait_announce("start")
            second = stack.enter_context(
                mounted(made.magnet(tr=url), tmp_path, name="2", cache=tmp_path / "cache 2")
            )
            copy_equals(second / made.path.name, made.path, tmp_path / "cache 2")


@pytest.mark.parametrize("way", ["http", "udp"])
@pytest.mark.parametrize("version", ["v1", "hybrid"])
async def test_the_tracker_tells_how_many_there_are(
    tmp_path: Path, version: Version, way: str
) -> None:
    """Announces tell seeders and leechers; a scrape, how many have finished; one is for several."""
    with tracker(tmp_path) as server:
        url = url_of(server, way)
        made = film(tmp_path, version, trackers=[[url]])
        other = make_torrent(
            write_file(tmp_path / "other" / "book.pdf", 8, MIB), tmp_path / "o.torrent"
        )
        with (
            seed(made.torrent, made.path, tmp_path),
            download(made.torrent, tmp_path / "got", tmp_path) as peer,
        ):
            peer.wait_done(30)
            server.wait_announce("complete")
            config = SessionConfig(cache_dir=tmp_path / "cache", bind="127.0.0.1", min_free=0)
            async with open_session(config) as session:
                film_, book = [
                    await session.add(parse_torrent(file.read_bytes()), trackers=[url])
                    for file in (made.torrent, other.torrent)
                ]
                with trio.fail_after(20):
                    while any(t.statistics().trackers[0].counted is None for t in (film_, book)):  # noqa: ASYNC110
                        await trio.sleep(0.02)
                assert film_.statistics().trackers[0].downloaded is None
                await scrape([t.swarm.trackers for t in (film_, book) if t.swarm.trackers])
                of_film, of_book = (t.statistics().trackers[0] for t in (film_, book))
                # who has finished is for this tracker who seeds now
                assert (of_film.seeders, of_film.leechers, of_film.downloaded) == (2, 1, 2)
                assert (of_book.seeders, of_book.leechers, of_book.downloaded) == (0, 1, 0)
                assert of_film.scrape_error is of_book.scrape_error is None
                await film_.scrape()  # too early: it is not asked again
                assert film_.statistics().trackers[0].counted > 0


@pytest.mark.parametrize("way", ["http", "udp"])
def test_the_command_tells_how_many_have_finished(tmp_path: Path, way: str) -> None:
    with tracker(tmp_path) as server:
        url = url_of(server, way)
        made = film(tmp_path, trackers=[[url]])
        with (
            seed(made.torrent, made.path, tmp_path),
            download(made.torrent, tmp_path / "got", tmp_path) as peer,
        ):
            peer.wait_done(30)
            server.wait_announce("complete")
            with mounted(made.torrent, tmp_path) as mount:
                copy_equals(mount / made.path.name, made.path, tmp_path)
                told = subprocess.run(
                    [TORRENTFS, "trackers", made.path.name, "--mount", mount.path, "--json"],
                    env={**quiet_environment(), "XDG_RUNTIME_DIR": str(tmp_path / "run")},
                    capture_output=True,
                    text=True,
                    timeout=30,
                    check=True,
                )
    [row] = json.loads(told.stdout)["trackers"]
    assert row["url"] == url
    # those who seed now: the two others for sure, and we once that was told
    assert row["downloaded"] >= 2
    assert row["scrape_error"] == ""
