"""One run of a worker process, with programs that stand in for it."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest
import trio

from torrentfs.errors import TransportError
from torrentfs.transports.webrtc.config import RtcConfig
from torrentfs.transports.webrtc.process import MAX_UNSENT, WorkerProcess
from torrentfs.transports.webrtc.protocol import Ended, Forget, MakeOffer, Message

pytestmark = pytest.mark.real

PRELUDE = """
import os, socket, sys, time
control = socket.socket(fileno=int(sys.argv[1]))
"""


class Run:
    """A running stand-in."""

    def __init__(self, script: str) -> None:
        self.heard: list[tuple[Message, int]] = []
        command = [sys.executable, "-c", PRELUDE + script]
        self.process = WorkerProcess(
            RtcConfig(), lambda message, fd: self.heard.append((message, fd)), command
        )
        self.reason: str | None = None

    async def run(self) -> None:
        self.reason = await self.process.run()


@pytest.fixture
async def nursery() -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as opened:
        yield opened
        opened.cancel_scope.cancel()


async def until(fact: Callable[[], object]) -> None:
    with trio.fail_after(30):
        while not fact():  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_messages_both_ways(nursery: trio.Nursery) -> None:
    run = Run(
        """
assert control.recv(70000).startswith(b'["Configure"')
assert control.recv(70000) == b'["MakeOffer", 7]'
control.send(b'["Ended", 7]')
socket.send_fds(control, [b'["Opened", 7, "192.0.2.1", 80]'], [0])
"""
    )
    run.process.send(MakeOffer(7))  # before there is a process
    await run.run()
    assert run.heard[0] == (Ended(7), -1)
    descriptor = run.heard[1][1]
    assert descriptor >= 0
    os.close(descriptor)
    assert run.reason == "ended with status 0"
    assert "WorkerProcess" in repr(run.process)


async def test_how_it_ended(nursery: trio.Nursery) -> None:
    run = Run("os.kill(os.getpid(), 9)")
    await run.run()
    assert run.reason == "ended with signal 9"
    run = Run("raise ImportError('no module named aiortc')")
    await run.run()
    assert run.reason == "ended with status 1 (ImportError: no module named aiortc)"


async def test_imports_what_we_do(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "not_installed.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    run = Run("import not_installed; assert os.getcwd() == '/'")
    await run.run()
    assert run.reason == "ended with status 0"


async def test_no_such_program() -> None:
    process = WorkerProcess(RtcConfig(), lambda message, fd: None, ["/nonexistent/python"])
    assert (await process.run()).startswith("cannot be started: No such file")


@pytest.mark.parametrize(
    "said",
    [
        "b'garbage'",
        "b'[\"Nonsense\", 1]'",
        "b'x' * 70000",
    ],
)
async def test_garbage_ends_it(nursery: trio.Nursery, said: str) -> None:
    run = Run(
        f"control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 500000)\n"
        f"control.send({said})\ntime.sleep(1000)"
    )
    await run.run()
    assert run.reason is not None
    assert run.reason.startswith("said ")


async def test_too_many_descriptors_are_closed(nursery: trio.Nursery) -> None:
    run = Run("socket.send_fds(control, [b'[\"Ended\", 1]'], [0, 1])\ntime.sleep(1000)")
    await run.run()
    assert run.reason == "said a control message cut short"
    assert run.heard == []


async def test_is_ended_with_its_owner(nursery: trio.Nursery) -> None:
    run = Run("control.send(b'[\"Ended\", 1]')\nwhile control.recv(70000): pass")
    async with trio.open_nursery() as owner:
        owner.start_soon(run.run)
        await until(lambda: run.heard)
        pid = run.process.pid
        assert pid is not None
        owner.cancel_scope.cancel()
    assert not psutil.pid_exists(pid)


@pytest.mark.expect_log("does not end: killed")
async def test_is_killed_when_it_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torrentfs.transports.webrtc.process.END_TIME", 0.2)
    run = Run("control.send(b'[\"Ended\", 1]')\ntime.sleep(1000)")
    async with trio.open_nursery() as owner:
        owner.start_soon(run.run)
        await until(lambda: run.heard)
        owner.cancel_scope.cancel()


async def test_one_that_reads_nothing_is_killed(nursery: trio.Nursery) -> None:
    run = Run("control.send(b'[\"Ended\", 1]')\ntime.sleep(1000)")
    nursery.start_soon(run.run)
    await until(lambda: run.heard)

    async def ask_much() -> None:
        for number in range(MAX_UNSENT * 100):
            run.process.send(Forget(number))
            await trio.lowlevel.checkpoint()

    with pytest.raises(TransportError, match="does not answer"):
        await ask_much()
    await until(lambda: run.reason)
    assert run.reason == "ended with signal 9"


async def test_its_log_is_ours(nursery: trio.Nursery, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "torrentfs")
    run = Run("print('a line', file=sys.stderr)\nprint('x' * 500000, file=sys.stderr, flush=True)")
    await run.run()
    assert "WebRTC worker: a line" in caplog.text
    assert len(max(caplog.messages, key=len)) < 3000
