"""What goes over a network device, as tshark sees it; nothing before, between or behind is lost.

A capture begins and ends with a marker, a frame of our own that goes out of the same device and is
waited for: everything sent between the two was seen.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.swarm.ending import end
from tests.swarm.network import inside

_MARKER = 0x88B5  # IEEE's ethertype for experiments
_FIELDS = ("eth.type", "frame.protocols", "ip.src", "ip.dst", "tcp.port", "udp.port")
_FIELDS6 = ("ipv6.src", "ipv6.dst")


class Packet(NamedTuple):
    """A frame; empty text where it has no such thing. Ports are "from,to"."""

    type: str
    protocols: str
    source: str
    target: str
    tcp: str
    udp: str


class Capture:
    """A running tshark."""

    def __init__(self, namespace: str, device: str, process: subprocess.Popen[bytes], out: Path):
        self._namespace = namespace
        self._device = device
        self._process = process
        self._out = out
        self._markers = 0

    def packets(self, timeout: float = 20.0) -> list[Packet]:
        """Everything that went over the device so far."""
        self._markers += 1
        deadline = time.monotonic() + timeout
        sent = False
        while True:
            lines = self._out.read_text(errors="replace").splitlines()
            found = [_packet(line) for line in lines if line.count("\t") == 7]
            markers = [packet for packet in found if packet.type == f"0x{_MARKER:04x}"]
            if len(markers) >= self._markers:
                return [packet for packet in found if packet not in markers]
            if self._process.poll() is not None or time.monotonic() > deadline:
                errors = self._out.with_suffix(".err").read_text(errors="replace")
                raise RuntimeError(f"tshark on {self._device} sees nothing: {errors}")
            if not sent or self._markers == 1:  # it may not have begun
                self._mark()
                sent = True
            time.sleep(0.1)

    def _mark(self) -> None:
        with inside(self._namespace), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind((self._device, 0))
            raw.send(bytes(12) + _MARKER.to_bytes(2, "big") + bytes(46))

    def settle(self) -> None:
        """Take the markers that came late for those that were waited for."""
        time.sleep(0.5)
        lines = self._out.read_text(errors="replace").splitlines()
        self._markers = sum(line.startswith(f"0x{_MARKER:04x}") for line in lines)


def _packet(line: str) -> Packet:
    *fields, source6, target6 = line.split("\t")
    packet = Packet(*fields)
    packet = packet._replace(source=packet.source or source6, target=packet.target or target6)
    # an ICMP error shows the packet that it is about, too
    first = {name: getattr(packet, name).partition(",")[0] for name in ("source", "target")}
    return packet._replace(**first)


@contextmanager
def capture(work: Path, namespace: str, device: str) -> Iterator[Capture]:
    """Capture on `device` of `namespace`, from now on. Needs root."""
    out = work / f"{namespace}-{device}.tsv"
    fields = [word for name in (*_FIELDS, *_FIELDS6) for word in ("-e", name)]
    argv = ["tshark", "-l", "-n", "-i", device, "-T", "fields", *fields]
    with inside(namespace), out.open("wb") as output, out.with_suffix(".err").open("wb") as errors:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, process_group=0
        )
    try:
        seen = Capture(namespace, device, process, out)
        seen.packets()
        seen.settle()
        yield seen
    finally:
        end(process, patience=10.0)
