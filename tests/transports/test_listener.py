"""The listening port: both families, explicit ports, floods, and a lack of descriptors."""

from __future__ import annotations

import contextlib
import errno
import socket

import pytest
import trio

from torrentfs.errors import ConfigError, TransportError
from torrentfs.transports import listener as listener_module
from torrentfs.transports import port_sockets
from torrentfs.transports.base import PeerStream
from torrentfs.transports.binding import Footing
from torrentfs.transports.listener import Listener
from torrentfs.transports.tcp import open_tcp

pytestmark = pytest.mark.real


async def echo(stream: PeerStream) -> None:
    room = bytearray(1024)
    while count := await stream.receive_into(memoryview(room)):
        await stream.send_all(room[:count])
    await stream.aclose()


async def ask(host: str, port: int, bind: str | None = None) -> bytes:
    stream = await open_tcp(host, port, bind=bind)
    try:
        await stream.send_all(b"ping")
        room = bytearray(16)
        return bytes(room[: await stream.receive_into(memoryview(room))])
    finally:
        stream.abort()


async def test_one_port_for_both_families() -> None:
    listener = Listener()
    async with trio.open_nursery() as nursery:
        await nursery.start(listener.serve, echo)
        assert await ask("127.0.0.1", listener.port) == b"ping"
        assert await ask("::1", listener.port) == b"ping"
        assert listener.accepted == 2
        nursery.cancel_scope.cancel()
    with pytest.raises(TransportError):
        await open_tcp("127.0.0.1", listener.port)


async def test_addresses_are_not_mapped() -> None:
    seen: list[str] = []

    async def note(stream: PeerStream) -> None:
        seen.append(stream.remote[0])
        await stream.aclose()

    listener = Listener()
    async with trio.open_nursery() as nursery:
        await nursery.start(listener.serve, note)
        for host in ("127.0.0.1", "::1"):
            stream = await open_tcp(host, listener.port)
            assert await stream.receive_into(memoryview(bytearray(1))) == 0
            stream.abort()
        nursery.cancel_scope.cancel()
    assert seen == ["127.0.0.1", "::1"]


async def test_who_is_blocked_is_hung_up_on_before_a_byte() -> None:
    """Whoever could shake hands would learn which torrents are here."""
    listener = Listener(blocks=lambda host: host in ("127.0.0.2", "::1"))
    async with trio.open_nursery() as nursery:
        await nursery.start(listener.serve, echo)
        for host, bind in (("127.0.0.1", "127.0.0.2"), ("::1", None)):
            with pytest.raises(TransportError, match="reset"):  # by then, or while it connects
                await ask(host, listener.port, bind)
        assert await ask("127.0.0.1", listener.port) == b"ping"
        assert (listener.accepted, listener.refused) == (1, 2)
        nursery.cancel_scope.cancel()


async def test_an_explicit_port_that_is_busy_is_one_line() -> None:
    first = Listener()
    try:
        with pytest.raises(ConfigError, match=f"cannot listen on .*{first.port}: address already"):
            Listener(first.port)
    finally:
        first.close()
    again = Listener(first.port)
    assert again.port == first.port
    again.close()


async def test_binds_to_one_address() -> None:
    listener = Listener(bind="127.0.0.1")
    async with trio.open_nursery() as nursery:
        await nursery.start(listener.serve, echo)
        assert await ask("127.0.0.1", listener.port) == b"ping"
        with pytest.raises(TransportError):
            await ask("::1", listener.port)
        nursery.cancel_scope.cancel()
    for nonsense in ("eth7", "192.0.2.77", "300.1.1.1"):
        with pytest.raises(ConfigError, match="cannot listen on"):
            Listener(bind=nonsense)


