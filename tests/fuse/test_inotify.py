"""`--inotify`: watchers are told, and nobody but us can change anything."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuse.conftest import ROOT, Mounted, Mounter, wait_until
from tests.fuse.inotify import Watcher
from tests.fuse.test_mounting import AS_ROOT, NOBODY, as_nobody, for_nobody
from tests.fuse.test_reading import WRITES
from tests.vfs.fakes import content_of

__all__ = ["as_nobody", "for_nobody"]

pytestmark = pytest.mark.real

INOTIFY = {"inotify": True}
LONG = {"negative_timeout": 3600.0}


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    watcher = Watcher()
    yield watcher
    watcher.close()


def told(mounted: Mounted) -> None:
    assert "inotify did not report" not in mounted.log()


def test_watchers_are_told_of_what_comes_and_goes(mount: Mounter, watcher: Watcher) -> None:
    """docs/semantics.md: "With `--inotify`, watchers of a directory are told"."""
    mounted = mount({"one": 5}, mount=INOTIFY, operations=LONG)
    root = mounted.path
    for name in ("show", "film", "films"):
        assert not (root / name).exists()
    watcher.watch(root)
    assert mounted.tell("add show dir:2") == "show"
    assert watcher.events() == ["CREATE DIR show"]
    assert mounted.tell("add film 9") == "film"
    assert watcher.events() == ["CREATE film"]
    assert (root / "show/sub/1").read_bytes() == content_of("show/1", 0, 5)
    assert (root / "film").stat().st_mode & 0o777 == 0o444
    watcher.watch(root / "show", "show")
    assert mounted.tell("remove show") == "show"
    assert sorted(watcher.events(3)) == ["DELETE DIR show", "DELETE_SELF show", "IGNORED show"]
    mounted.tell("remove film")
    assert "DELETE film" in watcher.events()
    assert os.listdir(root) == ["one"]
    told(mounted)
    assert mounted.end() == 0


def test_without_it_watchers_are_told_nothing(mount: Mounter, watcher: Watcher) -> None:
    """docs/semantics.md: "`inotify` reports torrents that come or go only with `--inotify`"."""
    mounted = mount({"one": 5})
    watcher.watch(mounted.path)
    mounted.tell("add show dir:2")
    assert sorted(os.listdir(mounted.path)) == ["one", "show"]
    mounted.tell("remove one")
    assert watcher.events(timeout=0.2) == []
    assert os.listdir(mounted.path) == ["show"]


def test_watchers_are_told_of_what_takes_a_place(mount: Mounter, watcher: Watcher) -> None:
    mounted = mount({"one": 5}, mount=INOTIFY, operations=LONG)
    root = mounted.path
    mounted.tell("add show dir:2 weekly")
    watcher.watch(root / "weekly")
    assert mounted.tell("replace show dir:3 weekly") == ["weekly/show", "weekly/show"]
    assert watcher.events(2) == ["DELETE DIR show", "CREATE DIR show"]
    assert len(os.listdir(root / "weekly/show/sub")) == 3
    told(mounted)
    assert mounted.end() == 0


def test_a_folder_is_told_of_once_with_what_is_in_it(mount: Mounter, watcher: Watcher) -> None:
    mounted = mount({"one": 5}, mount=INOTIFY, operations=LONG)
    root = mounted.path
    watcher.watch(root)
    mounted.tell("add x dir:1 films/old")
    assert watcher.events() == ["CREATE DIR films"]
    assert (root / "films/old/x/sub/0").exists()
    watcher.watch(root / "films", "films")
    watcher.watch(root / "films/old", "films/old")
    mounted.tell("add y 5 films/old")
    mounted.tell("add z 5 films")
    assert watcher.events(2) == ["CREATE films/old/y", "CREATE films/z"]
    mounted.tell("remove x")
    mounted.tell("remove y")
    mounted.tell("remove z")
    seen = watcher.events(7)
    assert [event for event in seen if event.startswith("DELETE DIR")] == [
        "DELETE DIR films/old/x", "DELETE DIR films/old", "DELETE DIR films",
    ]  # fmt: skip
    assert {"DELETE_SELF films", "DELETE_SELF films/old"} < set(seen)
    assert mounted.tell("swarm add 100") == 100
    assert "CREATE DIR swarm" in watcher.events()
    assert len(os.listdir(root / "swarm")) == 100
    assert mounted.tell("swarm remove 100") == 100
    assert "DELETE DIR swarm" in watcher.events()
    told(mounted)
    assert mounted.end() == 0


def test_flat_files_are_told_of_one_by_one(mount: Mounter, watcher: Watcher) -> None:
    """docs/semantics.md: "there is one event for each file"."""
    options = {"layout": "flat"}
    mounted = mount({"t": [["f", 1]]}, mount=INOTIFY, operations=LONG, tree=options)
    assert not (mounted.path / "1").exists()
    watcher.watch(mounted.path)
    mounted.tell("add show dir:3")
    assert watcher.events(3) == ["CREATE 0", "CREATE 1", "CREATE 2"]
    assert sorted(os.listdir(mounted.path)) == ["0", "1", "2", "f"]
    mounted.tell("remove show")
    assert watcher.events(3) == ["DELETE 0", "DELETE 1", "DELETE 2"]
    assert os.listdir(mounted.path) == ["f"]
    told(mounted)
    assert mounted.end() == 0


def test_a_torrent_that_comes_again(mount: Mounter, watcher: Watcher) -> None:
    mounted = mount({"one": 5}, mount=INOTIFY)
    watcher.watch(mounted.path)
    for _ in range(3):
        mounted.tell("add x dir:1")
        inside = os.open(mounted.path / "x", os.O_RDONLY)
        file = os.open(mounted.path / "x/sub/0", os.O_RDONLY)
        assert os.listdir(mounted.path / "x") == ["sub"]
        mounted.tell("remove x")
        assert not (mounted.path / "x").exists()
        os.close(inside)
        with contextlib.suppress(OSError):
            os.close(file)
    assert watcher.events(6) == ["CREATE DIR x", "DELETE DIR x"] * 3
    told(mounted)
    assert mounted.end() == 0


def test_every_write_of_anybody_is_refused_with_erofs(mount: Mounter) -> None:
    """docs/semantics.md: "torrentfs itself refuses every change of anybody else with `EROFS`"."""
    mounted = mount({"t": [["f", 10], ["d/x", 1]]}, mount=INOTIFY, operations={"xattrs": True})
    refused = {}
    for name, write in WRITES.items():
        try:
            write(mounted.path)
            refused[name] = "done!"
        except OSError as error:
            refused[name] = errno.errorcode[error.errno or 0]
    assert refused.pop("O_TMPFILE") == "ENOTSUP"  # libfuse does not pass it on
    assert set(refused.values()) == {"EROFS"}, refused
    assert (mounted.path / "t/f").read_bytes() == content_of("t/0", 0, 10)
    assert os.listdir(mounted.path) == ["t"]


PROBE = """
import os, sys, errno
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from tests.fuse.test_reading import WRITES
for name, write in WRITES.items():
    try:
        write(Path(sys.argv[1]))
    except OSError as error:
        print(name, errno.errorcode[error.errno])
    else:
        print(name, "done!")
