"""A small proxy: SOCKS5 (RFC 1928, 1929) or HTTP CONNECT, and the ways in which one can be bad.

It tells what it was asked for, resolves names from a table of its own (so a client that asks any
other resolver does not get there), and connects. In a test's own event loop: `serve`; as a process
(in a network namespace, say): ``python -m tests.swarm.socks``, by `proxy_process`.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from tests.swarm.child import JsonChild

FAULTS = ("silent", "closes", "garbage", "mid-handshake", "refuses")
"""What a bad one does: never answers; hangs up; answers nonsense; hangs up within its answer to the
request; reaches nobody."""


@dataclass
class SocksProxy:
    """A proxy's settings, and what it was asked for."""

    kind: str = "socks5"
    user: str = ""
    password: str = ""
    fault: str = ""
    names: dict[str, str] = field(default_factory=dict)
    """Host names that it knows."""
    asked: list[tuple[str, int]] = field(default_factory=list)
    port: int = 0

    def url(self, host: str = "127.0.0.1", credentials: str | None = None) -> str:
        """As `--proxy` takes it."""
        if credentials is None:
            credentials = f"{self.user}:{self.password}@" if self.user else ""
        return f"{self.kind}://{credentials}{host}:{self.port}"

    async def serve(self, host: str = "127.0.0.1", *, task_status: trio.TaskStatus[None]) -> None:
        """Until cancelled."""
        listeners = await trio.open_tcp_listeners(self.port, host=host)
        self.port = listeners[0].socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio.serve_listeners, self._serve, listeners))
            task_status.started()

    async def _serve(self, client: trio.SocketStream) -> None:
        async with client:
            try:
                if self.fault == "silent":
                    await trio.sleep_forever()
                if self.fault == "closes":
                    await _take(client, 1)
                    return
                if self.fault == "garbage":
                    await client.send_all(b"SSH-2.0-OpenSSH_9.2\r\n" * 4)
                    await _take(client, 10**6)
                    return
                talk = self._socks if self.kind == "socks5" else self._http
                target = await talk(client)
                if target is not None:
                    async with target:
                        await _forward(client, target)
            except (trio.BrokenResourceError, EOFError):
                pass

    async def _connect(self, host: str, port: int) -> trio.SocketStream | None:
        self.asked.append((host, port))
        if self.fault == "refuses":
            return None
        address = self.names.get(host, host)
        try:
            ipaddress.ip_address(address)
            return await trio.open_tcp_stream(address, port)
        except (OSError, ValueError):
            return None

    async def _socks(self, client: trio.SocketStream) -> trio.SocketStream | None:
        _, count = await _take(client, 2)
        methods = await _take(client, count)
        method = 2 if self.user else 0
        if method not in methods:
            await client.send_all(b"\x05\xff")
            return None
        await client.send_all(bytes([5, method]))
        if method:
            user = await _take(client, (await _take(client, 2))[1])
            password = await _take(client, (await _take(client, 1))[0])
            good = (user, password) == (self.user.encode(), self.password.encode())
            await client.send_all(b"\x01" + (b"\x00" if good else b"\x01"))
            if not good:
                return None
        _, _, _, kind = await _take(client, 4)
        if kind == 3:
            host = (await _take(client, (await _take(client, 1))[0])).decode()
        else:
            host = str(ipaddress.ip_address(await _take(client, 4 if kind == 1 else 16)))
        port = int.from_bytes(await _take(client, 2), "big")
        if self.fault == "mid-handshake":
            await client.send_all(b"\x05\x00\x00\x01\x7f")
            return None
        target = await self._connect(host, port)
        await client.send_all(bytes([5, 0 if target else 5, 0, 1]) + bytes(6))
        return target

    async def _http(self, client: trio.SocketStream) -> trio.SocketStream | None:
        header = b""
        while not header.endswith(b"\r\n\r\n"):
            header += await _take(client, 1)
        first, *lines = header.decode("latin-1").split("\r\n")
        credentials = base64.b64encode(f"{self.user}:{self.password}".encode("latin-1")).decode()
        if self.user and f"Proxy-Authorization: Basic {credentials}" not in lines:
            await client.send_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            return None
        host, _, port = first.split()[1].rpartition(":")
        if self.fault == "mid-handshake":
            await client.send_all(b"HTTP/1.1 200 OK\r\nX-Half")
            return None
        target = await self._connect(host.strip("[]"), int(port))
        # in two parts, as a proxy may
        await client.send_all(b"HTTP/1.1 200 OK\r\n" if target else b"HTTP/1.1 502 Bad Gateway\r\n")
        await trio.sleep(0.001)
        await client.send_all(b"Via: test\r\n\r\n")
        return target


async def _take(stream: trio.SocketStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await stream.receive_some(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


async def _forward(one: trio.SocketStream, other: trio.SocketStream) -> None:
    async def pump(source: trio.SocketStream, target: trio.SocketStream) -> None:
        try:
            while data := await source.receive_some(1 << 18):
                await target.send_all(data)
            await target.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump, one, other)
        nursery.start_soon(pump, other, one)


class ProxyProcess:
    """A proxy in a process of its own."""

    def __init__(self, child: JsonChild, proxy: SocksProxy) -> None:
        self._child = child
        self._proxy = proxy
        self.url = proxy.url

    def asked(self) -> list[tuple[str, int]]:
        """Hosts and ports that it was asked to connect to, so far."""
        return [(host, port) for host, port in self._child.ask({})["asked"]]


@contextmanager
def proxy_process(
    work: Path, proxy: SocksProxy, host: str = "127.0.0.1", before: Sequence[str] = ()
) -> Iterator[ProxyProcess]:
    """Run `proxy` at `host`; `before` is a command that runs it (`network.Home.before`)."""
    argv = [*before, sys.executable, "-m", "tests.swarm.socks"]
    child = JsonChild(argv, stderr=work / "socks.log")
    settings = {
        name: getattr(proxy, name)
        for name in ("kind", "user", "password", "fault", "names", "port")
    }
    try:
        proxy.port = int(child.ask({"host": host, **settings})["port"])
        yield ProxyProcess(child, proxy)
    finally:
        child.close()


async def _main() -> None:
    settings = json.loads(sys.stdin.readline())
    host = settings.pop("host")
    proxy = SocksProxy(**settings)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.serve, host)
        print(json.dumps({"port": proxy.port}), flush=True)
        while await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            print(json.dumps({"asked": proxy.asked}), flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(_main)
