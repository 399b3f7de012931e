"""The handlers, without a kernel."""

from __future__ import annotations

import errno
import os
from typing import Any

import pyfuse3
import pytest
import trio
from pyfuse3 import FUSEError
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.vfs.fakes import content_of, volume
from torrentfs.errors import DataUnavailable
from torrentfs.vfs.admission import Admission
from torrentfs.vfs.operations import WRITES, Operations, OperationsOptions
from torrentfs.vfs.tree import ROOT, Tree

CTX: Any = None


def operations(*volumes: Any, **options: Any) -> Operations:
    return Operations(Tree(volumes=volumes), OperationsOptions(**options))


async def open_file(ops: Operations, *path: str, flags: int = os.O_RDONLY) -> int:
    info = await ops.open(ops.tree.resolve(path), flags, CTX)
    assert info.keep_cache
    assert not info.direct_io
    return info.fh


async def fails_with(number: int, handler: Any, *args: Any) -> None:
    with pytest.raises(FUSEError) as caught:
        await handler(*args)
    assert errno.errorcode[caught.value.errno] == errno.errorcode[number]


async def test_lookup_and_getattr_agree() -> None:
    ops = operations(volume("t", [("a", 700)], added=5.0), entry_timeout=60.0)
    entry = await ops.lookup(ROOT, b"t", CTX)
    inner = await ops.lookup(entry.st_ino, b"a", CTX)
    again = await ops.getattr(inner.st_ino, CTX)
    for name in ("st_ino", "st_size", "st_mode", "st_blocks", "st_nlink", "st_mtime_ns"):
        assert getattr(inner, name) == getattr(again, name)
    assert (inner.st_size, inner.st_blocks, inner.st_blksize) == (700, 2, 4096)
    assert inner.st_mtime_ns == inner.st_ctime_ns == inner.st_atime_ns == 5 * 10**9
    assert (inner.entry_timeout, inner.attr_timeout) == (60.0, 60.0)


async def test_an_absent_name_is_remembered_as_absent() -> None:
    ops = operations(negative_timeout=7.0)
    absent = await ops.lookup(ROOT, b"nope", CTX)
    assert absent.st_ino == 0
    assert absent.entry_timeout == 7.0


async def test_what_the_tree_refuses_becomes_an_errno() -> None:
    ops = operations(volume("s", 1), volume("t", [("a", 1)]))
    single, directory = ops.tree.resolve(["s"]), ops.tree.resolve(["t"])
    await fails_with(errno.ENOTDIR, ops.lookup, single, b"x", CTX)
    await fails_with(errno.ENOENT, ops.getattr, 12345, CTX)
    await fails_with(errno.ENOTDIR, ops.opendir, single, CTX)
    await fails_with(errno.EISDIR, ops.open, directory, os.O_RDONLY, CTX)
    await fails_with(errno.EINVAL, ops.readlink, single, CTX)
    await fails_with(errno.EBADF, ops.read, 99, 0, 1)
    await fails_with(errno.EBADF, ops.readdir, 99, 0, CTX)
    await fails_with(errno.ENOENT, ops.access, 12345, os.R_OK, CTX)


@pytest.mark.parametrize(
    "flags", [os.O_WRONLY, os.O_RDWR, os.O_TRUNC, os.O_RDWR | os.O_APPEND, os.O_CREAT]
)
async def test_opening_to_write_is_refused(flags: int) -> None:
    one = volume("s", 1)
    ops = operations(one)
    await fails_with(errno.EROFS, ops.open, ops.tree.resolve(["s"]), flags, CTX)
    assert one.opened == []


@pytest.mark.parametrize("name", WRITES)
async def test_every_write_operation_is_refused(name: str) -> None:
    ops = operations(volume("s", 1))
    handler = getattr(ops, name)
    base = getattr(pyfuse3.Operations, name)
    arguments = base.__code__.co_argcount - 1
    await fails_with(errno.EROFS, handler, *[None] * arguments)


@pytest.mark.parametrize("name", ["flush", "fsync", "fsyncdir", "poll"])
async def test_what_the_kernel_does_better_alone_is_not_implemented(name: str) -> None:
    arguments = getattr(pyfuse3.Operations, name).__code__.co_argcount - 1
    await fails_with(errno.ENOSYS, getattr(operations(), name), *[None] * arguments)


async def test_access() -> None:
    ops = operations(volume("s", 1))
    inode = ops.tree.resolve(["s"])
    assert await ops.access(inode, os.R_OK, CTX)
    await fails_with(errno.EROFS, ops.access, inode, os.W_OK, CTX)


