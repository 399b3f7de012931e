"""Connections: bounded, broken off at the end, and nothing imported before the first."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.daemon.control.fakes import FakeMount, fake_mount
from torrentfs.daemon.control import server as server_module
from torrentfs.daemon.control.access import Endpoint
from torrentfs.daemon.control.place import UnixSocket
from torrentfs.daemon.control.server import ControlServer, Listening

pytestmark = pytest.mark.real

GET = b"GET /api/v1/status HTTP/1.1\r\nhost: x\r\n\r\n"


@asynccontextmanager
async def serving(tmp_path: Path, make_app: Any = None) -> AsyncIterator[tuple[Path, FakeMount]]:
    """A server of a fake mount; its socket."""
    mount = fake_mount()
    made = UnixSocket(tmp_path / "x.sock")
    listening = [Listening(made.listener, Endpoint())]
    server = ControlServer(make_app or (lambda: mount.app), listening)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve)
            yield made.path, mount
            nursery.cancel_scope.cancel()
    finally:
        made.close()
    assert server.connections == 0


async def ask(path: Path, request: bytes = GET) -> bytes:
    """All that is answered until the server closes; it is asked to."""
    async with await trio.open_unix_socket(str(path)) as stream:
        answer = b""
        with trio.fail_after(10):
            with suppress(trio.BrokenResourceError):  # it may refuse before it has read all
                last = request.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1)
                await stream.send_all(last)
            with suppress(trio.BrokenResourceError):
                while part := await stream.receive_some(65536):
                    answer += part
        return answer


async def until(fact: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not fact():  # noqa: ASYNC110 - there is no event of another task's state
            await trio.sleep(0.01)


async def until_answered(path: Path) -> None:
    with trio.fail_after(10):
        while not (await ask(path)).startswith(b"HTTP/1.1 200"):  # noqa: ASYNC110
            await trio.sleep(0.05)


async def test_a_request_is_answered(tmp_path: Path) -> None:
    async with serving(tmp_path) as (path, _):
        answer = await ask(path)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'"mountpoint":"/m"' in answer


async def test_two_requests_share_a_connection(tmp_path: Path) -> None:
    async with serving(tmp_path) as (path, _), await trio.open_unix_socket(str(path)) as stream:
        for _ in range(2):
            await stream.send_all(GET)
            with trio.fail_after(10):
                assert (await stream.receive_some(65536)).startswith(b"HTTP/1.1 200")
                while not (await _rest(stream)).endswith(b"}"):
                    pass


async def _rest(stream: trio.SocketStream) -> bytes:
    with trio.move_on_after(0.2):
        return bytes(await stream.receive_some(65536))
    return b"}"


async def test_an_answer_that_breaks_off_does_not_end_well(tmp_path: Path) -> None:
    async with serving(tmp_path) as (path, mount):
        mount.volume.fails_from = 65_537
        answer = await ask(path, b"GET /files/sample/a/one.bin HTTP/1.1\r\nhost: x\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-length: 70001" in head
    assert 0 < len(body) < 70_001


async def test_more_connections_than_allowed_are_turned_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 3)
    async with serving(tmp_path) as (path, _), trio.open_nursery() as nursery:
        held = [await trio.open_unix_socket(str(path)) for _ in range(3)]
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert (await ask(path)).startswith(b"HTTP/1.1 503")
        for stream in held:
            await stream.aclose()
        await until_answered(path)
        nursery.cancel_scope.cancel()


async def test_connections_of_one_endpoint_do_not_shut_out_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 2)
    ours, theirs = (UnixSocket(tmp_path / name) for name in ("ours", "theirs"))
    listening = [Listening(made.listener, Endpoint()) for made in (ours, theirs)]
    mount = fake_mount()
    server = ControlServer(lambda: mount.app, listening)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        held = [await trio.open_unix_socket(str(theirs.path)) for _ in range(2)]
        await until(lambda: server.connections == 2)
        assert (await ask(theirs.path)).startswith(b"HTTP/1.1 503")
        assert (await ask(ours.path)).startswith(b"HTTP/1.1 200")
        for stream in held:
            await stream.aclose()
        nursery.cancel_scope.cancel()
    for made in (ours, theirs):
        made.close()


async def test_a_head_that_does_not_come_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "HEAD_TIMEOUT", 0.2)
    async with serving(tmp_path) as (path, _), await trio.open_unix_socket(str(path)) as stream:
        with trio.fail_after(10):
            for byte in GET[:-4]:
                try:
                    await stream.send_all(bytes([byte]))
                except trio.BrokenResourceError:
                    break
                await trio.sleep(0.05)
            else:
                pytest.fail("a slow head was waited for")


async def test_a_head_too_long_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as (path, _):
        answer = await ask(path, b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 300_000 + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 4")


async def test_garbage_costs_its_connection_alone(tmp_path: Path) -> None:
    async with serving(tmp_path) as (path, _):
        for garbage in (
            b"\0\xff\r\n\r\n",
            b"GET\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxxxxxx",
        ):
            async with await trio.open_unix_socket(str(path)) as stream:
                await stream.send_all(garbage)
                await stream.send_eof()
                with trio.move_on_after(5):
                    while await stream.receive_some(65536):
                        pass
        assert (await ask(path)).startswith(b"HTTP/1.1 200")


async def test_an_upload_that_is_refused_early_frees_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 1)
    head = b"POST /api/v1/torrents HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\n"
    async with serving(tmp_path) as (path, _):
        async with await trio.open_unix_socket(str(path)) as stream:
            await stream.send_all(head + b"content-length: 5000000\r\n\r\n")
            with trio.move_on_after(10) as scope:
                try:
                    while True:
                        await stream.send_all(bytes(10_000))
                        await trio.sleep(0.01)
                except trio.BrokenResourceError:
                    pass
            assert not scope.cancelled_caught
        await until_answered(path)


async def test_a_client_that_takes_nothing_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with trio.fail_after(10):
        async with serving(tmp_path) as (path, mount):
            mount.library.items.clear()
            client = socket.socket(socket.AF_UNIX)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(str(path))
            client.sendall(b"GET /files/sample/z/three.bin HTTP/1.1\r\nhost: x\r\n\r\n")
            await until(lambda: mount.volume.opens == 1)
        client.close()
    assert mount.volume.opens == 0


@pytest.mark.expect_log("a control connection failed")
async def test_an_application_that_cannot_be_made_costs_connections_only(tmp_path: Path) -> None:
    def fail() -> Any:
        raise ImportError("no such library")

    async with serving(tmp_path, fail) as (path, _):
        for _ in range(2):
            assert await ask(path) == b""


@pytest.mark.expect_log("it begins anew")
async def test_a_server_that_fails_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "RESTART_AFTER", 0.05)
    broken = [True]

    async def accept(listener: trio.SocketListener) -> trio.SocketStream:
        if broken:
            broken.clear()
            raise OSError(errno.EINVAL, "broken")
        return await real(listener)

    real = trio.SocketListener.accept
    monkeypatch.setattr(trio.SocketListener, "accept", accept)
    async with serving(tmp_path) as (path, _):
        await until_answered(path)
    assert not broken


def test_nothing_of_framework_and_server_is_imported_before_a_connection() -> None:
    code = (
        "import sys\n"
        "import torrentfs.daemon.control.server, torrentfs.daemon.control.place\n"
        "heavy = {'fastapi', 'starlette', 'hypercorn', 'pydantic', 'prometheus_client'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
