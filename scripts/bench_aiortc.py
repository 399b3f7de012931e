"""aiortc as it comes, for comparison: one data channel, offered to whoever answers.

A child of `bench_webrtc` that speaks JSON lines: `{"do": "offer"}` gives `{"sdp"}`; `{"do":
"accept", "sdp", "way", "size", "seed"}` carries `size` bytes in or out of it and gives
`{"open_ms", "began", "ended", "sha256"}` (times of the machine's clock; `ended` and `sha256` are
those of bytes that came in); anything else, or the end of stdin, ends it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from random import Random
from typing import Any

import aioice.ice
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

MESSAGE = 16 * 1024
HIGH = 1 << 20


class Peer:
    """A peer connection and what its channel did."""

    def __init__(self) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.channel = self.connection.createDataChannel("bench")
        self.opened = asyncio.Event()
        self.done = asyncio.Event()
        self.channel.on("open", self.opened.set)
        self.parts: list[bytes] = []
        self.began = self.ended = 0.0
        self._left = 0

    async def offer(self) -> dict[str, Any]:
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return {"sdp": self.connection.localDescription.sdp}

    async def accept(self, sdp: str, way: str, size: int, seed: int) -> dict[str, Any]:
        self._left = size
        if way == "in":
            self.channel.on("message", self._take)
        asked = time.time()
        await self.connection.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
        await self.opened.wait()
        open_ms = (time.time() - asked) * 1000
        if way == "in":
            await self.done.wait()
        else:
            await self._give(memoryview(Random(seed).randbytes(1 << 20)))
        digest = hashlib.sha256(b"".join(self.parts)).hexdigest()
        times = {"open_ms": open_ms, "began": self.began, "ended": self.ended}
        return {**times, "sha256": digest}

    def _take(self, data: bytes) -> None:
        self.began = self.began or time.time()
        self.parts.append(data)
        self._left -= len(data)
        if self._left <= 0:
            self.ended = time.time()
            self.done.set()

    async def _give(self, block: memoryview) -> None:
        low = asyncio.Event()
        self.channel.bufferedAmountLowThreshold = HIGH // 2
        self.channel.on("bufferedamountlow", low.set)
        self.began = time.time()
        while self._left:
            for begin in range(0, min(len(block), self._left), MESSAGE):
                while self.channel.bufferedAmount >= HIGH:
                    low.clear()
                    await low.wait()
                self.channel.send(bytes(block[begin : begin + MESSAGE]))
            self._left -= min(len(block), self._left)


async def main() -> None:
    # aiortc leaves loopback addresses out; here there are no others.
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    peer = Peer()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        request = json.loads(line)
        do = request.pop("do")
        if do not in ("offer", "accept"):
            break
        print(json.dumps(await getattr(peer, do)(**request)), flush=True)
    await peer.connection.close()


if __name__ == "__main__":
    asyncio.run(main())
