r"""A small Internet in network namespaces: homes behind NAT boxes that open ports on request.

    home 1 (192.168.71.2) - box 1 - 11.0.0.1 \
    home 2 (192.168.72.2) - box 2 - 11.0.0.2 - a switch; nothing leads out of it
    a public host -------------- 11.0.0.100 /

A box is a router with netfilter's masquerading, which lets nothing in and keeps ports where it can,
and a real `miniupnpd` (PCP, NAT-PMP, UPnP) if one of these is on. Its outer address is one that no
real network sees: miniupnpd would not open ports of a documentation or private one. Needs root.

Another: one host with two ways to the same servers, to see by which of them packets leave. A third:
two hosts with a router between, whose second link is narrow.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.swarm.ending import end

_RULES = """
table inet filter {
  chain miniupnpd { }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname "lan" oifname "wan" accept
    jump miniupnpd
  }
  chain input {
    type filter hook input priority 0;
    ct state established,related accept
    iifname "wan" drop
  }
  chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
  chain postrouting {
    type nat hook postrouting priority 100; jump postrouting_miniupnpd
    oifname "wan" masquerade
  }
}
"""
_SETTINGS = """
ext_ifname=wan
ext_ip={outer}
listening_ip=lan
enable_natpmp={pcp}
enable_upnp={upnp}
secure_mode=yes
uuid=00000000-0000-0000-0000-000000000000
allow 1024-65535 0.0.0.0/0 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""


PUBLIC = "11.0.0.100"
"""The address of the host that is behind no box."""


@dataclass(frozen=True)
class Home:
    """A host behind a NAT box: its own address, and the box's outer one; or a public host."""

    namespace: str
    address: str
    outer: str

    @property
    def before(self) -> tuple[str, ...]:
        """A command in front of another that runs it here. The file system stays the same."""
        return ("nsenter", f"--net=/run/netns/{self.namespace}")


def _run(*command: str, text: str | None = None) -> None:
    done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


@contextmanager
def _namespace(name: str) -> Iterator[str]:
    _run("ip", "netns", "add", name)
    try:
        _run("ip", "-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        _run("ip", "netns", "del", name)


def _address(namespace: str, device: str, address: str) -> None:
    _run("ip", "-n", namespace, "addr", "add", address, "dev", device)
    _run("ip", "-n", namespace, "link", "set", device, "up")


@contextmanager
def _port_opener(box: str, outer: str, work: Path, *, pcp: bool, upnp: bool) -> Iterator[None]:
    """miniupnpd, until it listens."""
    settings, log = work / f"{box}.conf", work / f"{box}.log"
    words = {True: "yes", False: "no"}
    settings.write_text(_SETTINGS.format(outer=outer, pcp=words[pcp], upnp=words[upnp]))
    command = ["ip", "netns", "exec", box, "miniupnpd", "-d", "-f", str(settings)]
    command += ["-P", str(work / f"{box}.pid")]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, process_group=0)
    try:
        deadline = time.monotonic() + 10
        wanted = "Listening for NAT-PMP/PCP" if pcp else "HTTP listening"
        while wanted not in log.read_text(errors="replace"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"miniupnpd: {log.read_text(errors='replace')}")
            time.sleep(0.02)
        yield
    finally:
        end(process)