"""


@AS_ROOT
def test_every_write_of_another_user_is_refused_too(mount: Mounter, for_nobody: Path) -> None:
    options = INOTIFY | {"allow_other": True}
    mounted = mount({"t": [["f", 10], ["d/x", 1]]}, for_nobody, mount=options)
    done = subprocess.run(
        [*NOBODY, sys.executable, "-c", PROBE, str(mounted.path), str(ROOT)],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip("user nobody cannot read this checkout or its Python here")
    answers = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())
    assert len(answers) == len(WRITES)
    del answers["O_TMPFILE"]
    # The kernel has a word of its own for what this user may do to files of others nowhere.
    assert set(answers.values()) <= {"EROFS", "EPERM"}, answers
    assert {name for name, answer in answers.items() if answer == "EPERM"} <= {"link"}
    assert mounted.end() == 0


@AS_ROOT
def test_nobody_may_do_what_we_are_about_to_do(mount: Mounter) -> None:
    """Others race for the name with mkdir all the while; none of them ever makes it."""
    mounted = mount({"one": 5}, mount=INOTIFY)
    wins: list[str] = []
    going = threading.Event()

    def race() -> None:
        while not going.is_set():
            for act in (os.mkdir, os.rmdir, os.mknod, os.unlink):
                try:
                    act(mounted.path / "x")
                    wins.append(act.__name__)
                except OSError as error:
                    if error.errno not in (
                        errno.EROFS, errno.EEXIST, errno.ENOENT, errno.EISDIR, errno.ENOTDIR,
                    ):  # fmt: skip
                        wins.append(f"{act.__name__} {error}")

    racers = [threading.Thread(target=race) for _ in range(3)]
    for racer in racers:
        racer.start()
    try:
        for _ in range(50):
            mounted.tell("add x dir:1")
            assert os.listdir(mounted.path / "x") == ["sub"]
            mounted.tell("remove x")
            assert os.listdir(mounted.path) == ["one"]
    finally:
        going.set()
        for racer in racers:
            racer.join(10)
    assert wins == []
    assert mounted.end() == 0


def test_nothing_hangs_while_a_torrent_is_stuck(mount: Mounter, watcher: Watcher) -> None:
    mounted = mount({"dead": 9_000, "t": [["a", 9_000]]}, mount=INOTIFY)
    mounted.tell("hold dead")
    mounted.tell("hold t")
    readers = [mount.reader("cat", str(mounted.path / name)) for name in ("dead", "t/a")]
    mounted.wait_blocked(2)
    watcher.watch(mounted.path)
    mounted.tell("add x dir:1")
    mounted.tell("remove t")
    mounted.tell("remove dead")
    assert watcher.events(3) == ["CREATE DIR x", "DELETE DIR t", "DELETE dead"]
    assert [reader.wait(5) for reader in readers] == [1, 1]
    assert mounted.end() == 0


def test_changes_while_the_mount_goes_away(mount: Mounter) -> None:
    """They must not end up in the directory below it.

    docs/semantics.md: "nothing is made in the directory that was below it".
    """
    for number in range(5):
        mounted = mount({"one": 5}, mount=INOTIFY)
        for n in range(number * 3):
            mounted.tell(f"add x{n} dir:1")
        assert mounted.process.stdin is not None
        for n in range(30):
            mounted.process.stdin.write(f"add y{n} dir:1\n")
        mounted.process.stdin.flush()
        subprocess.run(["fusermount3", "-u", "-z", mounted.path], check=True, timeout=5)
        assert mounted.process.wait(10) in (0, 1)
        assert os.listdir(mounted.path) == []


@AS_ROOT
def test_a_directory_that_something_is_mounted_on_goes_all_the_same(mount: Mounter) -> None:
    """docs/semantics.md: "it is made without an event"."""
    mounted = mount({"one": 5}, mount=INOTIFY)
    mounted.tell("add x dir:1")
    libc = ctypes.CDLL(None, use_errno=True)
    place = os.fsencode(mounted.path / "x/sub")
    assert libc.mount(b"none", place, b"tmpfs", 0, None) == 0
    try:
        assert mounted.tell("remove x") == "x"
        assert os.listdir(mounted.path) == ["one"]
    finally:
        libc.umount2(place, 2)
    assert mounted.end() == 0


@AS_ROOT
def test_a_umask_that_forbids_others_to_read_is_refused(mount: Mounter, tmp_path: Path) -> None:
    """docs/semantics.md: "are refused together with a `--umask` that would forbid somebody to
    read"."""
    (tmp_path / "mnt").mkdir()
    mounted = mount.start(
        {"s": 9}, tmp_path / "mnt", mount=INOTIFY | {"allow_other": True}, tree={"umask": 0o027}
    )
    assert "no umask can forbid it" in mounted.first_line()
    assert mounted.process.wait(5) == 2
    (tmp_path / "own").mkdir()
    own = mount({"s": 9}, tmp_path / "own", mount=INOTIFY, tree={"umask": 0o077})
    assert own.end() == 0


