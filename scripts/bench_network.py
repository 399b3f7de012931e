"""What the latency benchmark stands on: a swarm behind a simulated line, and two kinds of reader.

`BarePeer` is the yardstick: a blocking socket that asks the same seeder over the same line for one
piece at once and does nothing else. What it needs is what the line, the proxy, the seeder and the
load of the machine cost together; the mount is compared with it, piece by piece, in one run.

`MountReader` reads a mounted file as a program would and compares every byte with the payload.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import libtorrent

from tests.swarm.mounted import Mounted, mounted
from tests.swarm.payload import write_file
from tests.swarm.proxy import proxy
from tests.swarm.seeder import LibtorrentPeer, seed
from tests.swarm.torrents import MadeTorrent, Version, make_torrent

KIB, MIB = 1 << 10, 1 << 20
BLOCK = 16 * KIB
FILM = "film.bin"


class Line(NamedTuple):
    """A simulated path: round trip in seconds, rate in bytes per second (0: as fast as it goes)."""

    round_trip: float
    rate: float

    def piece_time(self, size: int) -> float:
        """One round trip and `size` bytes: the least that a piece can take."""
        return self.round_trip + (size / self.rate if self.rate else 0.0)


HOME = Line(0.050, 12.5e6)
LOOPBACK = Line(0.0, 0.0)


class WrongBytes(Exception):
    """The mount gave other bytes than the payload's."""


class Swarm(NamedTuple):
    """A payload, its torrent, and where its seeders can be reached."""

    made: MadeTorrent
    seeders: list[LibtorrentPeer]
    ports: list[int]
    line: Line
    work: Path

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.made.path.stat().st_size

    @property
    def piece_length(self) -> int:
        """Bytes of a piece."""
        loaded: Any = libtorrent.load_torrent_buffer(self.made.data).ti
        length: int = loaded.piece_length()
        return length

    def uploaded(self) -> int:
        """Payload bytes that the seeders have sent so far (their statistics lag by a second)."""
        time.sleep(1.2)
        return sum(int(seeder.status()["uploaded"]) for seeder in self.seeders)


@contextmanager
def swarm(
    work: Path,
    *,
    size: int,
    piece_length: int = MIB,
    line: Line = HOME,
    seeders: int = 1,
    upload_limit: int = 0,
    version: Version = "v1",
    check: bool = False,
) -> Iterator[Swarm]:
    """Seeders of one file, each behind a proxy of its own where `line` is not loopback.

    With `check` they hash the file first; only then do they give block hashes of a v2 torrent.
    """
    payload = write_file(work / "payload" / FILM, 1, size)
    made = make_torrent(
        payload, work / "film.torrent", version=version, piece_length=piece_length, private=True
    )
    with ExitStack() as stack:
        running: list[LibtorrentPeer] = []
        ports: list[int] = []
        for number in range(seeders):
            place = work / f"seeder-{number}"
            place.mkdir()
            peer = stack.enter_context(
                seed(made.torrent, payload, place, upload_limit=upload_limit, check=check)
            )
            running.append(peer)
            ports.append(peer.port)
            if any(line):
                target = ("127.0.0.1", peer.port)
                ports[-1] = stack.enter_context(
                    proxy(target, place, round_trip=line.round_trip, rate=line.rate)
                )
        yield Swarm(made, running, ports, line, work)


@contextmanager
def mount(swarm: Swarm, name: str, *options: str, peers: bool = True) -> Iterator[Mounted]:
    """The real command, with an empty cache."""
    arguments = [word for port in swarm.ports for word in ("--peer", f"127.0.0.1:{port}")]
    with mounted(
        swarm.made.torrent,
        swarm.work,
        *(arguments if peers else ()),
        *("--bind-interface", "lo", "--min-free-space", "0", "--read-timeout", "30s"),
        *options,
        cache=swarm.work / f"{name}-cache",
        name=name,
    ) as mount:
        yield mount


class MountReader:
    """One open file of a mount; `read` gives the seconds and checks the bytes."""

    def __init__(self, swarm: Swarm, mount: Mounted) -> None:
        self._payload = os.open(swarm.made.path, os.O_RDONLY)
        self.descriptor = os.open(mount / FILM, os.O_RDONLY)

    def read(self, offset: int, size: int) -> float:
        """Read and compare; seconds until all of it was there."""
        started = time.monotonic()
        data = os.pread(self.descriptor, size, offset)
        seconds = time.monotonic() - started
        if data != os.pread(self._payload, size, offset):
            raise WrongBytes(f"{size} bytes at {offset}")
        return seconds

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)
        os.close(self._payload)

    def __enter__(self) -> MountReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def wait_connected(mount: Mounted, swarm: Swarm) -> None:
    """Let the mount connect to its peers (nothing is fetched by that)."""
    time.sleep(0.7 + 8 * swarm.line.round_trip)


class BarePeer:
    """A connection that asks for whole pieces, all blocks at once, and waits."""

    def __init__(self, swarm: Swarm) -> None:
        assert swarm.made.v1
        self._socket = socket.create_connection(("127.0.0.1", swarm.ports[0]), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._length = swarm.piece_length
        self._buffer = bytearray()
        name = b"-XX0001-" + os.urandom(12)
        hello = b"\x13BitTorrent protocol" + bytes(8) + bytes.fromhex(swarm.made.v1) + name
        self._socket.sendall(hello + struct.pack(">IB", 1, 2))
        self._take(68)
        while self._message()[:1] != b"\x01":
            pass

    def fetch(self, piece: int) -> float:
        """Seconds from the request to the last byte of `piece`."""
        wanted = range(0, self._length, BLOCK)
        started = time.monotonic()
        self._socket.sendall(
            b"".join(struct.pack(">IBIII", 13, 6, piece, begin, BLOCK) for begin in wanted)
        )
        left = len(wanted)
        while left:
            left -= self._message()[:1] == b"\x07"
        return time.monotonic() - started

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = self._socket.recv(MIB)
            if not data:
                raise ConnectionError("the seeder closed the connection")
            self._buffer += data
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _message(self) -> bytes:
        return self._take(int.from_bytes(self._take(4)))

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def __enter__(self) -> BarePeer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def quantile(values: list[float], part: float) -> float:
    """The value below which `part` of the sorted values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


Row = dict[str, Any]
