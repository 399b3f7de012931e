"""What ends when a client goes."""

from __future__ import annotations

from typing import Any

import trio

from torrentfs.daemon.control.leaving import end_with


async def test_the_scope_ends_with_the_client() -> None:
    messages = iter(["http.request", "http.disconnect"])

    async def receive() -> Any:
        await trio.lowlevel.checkpoint()
        return {"type": next(messages)}

    with trio.CancelScope() as scope:
        await end_with(receive, scope)
        await trio.sleep_forever()
    assert scope.cancelled_caught
