"""What one peer asked of us and has not been sent yet (BEP 3 request, BEP 6 reject).

The queue is bounded by the `reqq` we announced; what is over it, or asks for bytes we do not
have, is rejected with the fast extension and dropped silently without it, as BEP 6 says.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torrentfs.scheduling.picker import Request

MAX_REQUESTS = 2000
"""The `reqq` of our extension handshake: 32 MiB of 16 KiB blocks, a fast peer's pipeline."""

MAX_REQUEST_LENGTH = 128 * 1024
"""Longest block we serve; BEP 3 says 16 KiB, and clients close on more than 128 KiB."""


class UploadQueue:
    """Requests of one peer in order of arrival; asking twice for one block is one request."""

    __slots__ = ("_requests", "choking", "uploaded")

    def __init__(self) -> None:
        self._requests: OrderedDict[Request, None] = OrderedDict()
        self.choking = True
        self.uploaded = 0

    def on_request(self, request: Request, *, servable: Callable[[Request], bool]) -> bool:
        """Queue it; False when it must be rejected instead."""
        if self.choking or len(self._requests) >= MAX_REQUESTS or not servable(request):
            return False
        self._requests[request] = None
        return True

    def on_cancel(self, request: Request) -> bool:
        """Forget it; True when it was still queued (BEP 6 then wants a reject)."""
        return self._requests.pop(request, self) is None

    def choke(self) -> list[Request]:
        """Start choking; returns what will not be answered any more."""
        self.choking = True
        dropped = list(self._requests)
        self._requests.clear()
        return dropped

    def unchoke(self) -> None:
        """Stop choking."""
        self.choking = False

    def take(self, most: int) -> list[Request]:
        """The next requests to answer, at most `most`."""
        count = min(most, len(self._requests))
        return [self._requests.popitem(last=False)[0] for _ in range(count)]

    def __len__(self) -> int:
        return len(self._requests)

    def __repr__(self) -> str:
        state = "choking" if self.choking else "open"
        return f"<UploadQueue {state}, {len(self)} queued, {self.uploaded} bytes sent>"
