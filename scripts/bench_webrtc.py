"""Section `webrtc`: one page in Chromium, bytes in from it and out to it, over loopback.

Contenders: torrentfs's worker and bridge, and aiortc as it comes (`bench_aiortc`), each in and
out. The page sends messages of 16 KiB, as WebTorrent does. MB/s are from the first byte to the
last (out: to the page's last); "open" is from the page's answer to an open channel. CPU is per
GB: of the process that speaks WebRTC, of the bridge's (ours only), and of all of Chromium's.
Sizes are multiples of a MiB, whose bytes repeat.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import psutil
import trio

from scripts.bench_rounds import (
    MIB,
    Contender,
    Options,
    Row,
    Section,
    WrongBytes,
    process_cpu,
)
from tests.swarm.child import JsonChild, python_child
from tests.swarm.mounted import MountFailed
from torrentfs.errors import TransportError
from torrentfs.transports.base import PeerStream
from torrentfs.transports.webrtc.bridge import open_webrtc
from torrentfs.transports.webrtc.config import RtcConfig

PAGE = Path(__file__).resolve().parents[1] / "tests/transports/webrtc/page.mjs"
SEED = 20

SCRIPT = """
window.block = Uint8Array.from(atob(BLOCK), letter => letter.charCodeAt(0))
window.now = () => (performance.timeOrigin + performance.now()) / 1000
window.begin = async (sdp, way, size) => {
  window.peer?.close()
  const peer = window.peer = new RTCPeerConnection({ iceServers: [] })
  const chunks = []
  let left = size
  const take = event => {
    chunks.push(new Uint8Array(event.data))
    left -= event.data.byteLength
    if (left <= 0) ended({ at: now() })
  }
  const give = channel => {
    for (; left > 0 && channel.bufferedAmount < 1 << 20; left -= 16384) {
      const begin = (size - left) % block.length
      channel.send(block.subarray(begin, begin + 16384))
    }
  }
  let ended
  window.end = new Promise(resolve => { ended = resolve })
  window.wrong = () => {
    let at = 0, bad = 0
    for (const chunk of chunks) {
      for (let i = 0; i < chunk.length; i++) bad += chunk[i] !== block[at++ % block.length]
    }
    return bad + Math.abs(at - size)
  }
  const there = new Promise(resolve => {
    peer.ondatachannel = ({ channel }) => {
      channel.binaryType = 'arraybuffer'
      channel.onmessage = take
      channel.bufferedAmountLowThreshold = 1 << 18
      channel.onbufferedamountlow = () => way === 'in' && give(channel)
      resolve(channel)
    }
  })
  window.go = async () => { if (way === 'in') give(await there) }
  await peer.setRemoteDescription({ type: 'offer', sdp })
  await peer.setLocalDescription(await peer.createAnswer())
  return new Promise(resolve => {
    const done = () => {
      if (peer.iceGatheringState === 'complete') resolve(peer.localDescription.sdp)
    }
    peer.onicegatheringstatechange = done
    done()
  })
}
undefined
"""


class Page:
    """A blank page that has the script."""

    def __init__(self, child: JsonChild, block: bytes) -> None:
        self._child = child
        literal = json.dumps(base64.b64encode(block).decode())
        self.run(SCRIPT.replace("BLOCK", literal))

    def run(self, script: str, limit: float = 120.0) -> Any:
        """The value of a script, awaited."""
        return self._child.ask({"script": script}, limit).get("value")

    async def run_aside(self, script: str) -> Any:
        """The same, while others go on."""
        return await trio.to_thread.run_sync(self.run, script, abandon_on_cancel=True)

    def begin(self, sdp: str, way: str, size: int) -> str:
        """The answer to an offer."""
        return str(self.run(f"begin({json.dumps(sdp)}, {way!r}, {size})"))

    def cpu(self) -> float:
        """Seconds of all processes of the browser."""
        total = 0.0
        for process in psutil.Process(self._child.pid).children(recursive=True):
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            total += times.user + times.system
        return total


@contextmanager
def webrtc(options: Options, work: Path) -> Iterator[dict[str, Contender]]:
    """One browser for all; a connection for each contender and round."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    node = shutil.which("node")
    if chromium is None or node is None:
        raise MountFailed("section webrtc wants chromium and node (scripts/setup test)")
    size = (options.size or (8 if options.short else 64)) * MIB
    block = Random(SEED).randbytes(MIB)
    child = JsonChild(
        [node, str(PAGE), json.dumps({"executable": chromium})],
        stderr=work / "chromium.log",
        environment={"TMPDIR": str(work), "HOME": str(work), "XDG_CONFIG_HOME": str(work)},
    )
    try:
        child.wait_line(60)
        page = Page(child, block)
        yield {
            f"{name}, {way}": functools.partial(run, page, way, size, block)
            for name, run in (("torrentfs", run_ours), ("aiortc", run_aiortc))
            for way in ("in", "out")
        }
    finally:
        child.close(10)


