"""Reaching a peer: over TCP or uTP, encrypted or not, and its hello (BEP 3).

*TCP and uTP race.* TCP starts, because it is faster and answers a closed port at once; uTP follows
after `HEAD_START`, or as soon as TCP has failed. Who is connected first wins, and the other is
dropped. Where TCP was refused the host is up, and most likely listens to nobody: uTP then has only
`AFTER_REFUSAL` to answer, so that a dead address is known to be dead about as fast as without it.
A peer that takes the TCP connection and hangs up (libtorrent with TCP switched off) gets one try
by uTP as well.

*Encryption* (MSE/PE), by `SessionConfig.encryption`. `prefer` does as libtorrent's `pe_enabled`:
encrypted first, which passes lines and peers that want it and costs one round trip, then, if the
peer does not answer that or hangs up, plain over a new connection. Whoever answered in plain once
is asked in plain the next time. Peers that do not encrypt hang up at once as a rule.

*Hybrid torrents* (BEP 52). In plain a bit of our v1 hello says that we know v2 too, and the peer
answers with the v2 hash. libtorrent does not look at that bit under encryption: there the hello
itself must name the v2 hash, although the torrent was found by v1. A peer of the v1 torrent hangs
up on that; it gets the v1 hello over a new connection, and at once the next time.

*Hole punching* (BEP 55) is uTP alone: the peer dials us at the same moment, and what we send opens
our NAT for it (`holepunch`).
"""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import trio

from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.transports.encrypted import encrypt_outgoing
from torrentfs.transports.names import look_up
from torrentfs.transports.outgoing import Outgoing
from torrentfs.transports.tcp import failure, numeric_addresses, open_tcp, show_address
from torrentfs.wire.connection import Connection
from torrentfs.wire.handshake import Handshake

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from torrentfs.engine.config import SessionConfig
    from torrentfs.transports.base import Address, PeerStream
    from torrentfs.transports.utp import Utp

HANDSHAKE_TIMEOUT = 10.0
"""Seconds a peer has to say hello; a live one takes a round trip."""

ENCRYPTED_TIMEOUT = 5.0
"""Seconds for an encrypted hello, where a plain one is to follow."""

HEAD_START = 0.25
"""Seconds that TCP has alone, as in happy eyeballs (RFC 8305)."""

AFTER_REFUSAL = 1.0
"""Seconds that uTP has after TCP failed."""

MAX_PLAIN = 1024
"""Addresses remembered that do not encrypt, and as many that know v1 only."""


class Unreachable(TransportError):
    """Nobody took the connection, over TCP or uTP."""


class Reached(NamedTuple):
    """A peer that said hello."""

    stream: PeerStream
    connection: Connection
    theirs: Handshake


async def exchange_hello(
    stream: PeerStream,
    connection: Connection,
    ours: Handshake | None,
    timeout: float = HANDSHAKE_TIMEOUT,
) -> Handshake:
    """Send `ours` if given and return theirs, in at most `timeout` seconds."""
    with trio.move_on_after(timeout):
        if ours is not None:
            await stream.send_all(connection.send(ours))
        while True:
            event = connection.next_event()
            if isinstance(event, Handshake):
                return event
            received = await stream.receive_into(connection.get_buffer())
            if not received:
                raise TransportError("closed the connection before its handshake")
            connection.buffer_updated(received)
    raise TransportError(f"no handshake within {timeout:.0f} s")


