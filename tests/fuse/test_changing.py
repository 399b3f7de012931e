"""Torrents that come and go while the mount is in use."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter, wait_until
from tests.vfs.fakes import content_of

pytestmark = pytest.mark.real

LONG = {"operations": {"negative_timeout": 3600.0}}


def fails(path: Path) -> str:
    try:
        path.stat()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "it is there"


def test_names_that_were_looked_up_before_are_there_at_once(mount: Mounter) -> None:
    """docs/semantics.md: "a name that was looked for before is there at once"."""
    mounted = mount({"one": 5}, **LONG)
    root = mounted.path
    assert fails(root / "late") == "ENOENT"
    assert mounted.tell("add late 7") == "late"
    assert (root / "late").stat().st_size == 7
    assert fails(root / "films/old/x") == "ENOENT"
    assert mounted.tell("add x dir:1 films/old") == "films/old/x"
    assert (root / "films/old/x/sub/0").stat().st_size == 5
    for name in ("films/old/y", "films/z"):
        assert fails(root / name) == "ENOENT"
    assert mounted.tell("add y 8 films/old") == "films/old/y"
    assert mounted.tell("add z 9 films") == "films/z"
    assert (root / "films/old/y").stat().st_size == 8
    assert (root / "films/z").stat().st_size == 9
    assert sorted(os.listdir(root)) == ["films", "late", "one"]
    assert sorted(os.listdir(root / "films/old")) == ["x", "y"]


def test_what_went_is_gone_at_every_level(mount: Mounter) -> None:
    mounted = mount({"one": 5}, **LONG)
    root = mounted.path
    mounted.tell("add x dir:1 films/old")
    mounted.tell("add z 9 films")
    assert (root / "films").stat().st_nlink == 3
    subprocess.run(["ls", "-lR", root], check=True, capture_output=True, timeout=10)
    assert mounted.tell("remove x") == "films/old/x"
    assert fails(root / "films/old/x/sub/0") == "ENOENT"
    assert os.listdir(root / "films") == ["z"]
    assert (root / "films").stat().st_nlink == 2
    mounted.tell("remove z")
    assert fails(root / "films") == "ENOENT"
    assert os.listdir(root) == ["one"]
    assert root.stat().st_nlink == 2


def test_directories_change_their_date_when_an_entry_comes_or_goes(mount: Mounter) -> None:
    """docs/semantics.md: "when an entry of that very directory comes or goes"."""
    mounted = mount({"one": 5}, **LONG)
    root = mounted.path
    assert root.stat().st_mtime == 1_700_000_000
    mounted.tell("add x 9 films")
    assert root.stat().st_mtime == (root / "films").stat().st_mtime == 1_800_000_000
    mounted.tell("add y 9 films")
    assert root.stat().st_mtime == (root / "films").stat().st_mtime == 1_800_000_000
    mounted.tell("remove x")
    assert root.stat().st_mtime == 1_800_000_000
    assert (root / "films").stat().st_mtime == 1_900_000_000
    mounted.tell("add x 9 films")  # the clock was set back
    assert (root / "films").stat().st_mtime == 1_900_000_001


def test_a_file_that_is_open_when_its_torrent_goes(mount: Mounter) -> None:
    """docs/semantics.md: "fail with `ESTALE`"."""
    mounted = mount({"t": [["a/b", 600_000]]})
    inside = os.open(mounted.path / "t/a", os.O_RDONLY)
    file = os.open(mounted.path / "t/a/b", os.O_RDONLY)
    assert os.pread(file, 10, 0) == content_of("t/0", 0, 10)
    assert mounted.tell("remove t") == "t"
    assert fails(mounted.path / "t") == fails(mounted.path / "t/a/b") == "ENOENT"
    assert os.pread(file, 10, 0) == content_of("t/0", 0, 10)  # the kernel has it
    with pytest.raises(OSError, match="Stale file handle"):
        os.pread(file, 10, 500_000)
    assert os.fstat(file).st_size == 600_000
    assert os.listdir(inside) == []  # as of any directory that was removed
    os.close(inside)
    os.close(file)
    assert mounted.end() == 0


def test_a_torrent_takes_the_place_of_another_that_is_read_on(mount: Mounter) -> None:
    """docs/semantics.md: "its files that are open can be read until they are closed"."""
    mounted = mount({"one": 5}, **LONG)
    root = mounted.path
    mounted.tell("add t dir:2 weekly")
    folder, inode = (root / "weekly").stat().st_ino, (root / "weekly/t").stat().st_ino
    file = os.open(root / "weekly/t/sub/1", os.O_RDONLY)
    assert mounted.tell("replace t dir:3 weekly") == ["weekly/t", "weekly/t"]
    assert os.listdir(root / "weekly") == ["t"]
    assert (root / "weekly").stat().st_ino == folder  # it was never gone
    assert (root / "weekly").stat().st_mtime == 1_900_000_000
    assert (root / "weekly/t").stat().st_ino != inode
    assert len(os.listdir(root / "weekly/t/sub")) == 3
    assert os.pread(file, 9, 0) == content_of("t/1", 0, 5)
    assert os.fstat(file).st_size == 5
    assert mounted.tell("open t.old") == 1
    os.close(file)
    assert mounted.tell("expel t.old") == "ok"
    assert (root / "weekly/t/sub/2").read_bytes() == content_of("t/2", 0, 5)
    assert mounted.end() == 0


READER = (
    "import sys\ntry:\n open(sys.argv[1], 'rb').read(9)\nexcept OSError as e:\n sys.exit(e.errno)"
)


def test_reads_that_wait_fail_when_their_torrent_goes(mount: Mounter) -> None:
    mounted = mount({"t": [["a", 9_000]], "dead": 9_000}, admission={"per_torrent": 2})
    mounted.tell("hold t")
    mounted.tell("hold dead")
    readers = [
        mount.reader(sys.executable, "-c", READER, str(mounted.path / "t/a")) for _ in range(5)
    ]
    other = mount.reader(sys.executable, "-c", READER, str(mounted.path / "dead"))
    mounted.wait_blocked(2)
    mounted.tell("remove t")
    assert {reader.wait(5) for reader in readers} <= {errno.ESTALE, errno.EIO, errno.ENOENT}
    assert other.poll() is None
    assert "cannot read" not in mounted.log()
    mounted.tell("add t dir:1")
    assert (mounted.path / "t/sub/0").read_bytes() == content_of("t/0", 0, 5)
    mounted.tell("free dead")
    assert other.wait(5) == 0
    assert mounted.end() == 0


def test_a_torrent_that_comes_again_while_somebody_still_sits_in_it(mount: Mounter) -> None:
    """What the kernel was told to be dead must not be what it finds again."""
    mounted = mount({"one": 5})
    root = mounted.path
    mounted.tell("add x dir:1 films/old")
    inode = (root / "films/old/x").stat().st_ino
    for place in ("films/old/x/sub", "films/old/x", "films/old", "films"):
        sitting = os.open(root / place, os.O_RDONLY)
        file = os.open(root / "films/old/x/sub/0", os.O_RDONLY)
        mounted.tell("remove x")
        assert os.listdir(sitting) == []
        mounted.tell("add x dir:1 films/old")
        assert (root / "films/old/x").stat().st_ino == inode
        assert os.listdir(root / "films/old/x/sub") == ["0"]
        assert (root / "films/old/x/sub/0").read_bytes() == content_of("x/0", 0, 5)
        os.close(sitting)
        with pytest.raises(OSError, match="Input/output"):  # of another life
            os.pread(file, 1, 0)
        with contextlib.suppress(OSError):
            os.close(file)
    wait_until(lambda: mounted.tell("open x") == 0)
    assert mounted.end() == 0


def test_unmounting_with_removed_torrents_in_use(mount: Mounter) -> None:
    mounted = mount({"one": 5, "t": [["a", 9_000]]})
    file = os.open(mounted.path / "t/a", os.O_RDONLY)
    mounted.tell("remove t")
    assert mounted.end(3) == 0
    with pytest.raises(OSError, match=r"not connected|aborted"):
        os.pread(file, 9, 0)
    with contextlib.suppress(OSError):
        os.close(file)
    assert not mounted.is_mounted()


def test_a_hundred_torrents_come_and_go_while_another_is_read(mount: Mounter) -> None:
    mounted = mount({"film": 1 << 40, "dead": 9_000})
    mounted.tell("hold dead")
    stuck = mount.reader("cat", str(mounted.path / "dead"))
    mounted.wait_blocked(1)
    script = (
        "import os,sys,time\nf=os.open(sys.argv[1],os.O_RDONLY)\nworst=0;n=0\n"
        "while not os.path.exists(sys.argv[2]):\n"
        " t=time.monotonic();assert len(os.pread(f,4096,n<<20))==4096;n+=1\n"
        " worst=max(worst,time.monotonic()-t)\n"
        "print(n,worst,flush=True)"
    )
    end = mounted.path.parent / "end"
    command = (sys.executable, "-c", script, str(mounted.path / "film"), str(end))
    reader = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lister = mount.reader("sh", "-c", f"while ! test -e {end}; do ls -lR {mounted.path}; done")
    try:
        wait_until(lambda: mounted.tell("reads film") > 10)
        began = time.monotonic()
        for _ in range(10):
            assert mounted.tell("swarm add 100") == 100
            assert len(os.listdir(mounted.path / "swarm")) == 100
            assert (mounted.path / "swarm/many42/sub/7").stat().st_size == 5
            assert mounted.tell("swarm remove 100") == 100
            assert fails(mounted.path / "swarm") == "ENOENT"
        took = time.monotonic() - began
    finally:
        end.touch()
        told, _ = reader.communicate(timeout=10)
    reads, worst = told.split()
    print(f"{took:.2f} s for ten times 100; {reads} reads meanwhile, the slowest {worst} s")
    assert float(worst) < 1.0  # it is the promise: changes stall no read
    lister.wait(10)
    assert stuck.poll() is None
    assert mounted.end() == 0
