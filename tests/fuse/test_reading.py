"""Reading through the kernel: every way in which programs get at bytes and names."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounter, wait_until
from tests.vfs.fakes import content_of

pytestmark = pytest.mark.real

MIB = 1 << 20
SIZE = 3 * MIB + 1234


def run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def by_read(path: Path) -> bytes:
    return path.read_bytes()


def by_cat(path: Path) -> bytes:
    return subprocess.run(["cat", path], check=True, capture_output=True, timeout=60).stdout


def by_mmap(path: Path) -> bytes:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        return view[:]


def by_sendfile(path: Path) -> bytes:
    sink = os.memfd_create("sink")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            place = 0
            while place < size:
                sent = os.sendfile(sink, file.fileno(), place, size - place)
                assert sent
                place += sent
        return os.pread(sink, size, 0)
    finally:
        os.close(sink)


def by_direct(path: Path) -> bytes:
    """O_DIRECT past the page cache, in requests that do not end with the file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, MIB) as room:
            parts, place = [], 0
            while count := os.preadv(descriptor, [room], place):
                parts.append(room[:count])
                place += count
            return b"".join(parts)
    finally:
        os.close(descriptor)


def by_dd(path: Path) -> bytes:
    command = ["dd", f"if={path}", "bs=77777", "status=none"]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


WAYS = [by_read, by_cat, by_mmap, by_sendfile, by_direct, by_dd]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [0, 1, 4096, SIZE])
def test_every_way_of_reading_gives_the_bytes(
    way: Callable[[Path], bytes], size: int, mount: Mounter
) -> None:
    """docs/semantics.md: "Right bytes or an error, never wrong bytes"."""
    if way is by_mmap and not size:
        pytest.skip("nothing to map")
    mounted = mount({"file": size})
    assert way(mounted.path / "file") == content_of("file/0", 0, size)


def test_cp_takes_a_tree_as_it_is(mount: Mounter, tmp_path: Path) -> None:
    files = [["a/one", 70_000], ["a/b/two|x", 5], ["three", 0], ["a/link|l=a/b/two", 0]]
    mounted = mount({"t": files})
    run("cp", "-a", mounted.path / "t", tmp_path / "copy")
    assert (tmp_path / "copy/a/one").read_bytes() == content_of("t/0", 0, 70_000)
    assert os.readlink(tmp_path / "copy/a/link") == "b/two"
    assert (tmp_path / "copy/a/link").read_bytes() == content_of("t/1", 0, 5)
    assert os.access(tmp_path / "copy/a/b/two", os.X_OK)
    assert (tmp_path / "copy/three").stat().st_size == 0
    for directory in ("copy/a/b", "copy/a", "copy"):  # so that they can be deleted
        (tmp_path / directory).chmod(0o755)


def test_reads_at_and_behind_the_end(mount: Mounter) -> None:
    """docs/semantics.md: "`lseek` with `SEEK_DATA` and `SEEK_HOLE` sees one extent of data.
    Reads at and behind the end of a file give 0 bytes".
    """
    mounted = mount({"file": 10_000})
    with (mounted.path / "file").open("rb") as file:
        number = file.fileno()
        assert os.pread(number, 100, 9_950) == content_of("file/0", 9_950, 50)
        assert os.pread(number, 100, 10_000) == b""
        assert os.pread(number, 100, 1 << 40) == b""
        assert os.lseek(number, 0, os.SEEK_DATA) == 0
        assert os.lseek(number, 0, os.SEEK_HOLE) == 10_000


