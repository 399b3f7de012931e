"""ICE and DTLS of aiortc without a queue, a task and a coroutine for each datagram.

In aiortc a datagram is tried as STUN (an exception for each that is not), put into a queue, taken
out by a task, decrypted, and handed on by a coroutine. Here, once DTLS is set up, what came in one
turn of the loop goes to it as a list, and its packets to the association as a list; packets leave
the same way. All else goes the old way: the handshake, and whatever comes before there is a place
to put it.

The patch points, all of them here:

* `aioice.ice.StunProtocol` becomes `BatchStunProtocol` (`apply`), which looks whether its ICE
  connection has a `dtls_sink`;
* `RTCDtlsTransport` is subclassed by `BatchDtlsTransport`, which puts the sink there. It wants
  its ICE transport to have `_connection`, as aiortc's has;
* `aioice.turn.UDP_SOCKET_BUFFER_SIZE`, the receive buffer of every ICE socket, is raised.

Without any one of them data flows, only slower. What each is worth: `docs/dev/performance.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aioice.ice
import aioice.turn
from aiortc.rtcdtlstransport import RTCDtlsTransport, State
from OpenSSL import SSL

from torrentfs.transports.webrtc.datagrams import RECEIVE_BUFFER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiortc.rtcdtlstransport import RTCDtlsParameters

MAX_RECORD = 2048
"""Bytes; a record is in one datagram."""


class BatchStunProtocol(aioice.ice.StunProtocol):
    """A `datagrams.BatchProtocol`: STUN to aioice, DTLS past it."""

    def datagrams_received(self, datagrams: list[tuple[bytes, Any]]) -> None:
        """All that came in one turn of the loop."""
        sink = getattr(self.receiver, "dtls_sink", None)
        records = []
        for data, address in datagrams:
            if sink is not None and data and 19 < data[0] < 64:  # RFC 7983
                records.append(data)
            elif data:
                super().datagram_received(data, address)
        if records and sink is not None:
            sink(records)

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        """One from a transport that has one at a time (TURN)."""
        assert isinstance(data, bytes)
        self.datagrams_received([(data, addr)])


class BatchDtlsTransport(RTCDtlsTransport):
    """DTLS that takes and gives lists. Its association has `packets_received`."""

    _settled = False

    async def start(self, remoteParameters: RTCDtlsParameters) -> None:
        """As the base's; then datagrams come to `_on_datagrams`."""
        await super().start(remoteParameters)
        connection: Any = getattr(self.transport, "_connection", None)
        if self._state == State.CONNECTED and connection is not None:
            connection.dtls_sink = self._on_datagrams

    def _on_datagrams(self, datagrams: list[bytes]) -> None:
        connection: Any = self.transport._connection
        receiver: Any = self._data_receiver
        if not self._is_settled() or not hasattr(receiver, "packets_received"):
            for datagram in datagrams:
                connection.data_received(datagram, 1)
            return
        ssl = self._ssl
        assert ssl is not None
        packets = []
        over = False
        for datagram in datagrams:
            ssl.bio_write(datagram)
            try:
                packets.append(ssl.recv(MAX_RECORD))
            except SSL.ZeroReturnError:
                over = True
            except SSL.Error:
                pass  # garbage, or of the handshake
        try:
            answer = ssl.bio_read(MAX_RECORD)
        except SSL.Error:
            pass  # there is none
        else:
            self._send_records([answer])
        if packets:
            receiver.packets_received(packets)
        if over:
            connection._queue.put_nowait(None)  # ends aiortc's task, which says so everywhere

    def _is_settled(self) -> bool:
        """True if no flight of the handshake may have to be sent again; until then aiortc reads."""
        if not self._settled and self._state == State.CONNECTED and self._ssl is not None:
            self._settled = self._ssl.DTLSv1_get_timeout() is None
        return self._settled and self._state == State.CONNECTED

    def send_packets(self, packets: Sequence[bytes]) -> None:
        """Encrypt and send. ConnectionError: there is no connection, or no longer one."""
        ssl = self._ssl
        if self._state != State.CONNECTED or ssl is None:
            raise ConnectionError("DTLS is not connected")
        records = []
        for packet in packets:
            ssl.send(packet)
            records.append(ssl.bio_read(MAX_RECORD))
        self._send_records(records)

    def _send_records(self, records: Sequence[bytes]) -> None:
        connection: Any = self.transport._connection
        pair = connection._nominated.get(1)
        if pair is None:
            raise ConnectionError("ICE is not connected")
        transport = pair.protocol.transport
        if hasattr(transport, "send_many"):
            transport.send_many(records, pair.remote_addr)
            return
        for record in records:
            transport.sendto(record, pair.remote_addr)


def apply() -> None:
    """Put the patches in place that are not subclasses of ours; in the worker's process only."""
    aioice.ice.StunProtocol = BatchStunProtocol  # type: ignore[misc]
    if hasattr(aioice.turn, "UDP_SOCKET_BUFFER_SIZE"):
        aioice.turn.UDP_SOCKET_BUFFER_SIZE = RECEIVE_BUFFER