class Dialler:
    """Connects to peers as the user wants it; one for the session. `utp` None is without;
    `utp_port` is what it dials from."""

    def __init__(
        self, config: SessionConfig, utp: Utp | None = None, utp_port: int | None = None
    ) -> None:
        self.utp_port = utp_port
        self._config = config
        self._utp = utp
        self._plain: dict[Address, None] = {}
        self._v1: dict[Address, None] = {}

    @property
    def able(self) -> bool:
        """Whether any peer can be dialled at all."""
        return self._config.tcp or self._utp is not None

    @property
    def punches(self) -> bool:
        """Whether a peer behind NAT can be met (BEP 55)."""
        return self._utp is not None and self._config.proxy is None

    async def reach(
        self,
        address: Address,
        ours: Handshake,
        v2: Handshake | None = None,
        *,
        punch: bool = False,
    ) -> Reached:
        """Connect and exchange hellos. `TransportError` or `RemoteProtocolError`: it cannot be;
        `Unreachable` where nobody even took the connection.

        `v2`: `ours` with the v2 hash, of a hybrid torrent. `punch`: over uTP alone.
        """
        utp = self._utp
        connect: Callable[[], Awaitable[PeerStream]] = partial(self._open, address)
        if punch:
            assert utp is not None
            connect = partial(utp.connect, address)
        try:
            stream = await connect()
        except TransportError as error:
            raise Unreachable(str(error)) from error
        kind = stream.kind
        try:
            return await self._agree(connect, stream, address, ours, v2)
        except (RemoteProtocolError, TransportError):
            if kind != "tcp" or utp is None or not _is_number(address):
                raise
            # a port that takes TCP connections and drops them may still mean uTP
            with trio.move_on_after(AFTER_REFUSAL):
                stream = await utp.connect(address)
            if stream.kind == "tcp":
                raise
        return await self._greet_as_wanted(stream, address, ours)

    async def _agree(
        self,
        connect: Callable[[], Awaitable[PeerStream]],
        stream: PeerStream,
        address: Address,
        ours: Handshake,
        v2: Handshake | None,
    ) -> Reached:
        """Exchange hellos, over a new connection if the peer wants another kind of them."""
        if not self._may_encrypt(address):
            return await self._greet(stream, ours)
        if v2 is not None and address not in self._v1:
            began = trio.current_time()
            try:
                return await self._greet_encrypted(stream, ours.info_hash, v2)
            except (RemoteProtocolError, TransportError):
                stream = await connect()
            if trio.current_time() - began >= ENCRYPTED_TIMEOUT and not self._required:
                return await self._greet_in_plain(stream, address, ours)  # it says nothing at all
        try:
            reached = await self._greet_encrypted(stream, ours.info_hash, ours)
        except (RemoteProtocolError, TransportError):
            if self._required:
                raise
        else:
            if v2 is not None:
                _remember(self._v1, address)
            return reached
        return await self._greet_in_plain(await connect(), address, ours)

    async def _greet_in_plain(
        self, stream: PeerStream, address: Address, ours: Handshake
    ) -> Reached:
        reached = await self._greet(stream, ours)
        _remember(self._plain, address)
        return reached

    async def _greet_as_wanted(
        self, stream: PeerStream, address: Address, ours: Handshake
    ) -> Reached:
        if self._may_encrypt(address):
            return await self._greet_encrypted(stream, ours.info_hash, ours)
        return await self._greet(stream, ours)

    @property
    def _required(self) -> bool:
        return self._config.encryption == "require"

    def _may_encrypt(self, address: Address) -> bool:
        policy = self._config.encryption
        return policy == "require" or (policy == "prefer" and address not in self._plain)

    async def _greet(self, stream: PeerStream, ours: Handshake) -> Reached:
        try:
            connection = Connection()
            return Reached(stream, connection, await exchange_hello(stream, connection, ours))
        except BaseException:
            stream.abort()
            raise

    async def _greet_encrypted(
        self, stream: PeerStream, info_hash: bytes, ours: Handshake
    ) -> Reached:
        """Exchange hellos under encryption; the peer finds the torrent by `info_hash`."""
        timeout = HANDSHAKE_TIMEOUT if self._required else ENCRYPTED_TIMEOUT
        try:
            connection = Connection()
            hello = connection.send(ours)
            with trio.move_on_after(timeout):
                secured = await encrypt_outgoing(
                    stream, info_hash, hello, policy=self._config.encryption
                )
                theirs = await exchange_hello(secured, connection, None, timeout)
                return Reached(secured, connection, theirs)
            raise TransportError(f"no encrypted handshake within {timeout:.0f} s")
        except BaseException:
            stream.abort()
            raise

    # -- TCP and uTP --------------------------------------------------------------------------

    async def _open(self, address: Address) -> PeerStream:
        config, utp = self._config, self._utp
        if config.proxy is not None and config.tcp:
            return await Outgoing(config.bind, config.proxy).open_peer(*address)
        if utp is None:
            if not config.tcp:
                raise TransportError("neither TCP nor uTP is on")
            return await open_tcp(*address, bind=config.bind)
        if not config.tcp:
            return await utp.connect(await _resolved(address, config.bind))
        if not _is_number(address):
            return await open_tcp(*address, bind=config.bind)
        return await _race(
            lambda: open_tcp(*address, bind=config.bind), lambda: utp.connect(address)
        )


async def _race(
    first: Callable[[], Awaitable[PeerStream]], second: Callable[[], Awaitable[PeerStream]]
) -> PeerStream:
    """The stream of whoever is connected first; `second` starts later. Raises what `first` did."""
    winners: list[PeerStream] = []
    errors: list[TransportError] = []
    failed = trio.Event()

    async def run(connect: Callable[[], Awaitable[PeerStream]]) -> None:
        stream = await connect()
        if winners:  # both at the same moment
            stream.abort()
            return
        winners.append(stream)
        nursery.cancel_scope.cancel()

    async def run_first() -> None:
        try:
            await run(first)
        except TransportError as error:
            errors.append(error)
            failed.set()
            nursery.cancel_scope.deadline = trio.current_time() + AFTER_REFUSAL

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_first)
        with trio.move_on_after(HEAD_START):
            await failed.wait()
        try:
            await run(second)
        except TransportError as error:
            errors.append(error)
    if winners:
        return winners[0]
    if not errors:  # only when the deadline came first
        raise TransportError("cannot be reached")
    raise errors[0]


def _is_number(address: Address) -> bool:
    return bool(numeric_addresses(*address, socket.SOCK_DGRAM))


async def _resolved(address: Address, bind: str | None) -> Address:
    """An address with the host as a number."""
    host, port = address
    if _is_number(address):
        return address
    try:
        found = await look_up(host, port, socket.SOCK_DGRAM, bind)
    except (OSError, UnicodeError) as error:
        raise failure(f"looking up {show_address(host, port)}", error) from error
    return str(found[0][1][0]), port


def _remember(known: dict[Address, None], address: Address) -> None:
    """Of too many the oldest is forgotten."""
    known[address] = None
    if len(known) > MAX_PLAIN:
        del known[next(iter(known))]