def test_locks(mount: Mounter) -> None:
    """docs/semantics.md: "Locks (`flock`, `fcntl`) work among the processes of this machine"."""
    path = mount({"file": 10}).path / "file"
    with path.open("rb") as ours, path.open("rb") as other:
        fcntl.flock(ours, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        done = subprocess.run(["flock", "--nonblock", path, "true"], timeout=10, check=False)
        assert done.returncode == 1
        fcntl.flock(ours, fcntl.LOCK_UN)
        fcntl.lockf(ours, fcntl.LOCK_SH)
        run("flock", "--nonblock", path, "true")


def test_a_torrent_of_a_tebibyte_is_read_in_its_middle(mount: Mounter) -> None:
    mounted = mount({"file": 1 << 40})
    assert mounted.path.joinpath("file").stat().st_blocks == 1 << 31
    with (mounted.path / "file").open("rb") as file:
        assert os.pread(file.fileno(), 5000, 1 << 39) == content_of("file/0", 1 << 39, 5000)
    assert mounted.tell("reads file") < 5


def test_listing_finding_and_measuring_read_nothing(mount: Mounter) -> None:
    """docs/semantics.md: "0, so that `du -b` adds up to the size of the torrents"."""
    mounted = mount({"t": [["a/b", 700], ["c", 5000]], "s": 9})
    listing = run("ls", "-laR", mounted.path)
    assert "5000" in listing
    found = run("find", mounted.path, "-type", "f", "-printf", "%P %s\n").split("\n")
    assert sorted(found) == ["", "s 9", "t/a/b 700", "t/c 5000"]
    assert run("du", "-sb", mounted.path).split()[0] == "5709"
    assert run("du", "-s", "--block-size=512", mounted.path).split()[0] == str(2 + 10 + 1)
    run("stat", mounted.path / "t/c", mounted.path / "t", mounted.path)
    assert mounted.tell("reads t") == mounted.tell("reads s") == 0
    assert mounted.tell("open t") == 0


def test_stat(mount: Mounter) -> None:
    """docs/semantics.md: "of the user who mounts"."""
    mounted = mount({"t": [["a/b", 700]]}, tree={"umask": 0o027})
    file, inner = (mounted.path / "t/a/b").stat(), (mounted.path / "t").stat()
    assert (file.st_size, file.st_blocks, file.st_blksize, file.st_nlink) == (700, 2, 4096, 1)
    assert (oct(file.st_mode), oct(inner.st_mode)) == ("0o100440", "0o40550")
    assert (inner.st_nlink, inner.st_uid, inner.st_gid) == (3, os.getuid(), os.getgid())
    assert file.st_mtime == file.st_ctime == file.st_atime == 1_700_000_000
    listed = {entry.name: entry.inode() for entry in os.scandir(mounted.path)}
    assert listed == {"t": inner.st_ino}


def test_inodes_and_times_are_the_same_in_the_next_mount(mount: Mounter) -> None:
    """docs/semantics.md: "Names, inodes and dates are stable"."""
    seen = []
    for _ in range(2):
        mounted = mount({"t": [["a/b", 700], ["c", 1]], "s": 9})
        paths = ["", "t", "t/a", "t/a/b", "t/c", "s"]
        about = [(mounted.path / path).stat() for path in paths]
        seen.append([(a.st_ino, a.st_mtime_ns, a.st_ctime_ns) for a in about])
        assert mounted.end() == 0
    assert seen[0] == seen[1]
    assert len({inode for inode, _, _ in seen[0]}) == 6


def test_statvfs(mount: Mounter) -> None:
    mounted = mount({"t": [["a/b", 4096 * 10], ["c", 1]]})
    about = os.statvfs(mounted.path)
    assert (about.f_blocks, about.f_bfree, about.f_bavail) == (11, 0, 0)
    assert (about.f_frsize, about.f_namemax, about.f_files) == (4096, 255, 2)
    assert about.f_flag & os.ST_RDONLY
    assert about.f_flag & os.ST_NOSUID
    assert about.f_flag & os.ST_NODEV


def test_dot_names_and_huge_directories(mount: Mounter) -> None:
    mounted = mount({"flat": {"flat": 20_000}})
    assert sorted(os.listdir(mounted.path / "flat")) == [f"{n:06}" for n in range(20_000)]
    names = run("ls", "-fa", mounted.path / "flat").split()
    assert len(names) == len(set(names)) == 20_002
    assert {".", ".."} < set(names)


def test_extended_attributes_are_off_or_on(mount: Mounter) -> None:
    """docs/semantics.md: "exist with `--xattrs` only"."""
    off, on = mount({"s": 9}), mount({"s": 9}, operations={"xattrs": True})
    with pytest.raises(OSError, match="not supported") as caught:
        os.getxattr(off.path / "s", "user.torrentfs.state")
    assert caught.value.errno == errno.EOPNOTSUPP
    with pytest.raises(OSError, match="not supported"):
        os.listxattr(off.path / "s")
    assert os.getxattr(on.path / "s", "user.torrentfs.progress") == b"0.25"
    assert "user.torrentfs.infohash" in os.listxattr(on.path / "s")
    with pytest.raises(OSError, match="No data"):
        os.getxattr(on.path / "s", "user.nothing")


def test_the_page_cache_is_kept_between_opens(mount: Mounter) -> None:
    """docs/semantics.md: "What was read stays in the kernel's page cache between opens"."""
    mounted = mount({"file": SIZE})
    for _ in range(3):
        (mounted.path / "file").read_bytes()
        count = mounted.tell("reads file")
    first = count
    (mounted.path / "file").read_bytes()
    assert mounted.tell("reads file") == first
    wait_until(lambda: mounted.tell("open file") == 0)  # the kernel lets go of it in its own time


LIBC = ctypes.CDLL(None, use_errno=True)


def fallocate(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fallocate(descriptor, 0, 10)
    finally:
        os.close(descriptor)


def write_through_read_handle(path: Path) -> None:
    with path.open("rb") as file:
        os.write(file.fileno(), b"x")


def shared_writable_map(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    os.close(descriptor)


WRITES: dict[str, Callable[[Path], object]] = {
    "open to write": lambda p: os.open(p / "t/f", os.O_WRONLY),
    "open to append": lambda p: os.open(p / "t/f", os.O_RDWR | os.O_APPEND),
    "truncating open": lambda p: os.open(p / "t/f", os.O_RDONLY | os.O_TRUNC),
    "create": lambda p: os.open(p / "t/new", os.O_CREAT | os.O_WRONLY, 0o644),
    "create in the root": lambda p: os.open(p / "new", os.O_CREAT | os.O_RDONLY, 0o644),
    "O_TMPFILE": lambda p: os.open(p, os.O_TMPFILE | os.O_RDWR),
    "mkdir": lambda p: os.mkdir(p / "new"),
    "mknod": lambda p: os.mknod(p / "t/new"),
    "mkfifo": lambda p: os.mkfifo(p / "t/new"),
    "symlink": lambda p: os.symlink("x", p / "t/new"),
    "link": lambda p: os.link(p / "t/f", p / "t/new"),
    "rename": lambda p: os.rename(p / "t/f", p / "t/new"),
    "unlink": lambda p: os.unlink(p / "t/f"),
    "rmdir": lambda p: os.rmdir(p / "t/d"),
    "chmod": lambda p: os.chmod(p / "t/f", 0o777),
    "chown": lambda p: os.chown(p / "t/f", 1, 1),
    "truncate": lambda p: os.truncate(p / "t/f", 0),
    "utime": lambda p: os.utime(p / "t/f", (1, 1)),
    "setxattr": lambda p: os.setxattr(p / "t/f", "user.x", b"1"),
    "removexattr": lambda p: os.removexattr(p / "t/f", "user.x"),
    "access to write": lambda p: _faccess(p / "t/f"),
    "map shared to write": lambda p: shared_writable_map(p / "t/f"),
}


def _faccess(path: Path) -> None:
    if LIBC.access(os.fsencode(path), os.W_OK) != 0:
        raise OSError(ctypes.get_errno(), "access")


def test_every_write_is_refused_with_erofs(mount: Mounter) -> None:
    """docs/semantics.md: "Every attempt to change something fails with `EROFS`"."""
    mounted = mount({"t": [["f", 10], ["d/x", 1]]}, operations={"xattrs": True})
    refused = {}
    for name, write in WRITES.items():
        try:
            write(mounted.path)
            refused[name] = "done!"
        except OSError as error:
            refused[name] = errno.errorcode[error.errno or 0]
    assert refused == dict.fromkeys(WRITES, "EROFS")
    for write in (fallocate, write_through_read_handle):
        with pytest.raises(OSError, match="Bad file descriptor"):
            write(mounted.path / "t/f")


def test_two_hundred_thousand_entries(mount: Mounter, capsys: pytest.CaptureFixture[str]) -> None:
    """Timings are printed, not asserted: other programs run here too."""
    mounted = mount({"huge": {"many": 200_000}})
    timings = {}
    for name, command in {
        "ls of the root": ["ls", "-l", mounted.path],
        "find": ["find", mounted.path],
        "find -ls again": ["find", mounted.path, "-ls"],
        "ls -lR": ["ls", "-lR", mounted.path],
        "du": ["du", "-s", mounted.path],
    }.items():
        began = time.perf_counter()
        output = subprocess.run(command, check=True, capture_output=True, timeout=120).stdout
        timings[name] = time.perf_counter() - began
        if name == "find":
            assert output.count(b"\n") == 200_000 + 400 + 2
    resident = int(Path(f"/proc/{mounted.process.pid}/statm").read_text().split()[1]) >> 8
    with capsys.disabled():
        words = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in timings.items())
        print(f"\n200,000 files: {words}; {resident} MiB resident (fake torrent included)")