@AS_ROOT
def test_an_ordinary_user_can_have_it_too(
    mount: Mounter, for_nobody: Path, as_nobody: tuple[str, ...]
) -> None:
    mounted = mount({"one": 5}, for_nobody, prefix=as_nobody, mount=INOTIFY)
    mounted.tell("add x dir:1 films")
    mounted.tell("add film 5")
    inside = ("nsenter", f"--target={mounted.process.pid}", "--mount", *NOBODY)
    listed = subprocess.run(
        [*inside, "ls", for_nobody], capture_output=True, text=True, timeout=5, check=True
    )
    assert listed.stdout.split() == ["film", "films", "one"]
    refused = subprocess.run(
        [*inside, "mkdir", for_nobody / "new"],
        capture_output=True,
        text=True,
        timeout=5,
        check=False,
    )
    assert "Read-only file system" in refused.stderr
    mounted.tell("remove x")
    told(mounted)
    assert mounted.end(3) == 0


def test_reads_and_listings_are_what_they_are_without(mount: Mounter) -> None:
    mounted = mount({"t": [["a/b", 300_000]]}, mount=INOTIFY)
    began = time.monotonic()
    assert (mounted.path / "t/a/b").read_bytes() == content_of("t/0", 0, 300_000)
    assert os.access(mounted.path / "t/a/b", os.R_OK)
    assert not os.access(mounted.path / "t/a", os.W_OK)
    os.chdir(mounted.path / "t")
    try:
        assert subprocess.run(["ls", "a"], capture_output=True, check=True).stdout == b"b\n"
    finally:
        os.chdir(ROOT)
    wait_until(lambda: mounted.tell("open t") == 0)
    assert time.monotonic() - began < 10
    assert mounted.end() == 0
