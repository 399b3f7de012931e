"""Who asked for one interface or a proxy is never seen beside it: captured on every interface.

A host has two ways to the same servers: `vpn0`, and a default route by `eth0` that takes whatever
nothing holds back. Everything that torrentfs does on a network is on.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.swarm.capture import Capture, Packet, capture
from tests.swarm.mounted import TORRENTFS, Mounted, mounted
from tests.swarm.network import SERVERS, SERVERS6, VPN, VPN6, TwoWays, inside, two_ways
from tests.swarm.nginx import web_seed
from tests.swarm.payload import write_file
from tests.swarm.ports import free_port
from tests.swarm.quiet import quiet_environment
from tests.swarm.seeder import seed
from tests.swarm.shared import shared
from tests.swarm.socks import SocksProxy, proxy_process
from tests.swarm.torrents import MadeTorrent, make_torrent
from tests.swarm.tracker import tracker

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(150),
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces"),
]

ON = {"TORRENTFS_NO_DHT": "0", "TORRENTFS_NO_LSD": "0", "TORRENTFS_NO_PORT_MAPPING": "0"}
SIZE = 24 << 20
ELSEWHERE = "203.0.113.7"
"""A peer that only the default route leads to."""


@dataclass
class Swarm:
    """What can be asked in the servers' namespace."""

    made: MadeTorrent
    file: Path
    options: tuple[str, ...]


@contextmanager
def servers(net: TwoWays, work: Path, host: str = SERVERS) -> Iterator[Swarm]:
    """Trackers of three kinds, a web seed, a peer by TCP and uTP that is a DHT node, one by ICE.

    The torrent names them by `host`: a name that only the proxy knows, say.
    """
    file = write_file(work / "payload" / "film.mkv", 3, SIZE)
    with ExitStack() as stack:
        with inside(net.servers):  # what is started there stays
            server = stack.enter_context(tracker(work, http_host=SERVERS, udp_host=SERVERS))
            urls = [server.http, server.udp, server.websocket]
            tiers = [[url.replace(SERVERS, host)] for url in urls]
            made = make_torrent(file, work / "t.torrent", trackers=tiers)
            theirs = make_torrent(file, work / "theirs.torrent", trackers=[[url] for url in urls])
            node = stack.enter_context(
                seed(
                    theirs.torrent,
                    file,
                    work,
                    hosts=(SERVERS, f"[{SERVERS6}]") if net.ipv6 else (SERVERS,),
                    utp=True,
                    upload_limit=2 << 20,
                    settings={"enable_dht": True, "dht_bootstrap_nodes": ""},
                )
            )
            port = free_port(SERVERS)
            listen = f"listen {SERVERS}:{port};"
            stack.enter_context(web_seed(file.parent, work, extra=listen, limit_rate=1 << 20))
            browser = ("--torrent", str(theirs.torrent), "--no-tcp", "--no-utp")
            stack.enter_context(shared(file, work, *browser, bind=SERVERS))
        known = f"{SERVERS}:{node.ports[SERVERS]}"
        options = (
            *("--peer", known, "--peer", f"{ELSEWHERE}:6881", "--dht-bootstrap", known),
            *("--web-seed", f"http://{host}:{port}/film.mkv", "--stun", f"stun:{SERVERS}:3478"),
            *("--read-timeout", "4s", "-v"),
            *(("--peer", f"[{SERVERS6}]:{node.ports[SERVERS6]}") if net.ipv6 else ()),
        )
        yield Swarm(made, file, options)


@contextmanager
def captures(net: TwoWays, work: Path) -> Iterator[dict[str, Capture]]:
    """Every interface of the host."""
    with ExitStack() as stack:
        yield {
            device: stack.enter_context(capture(work, net.host.namespace, device))
            for device in ("vpn0", "eth0", "lo")
        }


def read(mount: Mounted, offset: int, size: int) -> bytes:
    with open(mount / "film.mkv", "rb") as file:
        return os.pread(file.fileno(), size, offset)


def wait_until(
    fact: Callable[[], bool], timeout: float = 20.0, words: Callable[[], str] = lambda: ""
) -> None:
    """Wait for a fact; `words()` tell what there is instead."""
    deadline = time.monotonic() + timeout
    while not fact():
        assert time.monotonic() < deadline, f"not in time: {words()}"
        time.sleep(0.1)


def kinds(packets: list[Packet]) -> set[str]:
    """What a session sent."""
    found = set()
    for packet in packets:
        names = packet.protocols.split(":")
        found |= {"tcp", "udp", "stun"} & set(names)
        if packet.target.startswith("239.192.152."):
            found.add("lsd")
    return found


