"""The bridge and a page in Chromium: who offers, hidden addresses, bytes, pressure."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.swarm.child import JsonChild
from torrentfs.errors import TransportError
from torrentfs.transports.base import PeerStream
from torrentfs.transports.webrtc.bridge import WebRtc, open_webrtc
from torrentfs.transports.webrtc.config import RtcConfig
from torrentfs.transports.webrtc.sdp import parse

pytestmark = pytest.mark.real

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "chromium"
HERE = Path(__file__).parent

# What simple-peer does: an ordered, reliable channel with a random label, no trickling.
PAGE = """
window.make = () => {
  const peer = new RTCPeerConnection({ iceServers: [] })
  window.peer = peer
  window.got = []
  window.count = 0
  window.watch = channel => {
    channel.binaryType = 'arraybuffer'
    window.channel = channel
    window.opened = new Promise(resolve => {
      if (channel.readyState === 'open') resolve(); else channel.onopen = () => resolve()
    })
    window.closed = new Promise(resolve => { channel.onclose = () => resolve() })
    channel.onmessage = ({ data }) => { count += data.byteLength; if (keep) got.push(data) }
  }
  window.keep = true
  window.gathered = () => new Promise(resolve => {
    if (peer.iceGatheringState === 'complete') resolve(peer.localDescription.sdp)
    peer.onicegatheringstatechange = () =>
      peer.iceGatheringState === 'complete' && resolve(peer.localDescription.sdp)
  })
}
window.offer = async () => {
  make()
  watch(peer.createDataChannel('0123456789abcdef0123456789abcdef01234567'))
  await peer.setLocalDescription(await peer.createOffer())
  return gathered()
}
window.answer = async sdp => {
  make()
  peer.ondatachannel = ({ channel }) => { watch(channel); arrived() }
  const there = new Promise(resolve => { window.arrived = resolve })
  window.openAnswer = there.then(() => opened)
  await peer.setRemoteDescription({ type: 'offer', sdp })
  await peer.setLocalDescription(await peer.createAnswer())
  return gathered()
}
window.accept = sdp => peer.setRemoteDescription({ type: 'answer', sdp })
window.push = async (size, block) => {
  const data = new Uint8Array(block).fill(7)
  channel.bufferedAmountLowThreshold = 1 << 18
  while (size > 0) {
    if (channel.bufferedAmount > 1 << 20) {
      await new Promise(resolve => { channel.onbufferedamountlow = resolve })
    }
    channel.send(data.subarray(0, Math.min(size, block)))
    size -= block
  }
}
window.digest = async () => {
  const all = new Uint8Array(await new Blob(got).arrayBuffer())
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', all))
  return [all.length, Array.from(hash, byte => byte.toString(16).padStart(2, '0')).join('')]
}
undefined
"""


class Page:
    """A page that runs scripts."""

    def __init__(self, child: JsonChild) -> None:
        self._child = child

    async def run(self, script: str) -> Any:
        answer = await trio.to_thread.run_sync(
            lambda: self._child.ask({"script": script}, 30), abandon_on_cancel=True
        )
        return answer.get("value")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    work = tmp_path_factory.mktemp("chromium")
    options = json.dumps({"executable": CHROMIUM})
    child = JsonChild(
        [shutil.which("node") or "node", str(HERE / "page.mjs"), options],
        stderr=work / "log",
        environment={"TMPDIR": str(work), "HOME": str(work), "XDG_CONFIG_HOME": str(work)},
    )
    try:
        child.wait_line(30)
        child.ask({"script": PAGE}, 30)
        yield Page(child)
    finally:
        child.close(10)


@pytest.fixture
async def rtc() -> AsyncIterator[WebRtc]:
    with trio.fail_after(50):
        async with open_webrtc(RtcConfig(bind="127.0.0.1")) as opened:
            yield opened


async def we_offer(rtc: WebRtc, page: Page) -> PeerStream:
    offer = await rtc.offer()
    answer = await page.run(f"answer({json.dumps(offer.sdp)})")
    return await rtc.accept(offer.connection, answer)


async def page_offers(rtc: WebRtc, page: Page) -> PeerStream:
    answer = await rtc.answer(await page.run("offer()"))
    await page.run(f"accept({json.dumps(answer.sdp)})")
    return await answer.stream()


async def read(stream: PeerStream, count: int) -> bytes:
    got = bytearray()
    room = memoryview(bytearray(1 << 18))
    while len(got) < count and (received := await stream.receive_into(room)):
        got += room[:received]
    return bytes(got)


@pytest.mark.parametrize("connect", [we_offer, page_offers])
async def test_bytes_are_right_both_ways(rtc: WebRtc, page: Page, connect: Any) -> None:
    stream = await connect(rtc, page)
    data = os.urandom(3_000_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, data)
        nursery.start_soon(page.run, "push(2000000, 16384)")
        assert await read(stream, 2_000_000) == b"\7" * 2_000_000
    while await page.run("count") < len(data):  # noqa: ASYNC110
        await trio.sleep(0.02)
    assert await page.run("digest()") == [len(data), hashlib.sha256(data).hexdigest()]
    await stream.aclose()
    await page.run("closed")


@pytest.mark.parametrize("connect", [we_offer, page_offers])
async def test_the_page_goes(rtc: WebRtc, page: Page, connect: Any) -> None:
    stream = await connect(rtc, page)
    await page.run("channel.send('text is bytes'); channel.send(new ArrayBuffer(0))")
    assert await read(stream, 13) == b"text is bytes"
    await page.run("peer.close()")
    assert await read(stream, 1) == b""
    await stream.aclose()
    while rtc.statistics().connections:  # noqa: ASYNC110
        await trio.sleep(0.02)


@pytest.mark.parametrize("hidden", [False, True], ids=["addresses", "names"])
async def test_opens_fast(rtc: WebRtc, page: Page, hidden: bool) -> None:
    """From the answer to an open channel, also when the page hides where it is behind a name
    that nobody resolves; the goal is 150 ms."""
    seconds = []
    for _ in range(5):
        offer = await rtc.offer()
        answer = await page.run(f"answer({json.dumps(offer.sdp)})")
        if hidden:
            answer = re.sub(r"(a=candidate:\S+ 1 udp \d+) \S+", r"\1 0a1b2c3d-00.local", answer)
            assert all(each.is_name for each in parse(answer).candidates)
        began = time.perf_counter()
        stream = await rtc.accept(offer.connection, answer)
        seconds.append(time.perf_counter() - began)
        await stream.aclose()
    assert min(seconds) < 0.15, seconds


async def test_a_stream_that_is_not_read_stops_the_page(rtc: WebRtc, page: Page) -> None:
    stream = await we_offer(rtc, page)
    await page.run("window.pushed = push(20000000, 16384).then(() => { pushed = true }); undefined")
    before = -1
    while (buffered := await page.run("channel.bufferedAmount")) != before or not buffered:
        before = buffered
        await trio.sleep(0.5)
    assert await page.run("pushed === true") is False
    got = await read(stream, 20_000_000)
    assert len(got) == 20_000_000
    stream.abort()


async def test_offers_of_many_lines_are_refused(rtc: WebRtc, page: Page) -> None:
    sdp = await page.run(
        """(async () => {
            make()
            peer.createDataChannel('x')
            peer.addTransceiver('audio')
            await peer.setLocalDescription(await peer.createOffer())
            return gathered()
        })()"""
    )
    with pytest.raises(TransportError, match="something else than one data channel"):
        await rtc.answer(sdp)


async def test_its_description_is_understood(page: Page) -> None:
    found = parse(await page.run("offer()"))
    assert found.candidates
    assert found.max_message_size == 262144