@contextmanager
def homes(
    work: Path, count: int = 2, *, pcp: bool = True, upnp: bool = True, public: bool = False
) -> Iterator[list[Home]]:
    """So many homes, each behind a box of its own that speaks `pcp` (and NAT-PMP) or `upnp`; the
    last one is the `public` host, if there is to be one."""
    mark = f"tfs{os.getpid()}"
    with ExitStack() as stack:
        middle = stack.enter_context(_namespace(f"{mark}net"))
        _run("ip", "-n", middle, "link", "add", "switch", "type", "bridge")
        _run("ip", "-n", middle, "link", "set", "switch", "up")
        made = []
        peer = ("type", "veth", "peer", "name")
        for number in range(1, count + 1):
            home = stack.enter_context(_namespace(f"{mark}home{number}"))
            box = stack.enter_context(_namespace(f"{mark}box{number}"))
            inner, outer = f"192.168.{70 + number}", f"11.0.0.{number}"
            _run("ip", "-n", home, "link", "add", "eth0", *peer, "lan", "netns", box)
            _run("ip", "-n", box, "link", "add", "wan", *peer, f"port{number}", "netns", middle)
            _address(home, "eth0", f"{inner}.2/24")
            _address(box, "lan", f"{inner}.1/24")
            _address(box, "wan", f"{outer}/24")
            _run("ip", "-n", middle, "link", "set", f"port{number}", "master", "switch", "up")
            _run("ip", "-n", home, "route", "add", "default", "via", f"{inner}.1")
            _run("ip", "netns", "exec", box, "sysctl", "-qw", "net.ipv4.ip_forward=1")
            _run("ip", "netns", "exec", box, "nft", "-f", "-", text=_RULES)
            if pcp or upnp:
                stack.enter_context(_port_opener(box, outer, work, pcp=pcp, upnp=upnp))
            made.append(Home(home, f"{inner}.2", outer))
        if public:
            host = stack.enter_context(_namespace(f"{mark}public"))
            _run("ip", "-n", host, "link", "add", "eth0", *peer, "port100", "netns", middle)
            _address(host, "eth0", f"{PUBLIC}/24")
            _run("ip", "-n", middle, "link", "set", "port100", "master", "switch", "up")
            made.append(Home(host, PUBLIC, PUBLIC))
        yield made


VPN, SERVERS = "10.99.0.2", "10.99.0.1"
"""Addresses of a host's `vpn0`, and of whom it reaches by that and by `eth0`."""
VPN6, SERVERS6 = "fd99::2", "fd99::1"


@dataclass(frozen=True)
class TwoWays:
    """A host whose `vpn0` leads to the servers, and so does its default route, by `eth0`."""

    host: Home
    servers: str
    """The namespace of the servers."""
    ipv6: bool = False

    def vpn_down(self) -> None:
        """Take it down. From now on the kernel sends by `eth0` what nothing holds back."""
        _run("ip", "-n", self.host.namespace, "link", "set", "vpn0", "down")

    def vpn_up(self) -> None:
        """And up again; its IPv6 address had gone with it."""
        _run("ip", "-n", self.host.namespace, "link", "set", "vpn0", "up")
        if self.ipv6:
            place = (f"{VPN6}/64", "dev", "vpn0", "nodad")
            _run("ip", "-n", self.host.namespace, "addr", "replace", *place)

    def vpn_gone(self) -> None:
        """As when a VPN's program ends: the device is no more."""
        _run("ip", "-n", self.host.namespace, "link", "del", "vpn0")

    def vpn_back(self, end: int = 2) -> None:
        """As when it starts again: another device of the same name, with this address."""
        self._link("vpn", 99, end)

    def vpn_renumbered(self, before: int, end: int) -> None:
        """The device stays and its address goes; a new one comes."""
        address = ("dev", "vpn0", "10.99.0.")
        for word, number in (("del", before), ("add", end)):
            place = f"{address[2]}{number}/24"
            _run("ip", "-n", self.host.namespace, "addr", word, place, *address[:2])

    def _link(self, name: str, number: int, end: int = 2) -> None:
        peer = ("type", "veth", "peer", "name", f"{name}1", "netns", self.servers)
        _run("ip", "-n", self.host.namespace, "link", "add", f"{name}0", *peer)
        for namespace, device, own in (
            (self.servers, f"{name}1", 1),
            (self.host.namespace, f"{name}0", end),
        ):
            if self.ipv6:
                place = (f"fd{number}::{own}/64", "dev", device, "nodad")
                _run("ip", "-n", namespace, "addr", "add", *place)
            _address(namespace, device, f"10.{number}.0.{own}/24")


