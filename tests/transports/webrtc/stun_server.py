"""A STUN server for asyncio, which can be told to keep silent or to refuse."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Container
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

from aioice import stun


class StunServer(asyncio.DatagramProtocol):
    """Tells everybody where it sees him; counts requests by the address that they come from."""

    def __init__(self) -> None:
        self.mute: Container[str] = ()
        """Who gets no answer."""
        self.error = 0
        """Answer with this error instead."""
        self.late: dict[str, float] = {}
        """Who gets his answer so many seconds later."""
        self.asked: Counter[str] = Counter()
        self.url = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)
        host, port = transport.get_extra_info("sockname")
        self.url = f"stun:{host}:{port}"

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        request = stun.parse_message(data)
        self.asked[addr[0]] += 1
        if addr[0] in self.mute:
            return
        response = stun.Message(
            message_method=request.message_method,
            message_class=stun.Class.ERROR if self.error else stun.Class.RESPONSE,
            transaction_id=request.transaction_id,
        )
        if self.error:
            response.attributes["ERROR-CODE"] = (self.error, "go away")
        else:
            response.attributes["XOR-MAPPED-ADDRESS"] = ("198.51.100.7", addr[1])
        self._answer(response, addr)

    def _answer(self, response: stun.Message, addr: tuple[Any, ...]) -> None:
        send = partial(self._transport.sendto, bytes(response), addr)
        asyncio.get_running_loop().call_later(self.late.get(addr[0], 0), send)


@asynccontextmanager
async def stun_server() -> AsyncIterator[StunServer]:
    """On a loopback address."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(StunServer, local_addr=("127.0.0.1", 0))
    try:
        yield server
    finally:
        transport.close()
        await asyncio.sleep(0)