async def test_read_gives_the_bytes_and_nothing_behind_the_end() -> None:
    one = volume("s", 1000)
    ops = operations(one)
    handle = await open_file(ops, "s")
    assert await ops.read(handle, 10, 100) == content_of("s/0", 10, 100)
    assert await ops.read(handle, 900, 4096) == content_of("s/0", 900, 100)
    assert await ops.read(handle, 1000, 10) == b""
    assert await ops.read(handle, 1 << 62, 10) == b""
    assert one.reads == [(0, 10, 100), (0, 900, 100)]
    await ops.release(handle)
    assert (one.opened, one.released) == ([0], [0])


async def test_a_view_is_passed_on_uncopied() -> None:
    ops = operations(volume("s", 3, data={0: b"abc"}))
    answer = await ops.read(await open_file(ops, "s"), 0, 3)
    assert isinstance(answer, memoryview)
    assert bytes(answer) == b"abc"


@pytest.mark.expect_log("the torrent gave 99 bytes of 100")
async def test_a_short_read_is_an_error_never_an_end_of_file() -> None:
    ops = operations(volume("s", 1000, short=1))
    handle = await open_file(ops, "s")
    await fails_with(errno.EIO, ops.read, handle, 0, 100)
    assert ops.admission.running == 0


@pytest.mark.expect_log("cannot read s at 0: no peers")
async def test_a_failed_read_says_why_once(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    ops = operations(volume("s", 1000, error=DataUnavailable("no peers", errno.ETIMEDOUT)))
    handle = await open_file(ops, "s")
    for _ in range(50):
        await fails_with(errno.ETIMEDOUT, ops.read, handle, 0, 100)
    assert [r.getMessage() for r in caplog.records] == ["cannot read s at 0: no peers"]
    await trio.sleep(11)
    await fails_with(errno.ETIMEDOUT, ops.read, handle, 0, 100)
    assert caplog.records[-1].getMessage() == (
        "cannot read s at 0: no peers (and 49 reads before it)"
    )
    assert ops.admission.running == 0


@pytest.mark.expect_log("read failed for a reason nobody foresaw")
async def test_a_bug_in_a_torrent_is_eio() -> None:
    ops = operations(volume("s", 1000, error=ZeroDivisionError()))
    await fails_with(errno.EIO, ops.read, await open_file(ops, "s"), 0, 100)
    assert ops.admission.running == 0


async def test_200_blocked_reads_of_one_torrent_leave_another_alone(nursery: trio.Nursery) -> None:
    dead, healthy = volume("dead", 1 << 30, held=True), volume("healthy", 1000)
    ops = Operations(Tree(volumes=[dead, healthy]), None, Admission(per_torrent=64))
    stuck, good = await open_file(ops, "dead"), await open_file(ops, "healthy")
    for number in range(200):
        nursery.start_soon(ops.read, stuck, number << 20, 4096)
    await wait_all_tasks_blocked()
    assert (dead.blocked, ops.admission.waiting) == (64, 136)
    assert len(await ops.read(good, 0, 1000)) == 1000
    dead.let_go()
    await wait_all_tasks_blocked()
    assert len(dead.reads) == 200
    assert (ops.admission.running, ops.admission.waiting) == (0, 0)


@pytest.mark.expect_log("30 s in line behind other reads of this torrent")
async def test_nobody_waits_in_line_for_ever(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    dead = volume("dead", 1000, held=True)
    ops = Operations(
        Tree(volumes=[dead]), OperationsOptions(line_timeout=30), Admission(per_torrent=1)
    )
    handle = await open_file(ops, "dead")
    nursery.start_soon(ops.read, handle, 0, 10)
    await wait_all_tasks_blocked()
    began = trio.current_time()
    await fails_with(errno.EIO, ops.read, handle, 0, 10)
    assert trio.current_time() - began == pytest.approx(30)
    dead.let_go()


async def test_shutting_fails_who_is_in_line_and_who_comes(nursery: trio.Nursery) -> None:
    dead = volume("dead", 1000, held=True)
    ops = Operations(Tree(volumes=[dead]), None, Admission(per_torrent=1))
    handle = await open_file(ops, "dead")
    nursery.start_soon(ops.read, handle, 0, 10)
    await wait_all_tasks_blocked()
    nursery.start_soon(fails_with, errno.EIO, ops.read, handle, 0, 10)
    await wait_all_tasks_blocked()
    ops.shut()
    await wait_all_tasks_blocked()
    await fails_with(errno.EIO, ops.read, handle, 0, 10)
    dead.let_go()


async def test_statfs() -> None:
    """docs/semantics.md: "total = sum of all files shown, free = 0, longest name 255 bytes"."""
    ops = operations(volume("s", 4097), volume("t", [("a", 4096), ("b|p", 9999)]))
    answer = await ops.statfs(CTX)
    assert (answer.f_bsize, answer.f_frsize, answer.f_blocks) == (4096, 4096, 3)
    assert (answer.f_bfree, answer.f_bavail, answer.f_ffree) == (0, 0, 0)
    assert (answer.f_files, answer.f_namemax) == (2, 255)


async def test_readlink() -> None:
    ops = operations(volume("t", [("d/l|l=x", 0), ("x", 1)]))
    assert await ops.readlink(ops.tree.resolve(["t", "d", "l"]), CTX) == b"../x"


async def test_a_link_longer_than_linux_takes() -> None:
    far = "/".join(["x" * 200] * 30)
    ops = operations(volume("t", [(f"l|l={far}", 0)]))
    await fails_with(errno.ENAMETOOLONG, ops.readlink, ops.tree.resolve(["t", "l"]), CTX)


async def list_in_steps(
    ops: Operations, inode: int, step: int, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[bytes, int, int]]:
    """What a kernel sees that takes `step` entries at a time."""
    taken: list[tuple[bytes, int, int]] = []
    left = [0]
    place = [0]

    def reply(token: Any, name: bytes, about: Any, next_id: int) -> bool:
        if not left[0]:
            return False
        left[0] -= 1
        place[0] = next_id
        taken.append((name, about.st_ino, about.st_size))
        return True

    monkeypatch.setattr(pyfuse3, "readdir_reply", reply)
    handle = await ops.opendir(inode, CTX)
    while True:
        left[0] = step
        before = len(taken)
        await ops.readdir(handle, place[0], CTX)
        if len(taken) == before:
            break
    await ops.releasedir(handle)
    return taken


@pytest.mark.parametrize("step", [1, 2, 3, 1000])
async def test_readdir_resumes_where_the_kernel_stopped(
    step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/semantics.md: "A directory that is being listed shows each entry once"."""
    ops = operations(volume("t", [(f"{n}", n) for n in range(7)]))
    inode = ops.tree.resolve(["t"])
    seen = await list_in_steps(ops, inode, step, monkeypatch)
    assert [name for name, _, _ in seen] == [b".", b".."] + [b"%d" % n for n in range(7)]
    for name, child, size in seen[2:]:
        assert child == ops.tree.lookup(inode, name)
        assert size == int(name)
    assert [child for _, child, _ in seen[:2]] == [inode, ROOT]
    assert not ops.handles.listings


async def test_xattrs_are_off_until_asked_for() -> None:
    ops = operations(volume("s", 1))
    inode = ops.tree.resolve(["s"])
    await fails_with(errno.ENOSYS, ops.getxattr, inode, b"user.torrentfs.state", CTX)
    await fails_with(errno.ENOSYS, ops.listxattr, inode, CTX)


async def test_xattrs() -> None:
    ops = operations(volume("s", 1), xattrs=True)
    inode = ops.tree.resolve(["s"])
    assert await ops.getxattr(inode, b"user.torrentfs.state", CTX) == b"idle"
    assert b"user.torrentfs.infohash" in await ops.listxattr(inode, CTX)
    await fails_with(pyfuse3.ENOATTR, ops.getxattr, inode, b"security.capability", CTX)


async def test_forget_and_repr() -> None:
    ops = operations(volume("s", 1))
    await ops.forget([(ROOT, 1)])
    assert "1 torrents" in repr(ops)


@pytest.mark.expect_log("nobody has it")
async def test_the_first_read_of_each_opening_is_timed(autojump_clock: MockClock) -> None:
    torrent = volume("t", 1000)
    ops = operations(torrent)
    fh = await open_file(ops, "t")
    torrent.held = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ops.read, fh, 0, 10)
        await trio.sleep(2)
        torrent.let_go()
    await ops.read(fh, 10, 10)
    assert (ops.first_bytes.total, ops.first_bytes.sum) == (1, 2.0)
    await ops.release(fh)
    fh = await open_file(ops, "t")
    torrent.error = DataUnavailable("nobody has it")
    with pytest.raises(FUSEError):
        await ops.read(fh, 0, 10)
    await ops.release(fh)
    assert ops.first_bytes.total == 1  # a read that failed gave no first byte
