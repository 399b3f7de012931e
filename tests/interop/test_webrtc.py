"""Browsers as peers of a mount: Chromium with WebTorrent's bundle, found by a WebSocket tracker.

In all of these there is no other way to find each other, and what came how is read from the
mount's own statistics (`--xattrs`).
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

import psutil
import pytest

from tests.interop.copying import KIB, MIB, assert_same, copying, cp, pread, reading, wait_until
from tests.swarm.browser import Browser, Page, browser
from tests.swarm.mounted import Mounted, mounted
from tests.swarm.nginx import web_seed
from tests.swarm.payload import payload, sha256_file, sha256_tree, write_file, write_tree
from tests.swarm.proxy import proxy
from tests.swarm.seeder import seed
from tests.swarm.torrents import MadeTorrent, make_torrent
from tests.swarm.tracker import tracker

pytestmark = pytest.mark.real

LOCAL = ("--bind-interface", "127.0.0.1", "--xattrs")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as running:
        yield running


def numbers(path: Path) -> dict[str, int]:
    """Bytes by kind of source (`webrtc`, `tcp`, `http`), and what else is counted."""
    prefix = "user.torrentfs."
    found = {name.removeprefix(prefix): os.getxattr(path, name) for name in os.listxattr(path)}
    return {name.removeprefix("from_"): int(v) for name, v in found.items() if v.isdigit()}


def film(work: Path, size: int, **torrent: int) -> MadeTorrent:
    file = write_file(work / "payload" / "a film.mkv", 2, size)
    return make_torrent(file, work / "t.torrent", **torrent)  # type: ignore[arg-type]


def worker_of(mount: Mounted) -> psutil.Process:
    """The process that speaks WebRTC for a mount."""
    (found,) = [
        child
        for child in psutil.Process(mount.pid).children()
        if any("webrtc" in word for word in child.cmdline())
    ]
    return found


@pytest.mark.timeout(150)
def test_256_mb_of_a_page_by_magnet(tmp_path: Path, chromium: Browser) -> None:
    size = 256 * MIB
    file = write_file(tmp_path / "payload" / "film.mkv", 1, size)
    with tracker(tmp_path) as server, chromium.page() as page:
        page.seed(file, trackers=[server.websocket])
        magnet = page.wait("seeding", 60)["magnet"]
        with mounted(magnet, tmp_path, *LOCAL) as mount, reading(mount / file.name) as readers:
            assert readers.digests(120) == [sha256_file(file)]
            found = numbers(mount / file.name)
            assert found["webrtc"] == found["downloaded"] + found["wasted"]
            assert found["downloaded"] == size
            assert found["wasted"] < size / 100
            assert not {"tcp", "http"} & set(found)


def test_two_files_at_once_then_one_at_random(tmp_path: Path, chromium: Browser) -> None:
    sizes = {"one.bin": 6 * MIB + 1, "two.bin": 5 * MIB, "three.bin": 7 * MIB + 77}
    tree = write_tree(tmp_path / "payload" / "Ünï tree", sizes, seed=5)
    with tracker(tmp_path) as server, chromium.page() as page:
        page.seed(tree, trackers=[server.websocket], piece_length=64 * KIB)
        with mounted(page.wait("seeding")["magnet"], tmp_path, *LOCAL) as mount:
            with reading(mount / tree.name / "one.bin", mount / tree.name / "two.bin") as readers:
                expected = sha256_tree(tree)
                assert readers.digests() == [expected["one.bin"], expected["two.bin"]]
            size, data = sizes["three.bin"], payload(7, sizes["three.bin"])
            rng = Random(1)
            fd = os.open(mount / tree.name / "three.bin", os.O_RDONLY)
            try:
                for _ in range(60):
                    offset = rng.randrange(size)
                    assert pread(fd, 50_000, offset) == data[offset : offset + 50_000]
            finally:
                os.close(fd)
            assert numbers(mount / tree.name)["webrtc"] > 11 * MIB


def test_a_tab_is_closed_and_another_carries_on(tmp_path: Path, chromium: Browser) -> None:
    made = film(tmp_path, 16 * MIB)
    with tracker(tmp_path) as server, chromium.page() as first, chromium.page() as second:
        for page in (first, second):
            page.limit(upload=MIB // 2)  # so that neither has it all before the other has begun
            page.seed_torrent(made.torrent, made.path, trackers=[server.websocket])
            page.wait("ready")
        with mounted(made.magnet(tr=server.websocket), tmp_path, *LOCAL) as mount:
            with reading(mount / made.path.name) as readers:
                for page in (first, second):
                    wait_until(lambda page=page: page.status()["uploaded"] > MIB)
                first.close()
                assert numbers(mount / made.path.name)["downloaded"] < 15 * MIB
                second.limit()
                assert readers.digests() == [sha256_file(made.path)]
            assert second.status()["uploaded"] < 16 * MIB


def test_a_page_downloads_what_the_mount_has(tmp_path: Path, chromium: Browser) -> None:
    sizes = {"a/one.bin": 5 * MIB + 1, "a/empty": 0, "two.bin": 70_001}
    tree = write_tree(tmp_path / "payload" / "tree", sizes)
    with tracker(tmp_path) as server, chromium.page() as page:
        made = make_torrent(tree, tmp_path / "t.torrent", trackers=[[server.websocket]])
        with (
            seed(made.torrent, tree, tmp_path) as seeder,
            mounted(made.torrent, tmp_path, *LOCAL, "--peer", seeder.address) as mount,
        ):
            assert_same(cp(mount / tree.name, tmp_path / "copy"), tree)
            seeder.kill()
            page.add(made.magnet(tr=server.websocket))
            status = page.wait("done")
            assert [wire["client"][:9] for wire in status["wires"]] == ["torrentfs"]
            expected = sha256_tree(tree)
            assert page.digests() == {f"tree/{name}": expected[name] for name in sizes}


@pytest.mark.parametrize("survivor", ["webrtc", "tcp", "http"])
def test_three_kinds_of_source_and_two_die(
    tmp_path: Path, chromium: Browser, survivor: str
) -> None:
    """One `cp` from a page and a peer of 1 MB/s each and nginx of 3; then one of them is alone.

    On a busy machine one of them may pause for seconds: the film is long enough for that.
    """
    made = film(tmp_path, 24 * MIB, piece_length=128 * KIB)
    rate = 1_000_000
    with ExitStack() as stack:
        server = stack.enter_context(tracker(tmp_path))
        page = stack.enter_context(chromium.page())
        page.limit(upload=rate)
        page.seed_torrent(made.torrent, made.path, trackers=[server.websocket])
        page.wait("ready")
        web = stack.enter_context(web_seed(made.path.parent, tmp_path))
        port = stack.enter_context(proxy(("127.0.0.1", web.port), tmp_path, rate=3 * rate))
        peer = stack.enter_context(seed(made.torrent, made.path, tmp_path, upload_limit=rate))
        options = ["--tracker", server.websocket, "--peer", peer.address]
        options += ["--web-seed", f"http://127.0.0.1:{port}/"]
        mount = stack.enter_context(mounted(made.torrent, tmp_path, *LOCAL, *options))
        file = mount / made.path.name
        wait_until(lambda: numbers(file)["peers"] == 3)
        copy = tmp_path / "copy"
        program = stack.enter_context(copying(file, copy))
        kinds = ("webrtc", "tcp", "http")
        wait_until(lambda: all(numbers(file).get(kind, 0) > 512 * KIB for kind in kinds))
        assert numbers(file)["downloaded"] < 22 * MIB  # and there is much left
        killed = numbers(file)
        if survivor == "webrtc":
            page.limit()
        else:
            page.close()
        if survivor == "tcp":
            peer.limit_upload(0)
        else:
            peer.kill()
        if survivor != "http":
            web.kill()
        assert (program.communicate(timeout=45)[1], program.returncode) == ("", 0)
        assert sha256_file(copy) == sha256_file(made.path)
        assert numbers(file)[survivor] > killed[survivor] + MIB


def test_a_bridge_between_two_worlds(tmp_path: Path, chromium: Browser) -> None:
    """The mount reads from a TCP peer that the page cannot reach, and serves the page meanwhile."""
    made = film(tmp_path, 12 * MIB + 5, piece_length=64 * KIB)
    size = made.path.stat().st_size
    with (
        tracker(tmp_path) as server,
        chromium.page() as page,
        seed(made.torrent, made.path, tmp_path) as seeder,
        proxy(("127.0.0.1", seeder.port), tmp_path, rate=4 * MIB) as port,
        mounted(
            made.torrent,
            tmp_path,
            *LOCAL,
            *("--tracker", server.websocket, "--peer", f"127.0.0.1:{port}"),
        ) as mount,
    ):
        page.add(made.magnet(tr=server.websocket))
        page.wait("wires")
        with reading(mount / made.path.name) as readers:
            wait_until(lambda: page.status().get("downloaded", 0) > MIB)
            assert seeder.status()["uploaded"] < size  # served before we have everything
            assert readers.digests() == [sha256_file(made.path)]
        assert page.wait("done")["wires"][0]["client"].startswith("torrentfs")
        assert page.digests() == {made.path.name: sha256_file(made.path)}
        found = numbers(mount / made.path.name)
        assert found["downloaded"] == size
        assert found["wasted"] == 0
        assert seeder.status()["uploaded"] == found["tcp"]


def talks_to_us(page: Page) -> bool:
    """Whether the page believes that it is connected to a mount."""
    return any(wire["client"].startswith("torrentfs") for wire in page.status()["wires"])


@pytest.mark.timeout(150)
def test_the_worker_is_killed_and_comes_back(tmp_path: Path, chromium: Browser) -> None:
    """The read in its middle completes; then a new page connects, and the one that was connected
    before comes back: what nobody else has is read from it.

    It does not know that the worker is dead. Chromium takes its connection for lost after some
    15 s of silence (measured: 16), and WebTorrent passes over our offers until then; so it comes
    with the first announce after that, its own (here every 24 s) or ours: all was read after 27 s.
    """
    size = 24 * MIB
    half = size // 2
    made = film(tmp_path, size)
    with (
        tracker(tmp_path) as server,
        chromium.page() as page,
        seed(made.torrent, made.path, tmp_path, upload_limit=4 * MIB) as seeder,
        mounted(
            made.torrent,
            tmp_path,
            *LOCAL,
            *("--tracker", server.websocket, "--peer", seeder.address, "--readahead", "1M"),
        ) as mount,
        (tmp_path / "half").open("wb+") as copied,
    ):
        file = mount / made.path.name
        page.limit(upload=2 * MIB)
        page.seed_torrent(made.torrent, made.path, trackers=[server.websocket])
        with subprocess.Popen(["head", "-c", str(half), str(file)], stdout=copied) as head:
            wait_until(lambda: numbers(file).get("webrtc", 0) > MIB)
            first = worker_of(mount)
            first.kill()
            assert head.wait(30) == 0
        expected = made.path.read_bytes()
        assert (tmp_path / "half").read_bytes() == expected[:half]
        assert mount.process.poll() is None
        with chromium.page() as another:
            another.add(made.magnet(tr=server.websocket), select=False)
            wait_until(lambda: talks_to_us(another), 30)
        assert worker_of(mount).pid != first.pid
        assert mount.status()["webrtc"]["restarts"] == 1
        seeder.kill()
        before = numbers(file)["webrtc"]
        rest = ["tail", "-c", str(half - 2 * MIB), str(file)]
        done = subprocess.run(rest, capture_output=True, timeout=90, check=True)
        assert done.stdout == expected[half + 2 * MIB :]
        assert numbers(file)["webrtc"] > before + half - 4 * MIB


def open_things(mount: Mounted) -> tuple[int, int, int]:
    """Descriptors of the mount, of its worker, and processes below the mount."""
    this = psutil.Process(mount.pid)
    return this.num_fds(), worker_of(mount).num_fds(), len(this.children(recursive=True))


def resident(mount: Mounted) -> tuple[float, float]:
    """MiB of memory of the mount and of its worker."""
    processes = (psutil.Process(mount.pid), worker_of(mount))
    return tuple(process.memory_info().rss / MIB for process in processes)  # type: ignore[return-value]


@pytest.mark.timeout(240)
def test_a_hundred_visits_leave_nothing(tmp_path: Path, chromium: Browser) -> None:
    """Over several torrents: offers of strangers are taken once a second when many came; from
    several tabs, since one may make 500 connections, and a visitor makes five offers."""
    # A tab that closes may take its farewell along; the consent of ICE (RFC 7675) tells then.
    consent = 60.0
    with tracker(tmp_path) as server:
        made = []
        for number in range(6):
            file = write_file(tmp_path / "payload" / f"{number}.bin", number, 100_000)
            torrent = tmp_path / f"{number}.torrent"
            made.append(make_torrent(file, torrent, trackers=[[server.websocket]]))
        with mounted([one.torrent for one in made], tmp_path, *LOCAL) as mount:

            def visit(count: int) -> None:
                for start in range(0, count, 35):
                    with chromium.page() as page:
                        for number in range(start, min(count, start + 35)):
                            page.visit(made[number % len(made)].magnet(tr=server.websocket))

            def is_quiet() -> bool:
                return all(numbers(mount / one.path.name)["peers"] == 0 for one in made)

            visit(35)
            wait_until(is_quiet, consent)
            things, memory = open_things(mount), resident(mount)
            visit(65)
            wait_until(is_quiet, consent)
            wait_until(lambda: open_things(mount) <= things)
            # what waits for a time-out (50 s to a minute) is 80 KB for each visit
            for before, after in zip(memory, resident(mount), strict=True):
                assert after < before + 8


def test_no_webrtc_means_no_worker_and_no_socket(tmp_path: Path) -> None:
    made = film(tmp_path, MIB)
    with (
        tracker(tmp_path) as server,
        seed(made.torrent, made.path, tmp_path) as seeder,
        mounted(
            made.torrent,
            tmp_path,
            *LOCAL,
            *("--tracker", server.websocket, "--peer", seeder.address, "--no-webrtc", "--no-utp"),
        ) as mount,
    ):
        assert_same(cp(mount / made.path.name, tmp_path / "copy"), made.path)
        this = psutil.Process(mount.pid)
        assert this.children(recursive=True) == []
        assert not [one for one in this.net_connections("inet") if one.type.name == "SOCK_DGRAM"]
        assert server.ports["ws"] not in {
            one.raddr.port for one in this.net_connections("inet") if one.raddr
        }


def test_a_private_torrent_meets_browsers_by_its_own_tracker_alone(
    tmp_path: Path, chromium: Browser
) -> None:
    file = write_file(tmp_path / "payload" / "film.mkv", 3, MIB)
    with (
        tracker(tmp_path / "own") as own,
        tracker(tmp_path / "other") as other,
        chromium.page() as page,
    ):
        made = make_torrent(file, tmp_path / "t.torrent", trackers=[[own.websocket]], private=True)
        page.seed_torrent(made.torrent, made.path)
        own.wait_announce("start")
        with mounted(made.torrent, tmp_path, *LOCAL, "--tracker", other.websocket) as mount:
            assert_same(cp(mount / file.name, tmp_path / "copy"), file)
            ports = {
                one.raddr.port
                for one in psutil.Process(mount.pid).net_connections("tcp")
                if one.raddr
            }
            assert own.ports["ws"] in ports
            assert other.ports["ws"] not in ports


CLONE_NEWNET = 0x40000000


@contextmanager
def network_of_our_own(address: str) -> Iterator[None]:
    """For this thread and what it starts: a device that carries multicast and leads nowhere."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        for words in (
            "link set lo up",
            "link add here type veth peer name there",
            f"addr add {address}/24 dev here",
            "link set there up",
            "link set here up",
            "route add 224.0.0.0/4 dev here",
        ):
            subprocess.run(["ip", *words.split()], check=True, timeout=10)
        yield
    finally:
        libc.setns(before, CLONE_NEWNET)
        os.close(before)


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces are made by root")
def test_a_page_that_hides_its_addresses(tmp_path: Path) -> None:
    """As any page does that may not use camera or microphone: its candidates are mDNS names."""
    file = write_file(tmp_path / "payload" / "film.mkv", 1, 2 * MIB)
    with ExitStack() as stack:
        stack.enter_context(network_of_our_own("192.0.2.77"))
        server = stack.enter_context(tracker(tmp_path))
        page = stack.enter_context(browser(tmp_path, mdns=True)).open()
        page.seed(file, trackers=[server.websocket])
        magnet = page.wait("seeding")["magnet"]
        mount = stack.enter_context(mounted(magnet, tmp_path, "--xattrs"))
        assert_same(cp(mount / file.name, tmp_path / "copy"), file)
        assert numbers(mount / file.name)["webrtc"] >= 2 * MIB
        assert page.visit(magnet) < 5
