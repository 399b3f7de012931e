"""A TCP proxy that makes loopback look like a network: round-trip time and a bandwidth cap.

``python -m tests.swarm.proxy`` forwards one loopback port to another.  Each direction of each
connection is a reader that stamps chunks with the time they are due, and a writer that sends them
then: half of the round-trip time later, and no sooner than the cap lets them through.  The cap is
one token clock per direction for *all* connections of the proxy, as on one uplink.  What is on
its way is bounded by bandwidth times delay, or 64 MiB.

The proxy acknowledges at once what it gets: a sender with Nagle's algorithm would keep the last
segment of an answer until the kernel's delayed acknowledgement, for 40 ms that are no part of the
simulated line.
"""

from __future__ import annotations

import json
import math
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import trio

from tests.swarm.child import python_child

CHUNK = 64 * 1024
MAX_CHUNKS = 1024


class Shape(NamedTuple):
    """How one direction behaves: `delay` seconds one way, `rate` bytes/s (0: no cap)."""

    delay: float
    rate: float


class _Clock:
    """When the next byte may leave: one per direction, shared by all connections."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free = -math.inf

    def due(self, size: int, now: float) -> float:
        if not self._rate:
            return now
        self._free = max(self._free, now) + size / self._rate
        return self._free


async def _pump(
    source: trio.SocketStream, target: trio.SocketStream, clock: _Clock, delay: float
) -> None:
    send, receive = trio.open_memory_channel[tuple[float, bytes]](MAX_CHUNKS)

    async def read() -> None:
        async with send:
            try:
                while data := await source.receive_some(CHUNK):
                    # The kernel forgets this by and by.
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                    due = clock.due(len(data), trio.current_time()) + delay
                    await send.send((due, data))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    async def write() -> None:
        async with receive:
            try:
                async for due, data in receive:
                    await trio.sleep_until(due)
                    await target.send_all(data)
                await target.send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await source.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(write)


async def serve(
    target: tuple[str, int],
    shape: Shape,
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Forward a new port of 127.0.0.1 (reported to `task_status`) to `target` until cancelled."""
    up, down = _Clock(shape.rate), _Clock(shape.rate)

    async def connect(client: trio.SocketStream) -> None:
        try:
            # One round trip passes before the far side knows of the connection.
            await trio.sleep(2 * shape.delay)
            server = await trio.open_tcp_stream(*target)
        except OSError:
            await client.aclose()
            return
        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(_pump, client, server, up, shape.delay)
            nursery.start_soon(_pump, server, client, down, shape.delay)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, connect, listeners))
        task_status.started(port)


@contextmanager
def proxy(
    target: tuple[str, int], work: Path, *, round_trip: float = 0.0, rate: float = 0.0
) -> Iterator[int]:
    """Run a proxy to `target` in a process of its own; gives its port on 127.0.0.1.

    `round_trip` in seconds; `rate` in bytes per second for each direction, 0 for no cap.
    """
    config = {"target": list(target), "delay": round_trip / 2, "rate": rate}
    child = python_child("tests.swarm.proxy", stderr=work / "proxy.log")
    try:
        yield int(child.ask(config)["port"])
    finally:
        child.close()


async def _main() -> None:
    config = json.loads(sys.stdin.readline())
    shape = Shape(config["delay"], config["rate"])
    async with trio.open_nursery() as nursery:
        port = await nursery.start(serve, tuple(config["target"]), shape)
        print(json.dumps({"port": port}), flush=True)
        # stdin closes when the parent is done with us, or dead.
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(_main)
