"""Every socket of the loop leaves by the device or address that was said."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from torrentfs.transports.webrtc.bound_loop import BoundLoop

pytestmark = pytest.mark.real

ADDRESS = "127.0.0.2"


def run(bind: str | None, scene: Any) -> Any:
    with asyncio.Runner(loop_factory=lambda: BoundLoop(bind)) as runner:
        return runner.run(scene())


async def datagram(**where: Any) -> tuple[Any, bytes]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, **where)
    bound = transport.get_extra_info("socket")
    name = transport.get_extra_info("sockname")
    device = bound.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
    transport.close()
    await asyncio.sleep(0)
    return name, device.rstrip(b"\0")


def test_to_an_address() -> None:
    name, device = run(ADDRESS, lambda: datagram(local_addr=(ADDRESS, 0)))
    assert name[0] == ADDRESS
    assert device == b""
    # the one that aioice makes for a TURN server says nothing of where from
    name, _ = run(ADDRESS, lambda: datagram(remote_addr=("127.0.0.1", 9)))
    assert name[0] == ADDRESS


def test_to_a_device() -> None:
    name, device = run("lo", lambda: datagram(remote_addr=("127.0.0.1", 9)))
    assert (name[0], device) == ("127.0.0.1", b"lo")
    name, device = run("lo", lambda: datagram(local_addr=("::1", 0)))
    assert (name[0], device) == ("::1", b"lo")


def test_to_nothing() -> None:
    name, device = run(None, lambda: datagram(local_addr=("127.0.0.1", 0)))
    assert (name[0], device) == ("127.0.0.1", b"")


@pytest.mark.parametrize("bind", [ADDRESS, "lo"])
def test_over_tcp(bind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        async def scene() -> None:
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", port)
            transport.close()
            await asyncio.sleep(0)

        run(bind, scene)
        accepted, remote = listening.accept()
        accepted.close()
        assert remote[0] == (ADDRESS if bind == ADDRESS else "127.0.0.1")


def test_a_server_of_another_family_is_not_reached_some_other_way() -> None:
    with pytest.raises(OSError, match="cannot be reached from"):
        run(ADDRESS, lambda: datagram(remote_addr=("::1", 9)))


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(OSError, match="No such device"):
        run("none0", lambda: datagram(local_addr=("127.0.0.1", 0)))
    with pytest.raises(OSError, match="none0 has no address"):
        run("none0", lambda: datagram(remote_addr=("127.0.0.1", 9)))
