"""A mount and a share that meet through a relay alone: what is sent, and what is said if not."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.swarm.capture import Packet, capture
from tests.swarm.mounted import TORRENTFS, Mounted, mounted
from tests.swarm.network import SERVERS, VPN, inside, two_ways
from tests.swarm.payload import write_file
from tests.swarm.relay import PASSWORD, USER, Relay, relay
from tests.swarm.shared import shared
from tests.swarm.torrents import MadeTorrent, make_torrent
from tests.swarm.tracker import tracker

pytestmark = [pytest.mark.real, pytest.mark.timeout(100)]

SIZE = 2 << 20
BROWSERS_ALONE = ("--no-tcp", "--no-utp", "--no-dht", "--no-lsd", "--no-port-mapping")


@dataclass
class Swarm:
    """A share that only a relay leads to: it has no TCP, and we tell it no other address."""

    made: MadeTorrent
    file: Path
    relay: Relay
    websocket: str


@contextmanager
def swarm(work: Path, host: str) -> Iterator[Swarm]:
    file = write_file(work / "payload" / "film.mkv", 3, SIZE)
    with ExitStack() as stack:
        server = stack.enter_context(tracker(work, http_host=host, udp_host=host))
        made = make_torrent(file, work / "t.torrent", trackers=[[server.websocket]])
        options = ("--torrent", str(made.torrent), *BROWSERS_ALONE[:2])
        stack.enter_context(shared(file, work, *options, bind=host))
        yield Swarm(made, file, stack.enter_context(relay(work, host)), server.websocket)


def credentials(password: str = PASSWORD) -> dict[str, str]:
    return {"TORRENTFS_TURN_USERNAME": USER, "TORRENTFS_TURN_PASSWORD": password}


def read(mount: Mounted) -> bytes:
    return (mount / "film.mkv").read_bytes()


def targets(packets: list[Packet]) -> set[tuple[str, str, str]]:
    """Where a host sent something: protocol, address and port."""
    found = set()
    for packet in packets:
        if packet.source in {VPN, "10.98.0.2"} or packet.target not in {"", VPN}:
            ports = packet.tcp or packet.udp
            kind = "tcp" if packet.tcp else "udp" if packet.udp else packet.protocols
            found.add((kind, packet.target, ports.partition(",")[2]))
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")
def test_relay_only_sends_nothing_to_anybody_but_the_relay(tmp_path: Path) -> None:
    with ExitStack() as stack:
        net = stack.enter_context(two_ways())
        with inside(net.servers):  # what is started there stays
            meets = stack.enter_context(swarm(tmp_path, SERVERS))
        seen = {
            device: stack.enter_context(capture(tmp_path, net.host.namespace, device))
            for device in ("vpn0", "eth0", "lo")
        }
        options = ("--relay-only", "--turn", meets.relay.turn, *BROWSERS_ALONE)
        with mounted(
            meets.made.torrent,
            tmp_path,
            *options,
            environment=credentials(),
            before=net.host.before,
        ) as mount:
            assert read(mount) == meets.file.read_bytes()
        port = meets.websocket.rpartition(":")[2].strip("/")
        assert targets(seen["vpn0"].packets()) == {
            ("udp", SERVERS, str(meets.relay.port)),
            ("tcp", SERVERS, port),
        }
        assert [packet for each in ("eth0", "lo") for packet in seen[each].packets()] == []
        assert meets.relay.allocations


def test_a_wrong_password_is_in_the_log_and_the_answer_to_why(tmp_path: Path) -> None:
    with swarm(tmp_path, "127.0.0.1") as meets:
        said = f"{meets.relay.turn} refuses the credentials (401)"
        options = ("--relay-only", "--turn", meets.relay.turn, *BROWSERS_ALONE)
        with mounted(
            meets.made.torrent,
            tmp_path,
            *options,
            *("--bind-interface", "127.0.0.1", "--read-timeout", "4s"),
            environment=credentials("wrong"),
        ) as mount:
            with pytest.raises(OSError, match="Input/output error"):
                read(mount)
            status = ["status", "--mount", str(mount.path)]
            for command in (["why", f"{mount / 'film.mkv'}:0"], status):
                told = subprocess.run(
                    [str(TORRENTFS), *command],
                    capture_output=True,
                    text=True,
                    check=False,
                    env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path / "run")},
                )
                assert said in told.stdout
            assert (
                mount.log().count(f"WARNING torrentfs.transports.webrtc.bridge: WebRTC: {said}")
                == 1
            )
