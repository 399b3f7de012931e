"""`torrentfs share` with real peers: libtorrent, a real tracker, and our own mount."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.swarm.mounted import TORRENTFS, mounted
from tests.swarm.payload import ODD_TREE, sha256_file, sha256_tree, write_file, write_tree
from tests.swarm.seeder import download
from tests.swarm.shared import ShareFailed, environment, shared
from tests.swarm.torrents import make_torrent
from tests.swarm.tracker import tracker

pytestmark = pytest.mark.real

FORMATS = ("v1", "hybrid", "v2")


def wait_until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "payload" / "Ördner", ODD_TREE)


@pytest.mark.parametrize("version", FORMATS)
def test_libtorrent_downloads_by_magnet_alone(tmp_path: Path, tree: Path, version: str) -> None:
    before = {path: path.stat() for path in tree.rglob("*")}
    with shared(tree, tmp_path, "--format", version) as share:
        assert f"x.pe={share.address}" in share.magnet
        with download(share.magnet, tmp_path / "into", tmp_path, peers=[share.peer]) as peer:
            peer.wait_done(30)
        assert share.end() == 0
    assert sha256_tree(tmp_path / "into" / "Ördner") == sha256_tree(tree)
    after = {path: path.stat() for path in tree.rglob("*")}
    assert {p: (s.st_mtime_ns, s.st_ctime_ns) for p, s in after.items()} == {
        p: (s.st_mtime_ns, s.st_ctime_ns) for p, s in before.items()
    }
    assert not list((tmp_path / "home").rglob("catalog.sqlite"))  # nothing in any cache


@pytest.mark.parametrize("version", FORMATS)
def test_libtorrent_makes_the_same_torrent(tmp_path: Path, tree: Path, version: str) -> None:
    with shared(tree, tmp_path, "--format", version, "--piece-size", "64K") as share:
        theirs = make_torrent(
            tree,
            tmp_path / "theirs.torrent",
            version=version,  # type: ignore[arg-type]
            piece_length=65536,
        )
        assert share.told["info_hash_v1"] == theirs.v1
        assert share.told["info_hash_v2"] == theirs.v2
        # and who has the one can take it from who shares the other
        with download(theirs.torrent, tmp_path / "into", tmp_path, peers=[share.peer]) as peer:
            peer.wait_done(30)
    assert sha256_tree(tmp_path / "into" / "Ördner") == sha256_tree(tree)


@pytest.mark.parametrize("scheme", ["http", "udp"])
def test_peers_find_it_through_a_tracker(tmp_path: Path, tree: Path, scheme: str) -> None:
    with tracker(tmp_path) as running:
        url = getattr(running, scheme)
        with shared(tree, tmp_path, "--tracker", url) as share:
            assert "x.pe" not in share.magnet
            running.wait_announce("start")
            with download(share.magnet, tmp_path / "into", tmp_path) as peer:
                peer.wait_done(30)
            assert share.end() == 0
            running.wait_announce("stop")
    assert sha256_tree(tmp_path / "into" / "Ördner") == sha256_tree(tree)


@pytest.mark.parametrize("version", FORMATS)
def test_our_own_mount_reads_it(tmp_path: Path, tree: Path, version: str) -> None:
    with (
        shared(tree, tmp_path, "--format", version) as share,
        mounted(share.magnet, tmp_path, "--peer", share.address) as mount,
    ):
        assert sha256_tree(mount / "Ördner") == sha256_tree(tree)


def test_one_file_at_a_limited_rate(tmp_path: Path) -> None:
    file = write_file(tmp_path / "film.mkv", 5, 3_000_000)
    with shared(file, tmp_path, "--upload-limit", "1M") as share:
        begun = time.monotonic()
        with download(share.magnet, tmp_path / "into", tmp_path, peers=[share.peer]) as peer:
            peer.wait_done(30)
        assert time.monotonic() - begun > 1.5  # the first second's worth comes at once
    assert sha256_file(tmp_path / "into" / "film.mkv") == sha256_file(file)


def test_a_changed_file_is_not_sent_and_a_restored_one_is(tmp_path: Path, tree: Path) -> None:
    victim = tree / "z/large.bin"
    right = victim.read_bytes()
    with shared(tree, tmp_path, "--piece-size", "64K", "--format", "v2") as share:
        with victim.open("r+b") as changing:
            changing.seek(1_000_000)
            changing.write(b"other bytes")
        with download(share.magnet, tmp_path / "into", tmp_path, peers=[share.peer]) as peer:
            share.wait_log("large.bin changed: 1 pieces")
            others = sum(ODD_TREE.values()) - 65536
            wait_until(lambda: peer.status()["downloaded"] >= others)
            time.sleep(1)  # for what should not come
            status = peer.status()
            assert (status["downloaded"], status["seeding"]) == (others, False)
            assert status["wasted"] == 0  # nothing wrong was sent, not even once
            with victim.open("r+b") as changing:
                changing.write(right)
            peer.wait_done(40)
    assert sha256_tree(tmp_path / "into" / "Ördner") == sha256_tree(tree)


def test_a_deleted_file_costs_only_itself(tmp_path: Path, tree: Path) -> None:
    hashes = sha256_tree(tree)
    with shared(tree, tmp_path, "--piece-size", "64K", "--format", "v2") as share:
        (tree / "z/large.bin").unlink()
        with download(share.magnet, tmp_path / "into", tmp_path, peers=[share.peer]) as peer:
            others = sum(ODD_TREE.values()) - ODD_TREE["z/large.bin"]
            wait_until(lambda: peer.status()["downloaded"] >= others)
        share.wait_log("cannot be read: not shared for now")
        assert share.end() == 0
    found = sha256_tree(tmp_path / "into" / "Ördner")
    del hashes["z/large.bin"]
    found.pop("z/large.bin", None)
    assert found == hashes


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("alive", [True, False], ids=["announced", "silent tracker"])
def test_a_signal_ends_it_cleanly(
    tmp_path: Path, tree: Path, signum: signal.Signals, alive: bool
) -> None:
    with tracker(tmp_path) as running:
        if not alive:
            running.freeze()
        with shared(tree, tmp_path, "--tracker", running.http) as share:
            if alive:
                running.wait_announce("start")
            begun = time.monotonic()
            assert share.end(signum) == 0
            assert time.monotonic() - begun < 5
            assert "Traceback" not in share.log()
            if alive:
                running.wait_announce("stop")


def test_a_signal_while_a_peer_takes(tmp_path: Path) -> None:
    file = write_file(tmp_path / "large", 5, 30_000_000)
    with shared(file, tmp_path, "--upload-limit", "1M") as share:
        with download(share.magnet, tmp_path / "into", tmp_path, peers=[share.peer]) as peer:
            wait_until(lambda: peer.status()["downloaded"] > 0)
            assert share.end() == 0
        assert "Traceback" not in share.log()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_hashing(tmp_path: Path, signum: signal.Signals) -> None:
    file = tmp_path / "sparse"
    with file.open("wb") as sparse:
        sparse.truncate(200 << 30)
    process = subprocess.Popen(
        [str(TORRENTFS), "share", str(file)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path),
    )
    threads = Path(f"/proc/{process.pid}/task")
    wait_until(lambda: len(os.listdir(threads)) > 1)
    process.send_signal(signum)
    stdout, stderr = process.communicate(timeout=10)
    assert (process.returncode, stdout) == (128 + signum, "")
    assert stderr == f"torrentfs: interrupted by {signum.name}; nothing is shared\n"
    assert not list((tmp_path / "home").rglob("*.torrent"))


def test_a_restart_reads_nothing_again(tmp_path: Path) -> None:
    file = tmp_path / "sparse"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 30)
    wait_until(lambda: time.time_ns() - file.stat().st_ctime_ns > 3_000_000_000)  # it has settled

    def read(*options: str) -> int:
        """Bytes that one share had read when it was ready."""
        with shared(file, tmp_path, *options) as share:
            counts = Path(f"/proc/{share.pid}/io").read_text().split()
            assert share.end() == 0
        return int(counts[counts.index("rchar:") + 1])

    assert read() >= 1 << 30
    assert read() < 1 << 28
    assert read("--check") >= 1 << 30
    with file.open("r+b") as changing:
        changing.write(b"x")
    assert read() >= 1 << 30


def test_in_the_background(tmp_path: Path, tree: Path) -> None:
    def shares(*args: str) -> Any:
        command = [str(TORRENTFS), "shares", *args]
        variables = environment(tmp_path)
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=variables)
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout) if done.stdout else None

    command = [str(TORRENTFS), "share", "-d", "--json", "--bind-interface", "127.0.0.1", str(tree)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=30, env=environment(tmp_path), check=True
    )
    told = json.loads(done.stdout)
    try:
        assert f"--stop {told['pid']} ends it" in done.stderr
        assert Path(told["torrent"]).is_file()
        host, _, port = told["peers"][0].partition(":")
        peers = [(host, int(port))]
        with download(told["magnet"], tmp_path / "into", tmp_path, peers=peers) as peer:
            peer.wait_done(30)
        assert sha256_tree(tmp_path / "into" / "Ördner") == sha256_tree(tree)
        (listed,) = [one for one in shares("--json") if one["pid"] == told["pid"]]
        assert listed["port"] == int(port)
        (torrent,) = listed["torrents"]
        assert (torrent["name"], torrent["uploaded"] > 0) == ("Ördner", True)
        assert told["info_hash_v1"].startswith(torrent["key"]) or torrent["key"] in told["magnet"]
        assert shares("--stop", str(told["pid"])) is None
        assert not Path(f"/proc/{told['pid']}/exe").exists()  # gone, or a zombie of nobody
        assert told["pid"] not in [one["pid"] for one in shares("--json")]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(told["pid"], signal.SIGTERM)
        wait_until(lambda: not Path(f"/proc/{told['pid']}").exists())
    (log,) = (tmp_path / "home/.local/state/torrentfs/log").iterdir()
    assert "SIGTERM: no longer sharing" in log.read_text()


@pytest.mark.parametrize("where", [[], ["-d"]], ids=["foreground", "background"])
def test_a_port_that_is_taken(tmp_path: Path, tree: Path, where: list[str]) -> None:
    with shared(tree, tmp_path) as share:
        port = share.address.rpartition(":")[2]
        with (
            pytest.raises(
                ShareFailed, match=r"torrentfs: cannot listen on 127.0.0.1:\d+: address already"
            ),
            shared(tree, tmp_path, "--port", port, *where, name="second"),
        ):
            pass


def test_several_paths_are_several_torrents(tmp_path: Path, tree: Path) -> None:
    command = [str(TORRENTFS), "share", "-d", "--json", "--bind-interface", "127.0.0.1"]
    done = subprocess.run(
        [*command, str(tree / "a"), str(tree / "b"), str(tree / "a")],
        capture_output=True,
        text=True,
        timeout=30,
        env=environment(tmp_path),
        check=True,
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    pid = told[0]["pid"]
    try:
        assert [one["name"] for one in told] == ["a", "b"]
        assert "is the same as" in done.stderr
        host, _, port = told[0]["peers"][0].partition(":")
        for one in told:
            into = tmp_path / f"into-{one['name']}"
            with download(one["magnet"], into, tmp_path, peers=[(host, int(port))]) as peer:
                peer.wait_done(30)
            assert sha256_tree(into / one["name"]) == sha256_tree(tree / one["name"])
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not Path(f"/proc/{pid}").exists())


def test_ten_thousand_files(tmp_path: Path) -> None:
    root = tmp_path / "many"
    for number in range(10_000):
        folder = root / f"{number // 100:02}"
        if number % 100 == 0:
            folder.mkdir(parents=True)
        (folder / f"{number:05}").write_bytes(b"%d" % number)
    begun = time.monotonic()
    with shared(root, tmp_path) as share:
        seconds = time.monotonic() - begun
        print(f"10,000 files shared after {seconds:.1f} s")
        assert share.told["file_count"] == 10_000
        with mounted(share.magnet, tmp_path, "--peer", share.address) as mount:
            for number in range(0, 10_000, 997):
                place = mount / "many" / f"{number // 100:02}" / f"{number:05}"
                assert place.read_bytes() == b"%d" % number
        descriptors = len(os.listdir(f"/proc/{share.pid}/fd"))
        assert descriptors < 200
