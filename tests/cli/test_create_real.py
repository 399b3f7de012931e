"""`torrentfs create` as a process: signals, rights, a terminal, and libtorrent's own check."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hardening_cli.command import NOBODY, torrentfs
from tests.swarm.mounted import TORRENTFS
from tests.swarm.payload import ODD_TREE, sha256_tree, write_file, write_tree
from tests.swarm.seeder import download, seed
from tests.swarm.shared import environment, shared

pytestmark = pytest.mark.real


@pytest.mark.parametrize("version", ["v1", "hybrid", "v2"])
def test_libtorrent_finds_every_piece_right(tmp_path: Path, version: str) -> None:
    tree = write_tree(tmp_path / "tree", ODD_TREE)
    (tree / "b/one-less.bin").chmod(0o755)
    torrent = tmp_path / "t.torrent"
    done = torrentfs("create", tree, "-o", torrent, "--format", version, home=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    with seed(torrent, tree, tmp_path, check=True) as peer:
        assert peer.recheck(20)
        assert peer.status()["progress"] == 1.0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing(tmp_path: Path, signum: signal.Signals) -> None:
    file = tmp_path / "sparse"
    with file.open("wb") as sparse:
        sparse.truncate(200 << 30)
    (tmp_path / "out").mkdir()
    with subprocess.Popen(
        [str(TORRENTFS), "create", str(file), "-o", str(tmp_path / "out")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path),
    ) as process:
        deadline = time.monotonic() + 20
        while len(os.listdir(f"/proc/{process.pid}/task")) < 2:
            assert time.monotonic() < deadline, "it does not hash"
            time.sleep(0.01)
        process.send_signal(signum)
        stdout, stderr = process.communicate(timeout=10)
    assert (process.returncode, stdout) == (128 + signum, "")
    words = f"interrupted by {signum.name}; what was not finished is not written"
    assert stderr == f"torrentfs: {words}\n"
    assert os.listdir(tmp_path / "out") == []


AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of nobody's, reachable by all; pytest's own are not."""
    done = subprocess.run([*AS_NOBODY, str(TORRENTFS), "-V"], capture_output=True, check=False)
    if os.geteuid() or done.returncode:
        pytest.skip("only root can become nobody")
    with tempfile.TemporaryDirectory() as name:
        os.chown(name, NOBODY, NOBODY)
        yield Path(name)


@pytest.mark.parametrize("command", ["create", "share"])
@pytest.mark.parametrize(
    ("secret", "words"),
    [("a/just-a-block.bin", "just-a-block.bin: permission denied"), ("b/deep", "b/deep")],
)
def test_what_may_not_be_read_is_named_before_hashing(
    place: Path, command: str, secret: str, words: str
) -> None:
    tree = write_tree(place / "tree", ODD_TREE)
    (tree / secret).chmod(0)
    done = torrentfs(command, tree, "-o", place / "x", home=place, before=AS_NOBODY)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("torrentfs: cannot read ")
    assert words in line
    assert line.endswith("permission denied")
    assert not (place / "x").exists()


def test_a_directory_that_may_not_be_written(place: Path) -> None:
    tree = write_tree(place / "tree", {"a": 5})
    (place / "out").mkdir(mode=0o555)
    done = torrentfs("create", tree, "-o", place / "out", home=place, before=AS_NOBODY)
    assert done.returncode == 1
    assert "tree.torrent: permission denied" in done.stderr


def test_files_that_become_unreadable_are_not_sent(place: Path) -> None:
    tree = write_tree(place / "tree", ODD_TREE)
    hashes = sha256_tree(tree)
    with shared(tree, place, "--format", "v2", before=AS_NOBODY) as share:
        (tree / "z/large.bin").chmod(0)
        with download(share.magnet, place / "into", place, peers=[share.peer]) as peer:
            others = sum(ODD_TREE.values()) - ODD_TREE["z/large.bin"]
            share.wait_log("large.bin cannot be read: not shared for now", 30)
            assert peer.status()["downloaded"] <= others
            (tree / "z/large.bin").chmod(0o644)
            peer.wait_done(50)
    assert sha256_tree(place / "into/tree") == hashes


def on_terminal(tmp_path: Path, *args: str, until: bytes) -> tuple[int, str]:
    """Run at a terminal until it has said `until`, then press Ctrl-C; exit code and output."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [str(TORRENTFS), *args],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**environment(tmp_path), "TERM": "xterm-256color", "COLUMNS": "120"},
        start_new_session=True,
    )
    os.close(theirs)
    said = b""
    pressed = False
    deadline = time.monotonic() + 30
    try:
        while True:
            ready, _, _ = select.select([ours], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, said
            try:
                said += os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if until in said and not pressed:
                process.send_signal(signal.SIGINT)
                pressed = True
        return process.wait(10), said.decode()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
        os.close(ours)


def test_a_bar_at_a_terminal(tmp_path: Path) -> None:
    file = tmp_path / "sparse"
    with file.open("wb") as sparse:
        sparse.truncate(200 << 30)
    code, said = on_terminal(
        tmp_path, "create", str(file), "-o", str(tmp_path / "x"), until=b"iB/s"
    )
    assert code == 130
    assert "hashing sparse" in said
    assert "Traceback" not in said
    assert said.count("\x1b[?25h") >= said.count("\x1b[?25l") > 0  # the cursor is back


def test_a_table_at_a_terminal(tmp_path: Path) -> None:
    file = write_file(tmp_path / "film.mkv", 1, 100_000)
    options = ["--bind-interface", "127.0.0.1"]
    code, said = on_terminal(tmp_path, "share", *options, str(file), until=b"0 peers")
    assert code == 0
    assert "Ctrl-C ends it" in said
    assert "Magnet:         magnet:?xt=" in said
    assert "no longer sharing" in said
    assert "Traceback" not in said
    assert said.count("\x1b[?25h") >= said.count("\x1b[?25l") > 0
