"""ASGI: when a client has gone, so that what it asked for is withdrawn at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import trio

Message = MutableMapping[str, Any]
Scope = Message
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def end_with(receive: Receive, scope: trio.CancelScope) -> None:
    """Cancel `scope` when the client has gone; for who has read the whole request."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            scope.cancel()
            return
