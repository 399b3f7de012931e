"""The default backend: aiortc, by its lower interface (ICE, DTLS and SCTP transports, as in ORTC).

`RTCPeerConnection` would parse the peer's description with room for media, wait for every `.local`
name before the first check (a second), refuse peers that offer no SRTP (libdatachannel, so
libtorrent, for data alone) and keep its own ideas of flow control. Below it are the same
transports without those.

Opening: checks start with the addresses that are known; `.local` names are resolved meanwhile,
all at the same time, and join when known. They seldom matter: a peer that knows our address
sends its own check, and the place it comes from is a candidate by that (peer-reflexive).
End-of-candidates is never signalled, so that ICE goes on until the caller's time is up.

A connection is one task, `_connect`, which ends with an open channel or an error. What breaks
later (consent lost, DTLS closed, association aborted) closes the channel.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING, Any, cast

import aioice
from aiortc import RTCDataChannel, RTCDataChannelParameters, RTCSctpCapabilities
from aiortc.rtcdtlstransport import RTCDtlsFingerprint, RTCDtlsParameters

from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.transports.webrtc.association import Association
from torrentfs.transports.webrtc.gathering import Gatherings
from torrentfs.transports.webrtc.sdp import Candidate, Description, parse, render
from torrentfs.transports.webrtc.tuning import BatchDtlsTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from torrentfs.transports.base import Address
    from torrentfs.transports.webrtc.backend import Receiver
    from torrentfs.transports.webrtc.config import RtcConfig
    from torrentfs.transports.webrtc.gathering import Gathered

log = logging.getLogger(__name__)

MAX_MESSAGE_SIZE = 64 * 1024
"""Bytes of a message of ours: what every implementation takes."""
TAKEN_MESSAGE_SIZE = 256 * 1024
"""Bytes of a message that we say to take; a quarter of the window."""
_POLL = 0.02


class AiortcBackend:
    """A `backend.Backend` over aiortc."""

    def __init__(
        self, config: RtcConfig, report: Callable[[str, str], None] = lambda url, reason: None
    ) -> None:
        """`report` is told of STUN and TURN servers: see `Gatherings`."""
        self._gatherings = Gatherings(config, report)
        self._resolve_names = config.bind is None and not config.relay_only

    async def offer(self) -> RtcConnection:
        """A connection that offers itself."""
        return RtcConnection(await self._gatherings.take(), None, self._resolve_names)

    async def answer(self, sdp: str) -> RtcConnection:
        """A connection that answers an offer."""
        theirs = parse(sdp)
        return RtcConnection(await self._gatherings.take(), theirs, self._resolve_names)

    async def aclose(self) -> None:
        """Free what was gathered ahead."""
        await self._gatherings.aclose()


class _IceTransport:
    """What aiortc's DTLS wants of ICE, over an aioice agent."""

    def __init__(self, ice: aioice.Connection) -> None:
        self._connection = ice
        self._recv = ice.recv
        self._send = ice.send
        self.role = "controlling"  # never asked: the DTLS role is set


class DataDtlsTransport(BatchDtlsTransport):
    """DTLS for data alone: a peer need not negotiate SRTP."""

    def _setup_srtp(self) -> None:
        pass