def test_an_interface_is_all_that_is_used(tmp_path: Path) -> None:
    """docs/semantics.md: "Nobody else is called"."""
    with two_ways() as net, servers(net, tmp_path) as swarm, captures(net, tmp_path) as seen:
        options = ("--bind-interface", "vpn0", *swarm.options)
        with mounted(
            swarm.made.torrent, tmp_path, *options, environment=ON, before=net.host.before
        ) as mount:
            data = swarm.file.read_bytes()
            assert read(mount, 0, 4 << 20) == data[: 4 << 20]
            wait_until(lambda: {"tcp", "udp", "lsd", "stun"} <= kinds(seen["vpn0"].packets()))
            own = {p.source for p in seen["vpn0"].packets() if p.source != SERVERS} - {""}
            assert own == {VPN}
            # the session ends, and begins again; then the interface goes in mid-read
        with mounted(
            swarm.made.torrent,
            tmp_path,
            *options,
            environment=ON,
            before=net.host.before,
            cache=tmp_path / "another",
        ) as mount:
            with open(mount / "film.mkv", "rb", buffering=0) as file:
                assert file.read(1 << 20) == data[: 1 << 20]
                net.vpn_down()
                began = time.monotonic()
                with pytest.raises(OSError, match="Input/output error"):
                    deque(iter(partial(file.read, 1 << 20), b""), 0)
                assert time.monotonic() - began < 30
            time.sleep(6)  # whatever is tried again and again has its time
            assert mount.process.poll() is None
        assert seen["eth0"].packets() == []
        within = {(p.source, p.target) for p in seen["lo"].packets() if p.source}
        assert within <= {(VPN, VPN)}  # trackers tell us of ourselves