@contextmanager
def two_ways(*, ipv6: bool = False) -> Iterator[TwoWays]:
    """Silent until somebody sends: there is no IPv6, whose kernel would, unless it is wanted."""
    mark = f"tfs{os.getpid()}"
    with ExitStack() as stack:
        host = stack.enter_context(_namespace(f"{mark}host"))
        servers = stack.enter_context(_namespace(f"{mark}servers"))
        for name in (host, servers):
            if not ipv6:
                off = "net.ipv6.conf.default.disable_ipv6=1"  # of devices to come, not of loopback
                _run("ip", "netns", "exec", name, "sysctl", "-qw", off)
        net = TwoWays(Home(host, VPN, ""), servers, ipv6)
        net._link("vpn", 99)
        net._link("eth", 98)
        # the servers' own, so that they go on when the line to them is another one
        _run("ip", "-n", servers, "addr", "add", f"{SERVERS}/32", "dev", "lo")
        _run("ip", "-n", host, "route", "add", "default", "via", "10.98.0.1")
        if ipv6:
            _run("ip", "-n", servers, "addr", "add", f"{SERVERS6}/128", "dev", "lo", "nodad")
            _run("ip", "-6", "-n", host, "route", "add", "default", "via", "fd98::1")
        yield net


_SILENT = """
table inet filter {
  chain output {
    type filter hook output priority 0;
    icmp type destination-unreachable drop
    icmpv6 type packet-too-big drop
  }
}
"""


@dataclass(frozen=True)
class NarrowPath:
    """Two hosts; what the second link cannot carry is dropped in silence or cut, never told of."""

    wide: str
    """The namespace of the host whose own link is Ethernet's."""
    narrow: str
    """That of the host whose own link is the narrow one."""
    addresses: Mapping[str, tuple[str, str]]
    """Of the two, by `ipv4` and `ipv6`."""


@contextmanager
def narrow_path(mtu: int) -> Iterator[NarrowPath]:
    """A path with a link of `mtu` bytes in the middle, whose router sends no ICMP about it."""
    mark = f"tfs{os.getpid()}"
    with ExitStack() as stack:
        wide, narrow = (stack.enter_context(_namespace(mark + end)) for end in ("wide", "narrow"))
        router = stack.enter_context(_namespace(f"{mark}router"))
        for number, host in enumerate((wide, narrow), 1):
            peer = ("type", "veth", "peer", "name", f"port{number}", "netns", router)
            _run("ip", "-n", host, "link", "add", "eth0", *peer)
            if host == narrow:
                _run("ip", "-n", host, "link", "set", "eth0", "mtu", str(mtu))
                _run("ip", "-n", router, "link", "set", f"port{number}", "mtu", str(mtu))
            for net, prefix in ((f"10.80.{number}.", "24"), (f"fd80:{number}::", "64")):
                last = () if "." in net else ("nodad",)
                for namespace, device, end in ((router, f"port{number}", 1), (host, "eth0", 2)):
                    place = (f"{net}{end}/{prefix}", "dev", device, *last)
                    _run("ip", "-n", namespace, "addr", "add", *place)
                    _run("ip", "-n", namespace, "link", "set", device, "up")
                family = "-4" if "." in net else "-6"
                _run("ip", family, "-n", host, "route", "add", "default", "via", f"{net}1")
        for option in ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"):
            _run("ip", "netns", "exec", router, "sysctl", "-qw", option)
        _run("ip", "netns", "exec", router, "nft", "-f", "-", text=_SILENT)
        addresses = {"ipv4": ("10.80.1.2", "10.80.2.2"), "ipv6": ("fd80:1::2", "fd80:2::2")}
        yield NarrowPath(wide, narrow, addresses)


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread, and what it starts and opens meanwhile, is in a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(path: str) -> None:
        with open(path, "rb") as file:
            if libc.setns(file.fileno(), 0x40000000):  # CLONE_NEWNET
                raise OSError(ctypes.get_errno(), f"cannot enter {path}")

    with open("/proc/thread-self/ns/net", "rb") as ours:
        enter(f"/run/netns/{namespace}")
        try:
            yield
        finally:
            if libc.setns(ours.fileno(), 0x40000000):
                raise OSError(ctypes.get_errno(), "cannot come back")