class RtcConnection:
    """A `backend.Connection`: an offer when `theirs` is None, else the answer to it."""

    def __init__(self, gathered: Gathered, theirs: Description | None, resolve: bool) -> None:
        self._ice = gathered.ice
        self._resolve_names = resolve
        self._resolving: set[asyncio.Task[None]] = set()
        self._dtls = DataDtlsTransport(
            cast("Any", _IceTransport(gathered.ice)), [gathered.certificate]
        )
        self._dtls.on("statechange", self._on_dtls_state)
        self._sctp = Association(self._dtls)
        self._connecting: asyncio.Task[None] | None = None
        self._closed = False
        loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[RtcChannel] = loop.create_future()
        self._theirs = theirs
        # Before any check comes: a peer checks from its answer on, which may be long before we
        # have it, and two agents in one role would make each other change theirs.
        self._ice.ice_controlling = theirs is None or theirs.ice_lite
        self._server = True  # of DTLS: as the one who offers, unless the answer is passive
        if theirs is None:
            parameters = RTCDataChannelParameters(label=secrets.token_hex(20))
            self._watch(RTCDataChannel(self._sctp, parameters))
            setup = "actpass"
        else:
            if theirs.setup != "active":
                self._server = False
            setup = "passive" if self._server else "active"
            self._sctp.on("datachannel", self._watch)
        self._description = render(
            Description(
                ufrag=self._ice.local_username,
                password=self._ice.local_password,
                fingerprints=tuple(
                    (each.algorithm, each.value)
                    for each in gathered.certificate.getFingerprints()
                    if each.algorithm == "sha-256"  # one suffices, and every byte is relayed
                ),
                setup=setup,
                candidates=gathered.candidates,
                mid="0" if theirs is None else theirs.mid,
                max_message_size=TAKEN_MESSAGE_SIZE,
            ),
            secrets.randbits(62),
        )
        if theirs is not None:
            self._start(theirs)

    @property
    def description(self) -> str:
        """Our offer or answer."""
        return self._description

    async def accept(self, sdp: str) -> None:
        """Take the answer to our offer."""
        theirs = parse(sdp)
        if theirs.setup == "actpass":
            raise RemoteProtocolError("an answer that does not say who starts DTLS")
        self._server = theirs.setup == "active"
        self._start(theirs)

    def _start(self, theirs: Description) -> None:
        self._theirs = theirs
        self._connecting = asyncio.create_task(self._connect(theirs))

    async def _connect(self, theirs: Description) -> None:
        """All layers, one after the other; what goes wrong is the result of `opened`."""
        try:
            self._ice.remote_is_lite = theirs.ice_lite
            self._ice.remote_username = theirs.ufrag
            self._ice.remote_password = theirs.password
            for candidate in theirs.candidates:
                if not candidate.is_name:
                    await self._ice.add_remote_candidate(_to_aioice(candidate))
                elif self._resolve_names:
                    task = asyncio.create_task(self._resolve(candidate))
                    self._resolving.add(task)
                    task.add_done_callback(self._resolving.discard)
            await self._ice.connect()
            self._dtls._set_role("server" if self._server else "client")
            fingerprints = [RTCDtlsFingerprint(*each) for each in theirs.fingerprints]
            await self._dtls.start(RTCDtlsParameters(fingerprints=fingerprints))
            if self._dtls.state != "connected":
                raise TransportError("the DTLS handshake failed")
            await self._sctp.start(RTCSctpCapabilities(theirs.max_message_size), theirs.sctp_port)
        except ConnectionError as error:
            self._fail(TransportError(f"no connection: {error}"))
        except TransportError as error:
            self._fail(error)
        except Exception as error:  # a fault of the library must cost this connection alone
            log.exception("a fault while connecting")
            self._fail(TransportError(f"WebRTC failed: {error!r}"))

    async def _resolve(self, candidate: Candidate) -> None:
        try:
            await self._ice.add_remote_candidate(_to_aioice(candidate))
        except OSError as error:  # no multicast here
            log.debug("%s not resolved: %s", candidate.host, error)

    def _watch(self, channel: RTCDataChannel) -> None:
        """The first channel is the one; what a peer opens besides is never read."""
        if self._opened.done():
            return
        if channel.readyState == "open":
            self._open(channel)
        else:
            channel.on("open", lambda: self._open(channel))
            channel.on("close", lambda: self._fail(TransportError("the data channel was closed")))

    def _open(self, channel: RTCDataChannel) -> None:
        if self._opened.done() or self._theirs is None:
            return
        if not channel.ordered or channel.maxRetransmits or channel.maxPacketLifeTime:
            self._fail(RemoteProtocolError("a data channel that may lose or reorder messages"))
            return
        pair = self._ice._nominated.get(1)
        remote = ("0.0.0.0", 0) if pair is None else pair.remote_addr
        size = min(self._theirs.max_message_size or MAX_MESSAGE_SIZE, MAX_MESSAGE_SIZE)
        self._opened.set_result(RtcChannel(channel, self._sctp, remote, size))

    def _fail(self, error: Exception) -> None:
        if not self._opened.done():
            self._opened.set_exception(error)
            self._opened.exception()  # seen: nobody may be waiting

    def _on_dtls_state(self) -> None:
        if self._dtls.state in ("closed", "failed"):
            self._fail(TransportError("the connection was lost"))
            # its channels are told, its timers stopped
            self._sctp._set_state(self._sctp.State.CLOSED)

    async def opened(self) -> RtcChannel:
        """Wait for the data channel; `TransportError` or `RemoteProtocolError` if none comes."""
        return await asyncio.shield(self._opened)

    async def aclose(self) -> None:
        """End it: the peer is told if it can be, then everything is freed."""
        if self._closed:
            return
        self._closed = True
        tasks = [*self._resolving, *([self._connecting] if self._connecting else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._fail(TransportError("closed by us"))
        pump = self._dtls._task
        for stop in (self._sctp.stop, self._dtls.stop, self._ice.close):
            try:
                await stop()
            except Exception:  # the others must still be stopped
                log.exception("a fault while closing")
        if pump is not None:
            await asyncio.wait([pump])
        for emitter in (self._sctp, self._dtls):
            emitter.remove_all_listeners()

    def __repr__(self) -> str:
        return f"<RtcConnection {self._dtls.state}>"


class RtcChannel:
    """A `backend.Channel` over aiortc's."""

    def __init__(
        self, channel: RTCDataChannel, sctp: Association, remote: Address, size: int
    ) -> None:
        self.remote = remote
        self.max_message_size = size
        self._channel = channel
        self._sctp = sctp
        self._receiver: Receiver | None = None
        self._early: list[bytes] = []
        self._ended = channel.readyState in ("closing", "closed")
        channel.on("message", self._on_message)
        channel.on("close", self._on_close)

    @property
    def buffered(self) -> int:
        """Bytes that wait to be sent, without what is under way."""
        return self._channel.bufferedAmount

    def attach(self, receiver: Receiver, low_mark: int) -> None:
        """Say where news go."""
        self._receiver = receiver
        self._channel.bufferedAmountLowThreshold = low_mark
        self._channel.on("bufferedamountlow", receiver.on_writable)
        early, self._early = self._early, []
        for data in early:
            receiver.on_message(data)
        if self._ended:
            receiver.on_closed()

    def send(self, data: bytes) -> None:
        """Put a message into the queue."""
        if self._channel.readyState == "open":
            self._channel.send(data)

    def release(self, count: int) -> None:
        """The receiver has got rid of this many bytes."""
        self._sctp.release(count)

    async def flush(self) -> None:
        """Wait until the peer has acknowledged all that was sent, or the channel is closed."""
        # acknowledgements are no event of aiortc's
        while self._channel.readyState == "open" and not self._sctp.idle:  # noqa: ASYNC110
            await asyncio.sleep(_POLL)

    def _on_message(self, data: bytes | str) -> None:
        if isinstance(data, str):  # no WebTorrent peer sends text; its bytes are what was meant
            data = data.encode()
        if not data or self._ended:
            return
        self._sctp.hold(len(data))
        if self._receiver is None:
            self._early.append(data)
        else:
            self._receiver.on_message(data)

    def _on_close(self) -> None:
        if not self._ended:
            self._ended = True
            if self._receiver is not None:
                self._receiver.on_closed()


def _to_aioice(candidate: Candidate) -> aioice.Candidate:
    return aioice.Candidate(
        foundation=candidate.foundation,
        component=1,
        transport="udp",
        priority=candidate.priority,
        host=candidate.host,
        port=candidate.port,
        type=candidate.kind,
    )
