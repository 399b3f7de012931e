"""What one peer asked of us and has not been sent yet (BEP 3 request, BEP 6 reject).

The queue is bounded by the `reqq` we announced; what is over it, or asks for bytes we do not
have, is rejected with the fast extension and dropped silently without it, as BEP 6 says. A peer
that is choked is served its *allowed-fast* pieces (BEP 6) and nothing else.
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

BATCH = 256 * 1024
"""Bytes sent in one system call: a socket buffer's worth. One request may go over it."""


class UploadQueue:
    """Requests of one peer in order of arrival; asking twice for one block is one request."""

    __slots__ = ("_requests", "allowed", "choking", "uploaded")

    def __init__(self) -> None:
        self._requests: OrderedDict[Request, None] = OrderedDict()
        self.choking = True
        self.allowed: set[int] = set()
        """Pieces served even while choking."""
        self.uploaded = 0

    def on_request(self, request: Request, *, servable: Callable[[Request], bool]) -> bool:
        """Queue it; False when it must be rejected instead."""
        if self.choking and request.piece not in self.allowed:
            return False
        if request in self._requests:
            return True
        if len(self._requests) >= MAX_REQUESTS or not servable(request):
            return False
        self._requests[request] = None
        return True

    def on_cancel(self, request: Request) -> bool:
        """Forget it; True when it was still queued (BEP 6 then wants a reject)."""
        return self._requests.pop(request, self) is None

    def choke(self) -> list[Request]:
        """Start choking; returns what will not be answered any more."""
        self.choking = True
        dropped = [request for request in self._requests if request.piece not in self.allowed]
        for request in dropped:
            del self._requests[request]
        return dropped

    def unchoke(self) -> None:
        """Stop choking."""
        self.choking = False

    def take(self) -> list[Request]:
        """The next requests to answer, until they make up `BATCH` bytes."""
        taken: list[Request] = []
        size = 0
        while self._requests and size < BATCH:
            request = self._requests.popitem(last=False)[0]
            taken.append(request)
            size += request.length
        return taken

    def __len__(self) -> int:
        return len(self._requests)

    def __repr__(self) -> str:
        state = "choking" if self.choking else "open"
        return f"<UploadQueue {state}, {len(self)} queued, {self.uploaded} bytes sent>"