async def test_silent_strangers_give_way_to_the_next() -> None:
    listener = Listener(max_strangers=3)
    async with trio.open_nursery() as nursery:
        await nursery.start(listener.serve, echo)
        silent = [await open_tcp("127.0.0.1", listener.port) for _ in range(3)]
        await silent[2].send_all(b"x")  # answered: so all three were accepted
        assert await silent[2].receive_into(memoryview(bytearray(1))) == 1
        assert listener.strangers == 3
        assert await ask("127.0.0.1", listener.port) == b"ping"
        room = memoryview(bytearray(1))
        with trio.fail_after(5):  # the oldest was dropped, the others were not
            with contextlib.suppress(TransportError):
                assert await silent[0].receive_into(room) == 0
        await silent[2].send_all(b"x")
        assert await silent[2].receive_into(room) == 1
        for stream in silent:
            stream.abort()
        nursery.cancel_scope.cancel()


async def test_peers_that_were_handed_on_are_not_counted() -> None:
    async with trio.open_nursery() as nursery:

        async def serve(stream: PeerStream) -> None:
            try:
                await echo(stream)
            except TransportError:
                pass
            finally:
                stream.abort()

        async def hand_on(stream: PeerStream) -> None:
            nursery.start_soon(serve, stream)

        listener = Listener(max_strangers=1)
        await nursery.start(listener.serve, hand_on)
        streams = []
        for _ in range(4):
            stream = await open_tcp("127.0.0.1", listener.port)
            streams.append(stream)
            await stream.send_all(b"x")
            assert await stream.receive_into(memoryview(bytearray(1))) == 1
        assert listener.strangers == 0
        for stream in streams:  # all four are still served
            await stream.send_all(b"x")
            assert await stream.receive_into(memoryview(bytearray(1))) == 1
            stream.abort()
        nursery.cancel_scope.cancel()


async def test_a_failing_handler_closes_only_its_connection() -> None:
    async def fail(stream: PeerStream) -> None:
        await stream.receive_into(memoryview(bytearray(1)))
        raise TransportError("gone")

    listener = Listener()
    async with trio.open_nursery() as nursery:
        await nursery.start(listener.serve, fail)
        for _ in range(2):
            with pytest.raises(TransportError, match="reset"):
                await ask("127.0.0.1", listener.port)
        nursery.cancel_scope.cancel()


class _Exhausted:
    """A listening socket whose accept fails as told before it works."""

    def __init__(self, real: socket.socket, errors: list[int]) -> None:
        self._real = real
        self._errors = errors

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        if self._errors:
            raise OSError(self._errors.pop(), "x")
        return self._real.accept()

    def fileno(self) -> int:
        return self._real.fileno()

    def close(self) -> None:
        self._real.close()


@pytest.mark.expect_log("cannot accept peers for a moment")
async def test_survives_a_lack_of_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "_PAUSE", 0.01)
    listener = Listener(bind="127.0.0.1")
    errors = [errno.ENFILE, errno.EMFILE, errno.ECONNABORTED, errno.ENOMEM]
    opened = listener._sockets._open
    opened[socket.AF_INET] = _Exhausted(opened[socket.AF_INET], errors)  # type: ignore[assignment]
    async with trio.open_nursery() as nursery:
        await nursery.start(listener.serve, echo)
        assert await ask("127.0.0.1", listener.port) == b"ping"
        assert not errors
        nursery.cancel_scope.cancel()


async def test_it_moves_with_what_it_is_bound_to(monkeypatch: pytest.MonkeyPatch) -> None:
    stands = [Footing(1, "127.0.0.1", None, "")]
    monkeypatch.setattr(port_sockets, "look", lambda bind: stands[-1])
    listener = Listener(bind="%lo")
    async with trio.open_nursery() as nursery:
        await nursery.start(listener.serve, echo)
        assert await ask("127.0.0.1", listener.port) == b"ping"
        stands.append(Footing(1, "127.0.0.5", "::1", ""))
        assert listener.follow() == ""
        for host in ("127.0.0.5", "::1"):
            assert await ask(host, listener.port) == b"ping"
        with pytest.raises(TransportError, match="refused"):
            await ask("127.0.0.1", listener.port)
        nursery.cancel_scope.cancel()