def status(mount: Mounted) -> str:
    """What the user sees."""
    command = [str(TORRENTFS), "status", "--mount", str(mount.path)]
    environment = {**quiet_environment(), "XDG_RUNTIME_DIR": str(mount.path.parent / "run")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def says(mount: Mounted, words: str) -> None:
    wait_until(lambda: words in status(mount), words=lambda: status(mount))


@pytest.mark.parametrize("bind", ["vpn0", VPN])
def test_an_interface_that_comes_back_is_used_again(tmp_path: Path, bind: str) -> None:
    """A VPN that reconnects: its device is made anew, then has another address, then only that."""
    with (
        two_ways() as net,
        servers(net, tmp_path) as swarm,
        ExitStack() as stack,
    ):
        device = {name: capture(tmp_path, net.host.namespace, name) for name in ("eth0", "lo")}
        seen = {name: stack.enter_context(one) for name, one in device.items()}
        data = swarm.file.read_bytes()
        mount = stack.enter_context(
            mounted(
                swarm.made.torrent,
                tmp_path,
                *("--bind-interface", bind, *swarm.options),
                environment=ON,
                before=net.host.before,
            )
        )
        place = 0

        def goes_on(size: int = 512 << 10) -> bool:
            nonlocal place
            try:
                found = read(mount, place, size)
            except OSError:
                return False
            assert found == data[place : place + size]
            place += 4 << 20
            return True

        assert goes_on()
        net.vpn_gone()
        says(mount, "the interface vpn0 is gone")
        with pytest.raises(OSError, match="Input/output error"):
            read(mount, place, 4096)
        net.vpn_back()
        wait_until(goes_on)
        wait_until(lambda: "vpn0 is gone" not in status(mount))
        net.vpn_gone()
        net.vpn_back(7)
        if bind == VPN:  # that is not what was asked for
            says(mount, f"does not have the address {VPN}")
            net.vpn_renumbered(7, 2)
            wait_until(goes_on)
        else:
            own = stack.enter_context(capture(tmp_path, net.host.namespace, "vpn0"))
            wait_until(goes_on)
            net.vpn_renumbered(7, 9)
            wait_until(lambda: "10.99.0.9" in {packet.source for packet in own.packets()})
            wait_until(goes_on)
            # the kernel leaves a multicast group from nowhere while there is no address
            sources = {packet.source for packet in own.packets()} - {SERVERS, "", "0.0.0.0"}
            assert sources == {"10.99.0.7", "10.99.0.9"}
        assert seen["eth0"].packets() == []
        within = {p.source for p in seen["lo"].packets()} - {"", "127.0.0.1"}  # a tshark at start
        assert within <= {VPN, "10.99.0.7", "10.99.0.9"}


def test_a_leak_would_be_seen(tmp_path: Path) -> None:
    """What nothing holds leaves by the other way, from the address of an interface that is down."""
    with two_ways() as net, captures(net, tmp_path) as seen:
        net.vpn_down()
        with inside(net.host.namespace), socket.socket(type=socket.SOCK_DGRAM) as one:
            one.bind((VPN, 0))
            one.sendto(b"x", (ELSEWHERE, 9))
        wait_until(lambda: any(p.source == VPN for p in seen["eth0"].packets()))


def test_names_are_asked_for_only_while_the_interface_is_up(tmp_path: Path) -> None:
    """And over both families that it has. The system's resolver goes its own way, by `eth0`."""
    with (
        two_ways(ipv6=True) as net,
        servers(net, tmp_path, "servers.example") as swarm,
        captures(net, tmp_path) as seen,
    ):
        net.vpn_down()
        options = ("--bind-interface", "vpn0", "--dht-bootstrap", "router.example:6881")
        with mounted(
            swarm.made.torrent,
            tmp_path,
            *(*options, *swarm.options),
            environment=ON,
            before=net.host.before,
        ) as mount:
            says(mount, "the interface vpn0 is down")
            with pytest.raises(OSError, match="Input/output error"):
                read(mount, 0, 4096)
            assert [p for p in seen["eth0"].packets() if p.tcp or p.udp] == []
            net.vpn_up()
            wait_until(lambda: {VPN, VPN6} <= {p.source for p in seen["vpn0"].packets() if p.tcp})
            names = {"53"}
            wait_until(lambda: any(names & {*p.udp.split(",")} for p in seen["eth0"].packets()))
        sent = [p for p in seen["eth0"].packets() if p.tcp or p.udp]
        assert [p for p in sent if "53" not in p.udp.split(",")] == []


@pytest.mark.parametrize("kind", ["socks5", "http"])
def test_a_proxy_is_all_that_is_used(tmp_path: Path, kind: str) -> None:
    with ExitStack() as stack:
        net = stack.enter_context(two_ways())
        swarm = stack.enter_context(servers(net, tmp_path, "servers.example"))
        proxy = SocksProxy(kind, "me", "secret", names={"servers.example": SERVERS})
        with inside(net.servers):
            process = stack.enter_context(proxy_process(tmp_path, proxy, SERVERS))
        seen = stack.enter_context(captures(net, tmp_path))
        data = swarm.file.read_bytes()
        with mounted(
            swarm.made.torrent,
            tmp_path,
            *swarm.options,
            environment={**ON, "TORRENTFS_PROXY": process.url(SERVERS)},
            before=net.host.before,
        ) as mount:
            assert read(mount, 0, SIZE) == data
            wait_until(lambda: len({host for host, _ in process.asked()}) == 3)
            assert {host for host, _ in process.asked()} == {"servers.example", SERVERS, ELSEWHERE}
            log = mount.log()
            assert f"everything goes through {kind}://{SERVERS}:{proxy.port}; off" in log
            assert log.count("; off, as they cannot") == 1
        assert "secret" not in mount.log()
        assert seen["eth0"].packets() == []
        assert [packet for packet in seen["lo"].packets() if packet.source] == []
        addressed = [packet for packet in seen["vpn0"].packets() if packet.source]
        assert len(addressed) > 100
        assert {frozenset((p.source, p.target)) for p in addressed} == {frozenset((VPN, SERVERS))}
        assert all(str(proxy.port) in packet.tcp.split(",") for packet in addressed)


@pytest.mark.parametrize("fault", ["silent", "wrong password"])
def test_a_bad_proxy_costs_reads_and_nothing_else(tmp_path: Path, fault: str) -> None:
    with ExitStack() as stack:
        net = stack.enter_context(two_ways())
        swarm = stack.enter_context(servers(net, tmp_path))
        proxy = SocksProxy("socks5", "me", "secret", "silent" * (fault == "silent"))
        with inside(net.servers):
            process = stack.enter_context(proxy_process(tmp_path, proxy, SERVERS))
        seen = stack.enter_context(captures(net, tmp_path))
        url = process.url(SERVERS, credentials="me:hush-hush@")
        with mounted(
            swarm.made.torrent,
            tmp_path,
            *swarm.options,
            *("--proxy", url),
            environment=ON,
            before=net.host.before,
        ) as mount:
            began = time.monotonic()
            with pytest.raises(OSError, match="Input/output error"):
                read(mount, 0, 1000)
            assert time.monotonic() - began < 20
            assert (mount / "film.mkv").stat().st_size == SIZE
            assert "hush-hush" not in mount.log()
            assert b"hush-hush" not in Path(f"/proc/{mount.pid}/cmdline").read_bytes()
            assert not process.asked()
        assert seen["eth0"].packets() == []
