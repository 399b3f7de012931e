"""`.local` names that must be resolved: neither side can reach the other before.

In a network namespace of its own, since names are asked for by multicast: a pair of devices with
one address, a responder that answers for one name as a browser does, and two bridges.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.real

NAME = "0a1b2c3d-0000-4000-8000-0123456789ab.local"
ADDRESS = "192.0.2.5"

NETWORK = f"""
set -e
ip link set lo up
ip link add inside type veth peer name outside
ip address add {ADDRESS}/24 dev inside
ip link set inside up
ip link set outside up
ip route add 224.0.0.0/4 dev inside
"""

RESPONDER = f"""
import asyncio
from aioice.mdns import create_mdns_protocol

async def main():
    responder = await create_mdns_protocol()
    await responder.publish("{NAME}", "{ADDRESS}")
    print("ready", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""

BRIDGES = f"""
import re, subprocess, sys, time, trio
from torrentfs.transports.webrtc.bridge import open_webrtc
from torrentfs.transports.webrtc.config import RtcConfig

def hide(sdp):
    # One name that is answered for, and eight that nobody knows: a second each if asked in turn.
    line = re.search("a=candidate:.*", sdp).group().strip()
    assert " {ADDRESS} " in line
    unknown = [line.replace("{ADDRESS}", f"0a1b2c3d-{{n}}.local") for n in range(8)]
    return sdp.replace(line, "\\r\\n".join([*unknown, line.replace("{ADDRESS}", "{NAME}")]))

async def main():
    async with open_webrtc(RtcConfig()) as one, open_webrtc(RtcConfig()) as other:
        for _ in range(2):  # the processes start with the first
            offer = await one.offer()
            answer = await other.answer(hide(offer.sdp))
            began = time.perf_counter()
            stream = await one.accept(offer.connection, hide(answer.sdp))
            taken = time.perf_counter() - began
            assert stream.remote[0] == "{ADDRESS}"
            await stream.send_all(b"hello")
            got = memoryview(bytearray(10))
            theirs = await answer.stream()
            assert await theirs.receive_into(got) == 5
            stream.abort()
            theirs.abort()
    assert taken < 0.9, taken

with subprocess.Popen([sys.executable, "-c", {RESPONDER!r}], stdout=subprocess.PIPE) as responder:
    responder.stdout.readline()
    try:
        trio.run(main)
    finally:
        responder.kill()
"""


def test_names_are_resolved_all_at_once() -> None:
    inside = ["unshare", "--map-root-user", "--net", "sh", "-c"]
    if subprocess.run([*inside, NETWORK], check=False, capture_output=True).returncode:
        pytest.skip("no network namespaces here")
    done = subprocess.run(
        [*inside, NETWORK + 'exec "$0" -c "$1"', sys.executable, BRIDGES],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