class Clock:
    """CPU seconds of all who take part, from here on."""

    def __init__(self, page: Page, pid: int) -> None:
        self._page, self._pid = page, pid
        self._began = (process_cpu(pid), page.cpu(), time.process_time())

    def row(self, size: int, seconds: float, open_ms: float, *, bridge: bool) -> Row:
        """What happened since."""
        worker, browser, own = self._began
        row = {
            "open_ms": open_ms,
            "mb_s": size / 1e6 / seconds,
            "cpu_s_per_gb": (process_cpu(self._pid) - worker) / (size / 1e9),
            "browser_cpu": (self._page.cpu() - browser) / (size / 1e9),
        }
        if bridge:
            row["bridge_cpu"] = (time.process_time() - own) / (size / 1e9)
        return row


# -- torrentfs ------------------------------------------------------------------------------------


def run_ours(page: Page, way: str, size: int, block: bytes, work: Path) -> Row:
    """Through the bridge in this process and its worker."""
    try:
        return trio.run(_ours, page, way, size, block)
    except TransportError as error:
        raise TimeoutError(str(error)) from error


async def _ours(page: Page, way: str, size: int, block: bytes) -> Row:
    with trio.fail_after(120):
        async with open_webrtc(RtcConfig(bind="127.0.0.1")) as rtc:
            offer = await rtc.offer()
            answer = await trio.to_thread.run_sync(page.begin, offer.sdp, way, size)
            asked = time.perf_counter()
            stream = await rtc.accept(offer.connection, answer)
            open_ms = (time.perf_counter() - asked) * 1000
            clock = Clock(page, rtc.statistics().workers[0])
            if way == "in":
                got = bytearray(size)
                seconds = await _take(page, stream, memoryview(got))
                row = clock.row(size, seconds, open_ms, bridge=True)
                if any(got[at : at + MIB] != block for at in range(0, size, MIB)):
                    raise WrongBytes("from the page")
            else:
                began = time.time()
                for _ in range(size // MIB):
                    await stream.send_all(block)
                ended = (await page.run_aside("end"))["at"]
                row = clock.row(size, ended - began, open_ms, bridge=True)
                if await page.run_aside("wrong()"):
                    raise WrongBytes("in the page")
            await stream.aclose()
            return row


async def _take(page: Page, stream: PeerStream, room: memoryview) -> float:
    """Seconds from the first byte to the last."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(page.run_aside, "go()")
        at = await stream.receive_into(room)
        began = time.perf_counter()
        while at < len(room):
            received = await stream.receive_into(room[at:])
            if not received:
                raise TransportError("the page closed the channel")
            at += received
        return time.perf_counter() - began


# -- aiortc ---------------------------------------------------------------------------------------


def run_aiortc(page: Page, way: str, size: int, block: bytes, work: Path) -> Row:
    """The library alone, in a process of its own."""
    child = python_child("scripts.bench_aiortc", stderr=work / "aiortc.log")
    try:
        answer = page.begin(child.ask({"do": "offer"}, 30)["sdp"], way, size)
        clock = Clock(page, child.pid)
        request = {"do": "accept", "sdp": answer, "way": way, "size": size, "seed": SEED}
        assert child.process.stdin is not None
        child.process.stdin.write(json.dumps(request).encode() + b"\n")
        child.process.stdin.flush()
        page.run("go()")
        ended = page.run("end")["at"] if way == "out" else None
        done = child.wait_line(120)
        seconds = (ended or done["ended"]) - done["began"]
        row = clock.row(size, seconds, done["open_ms"], bridge=False)
        if way == "in":
            expected = hashlib.sha256()
            for _ in range(size // MIB):
                expected.update(block)
            if done["sha256"] != expected.hexdigest():
                raise WrongBytes("from the page")
        elif page.run("wrong()"):
            raise WrongBytes("in the page")
        return row
    finally:
        child.close()


WEBRTC = Section(
    "a page in Chromium: bytes in and out by WebRTC, beside aiortc as it comes",
    webrtc,
    (("torrentfs, in", "aiortc, in"), ("torrentfs, out", "aiortc, out")),
)
