"""A libtorrent peer in a process of its own: seeder or downloader, on loopback only.

Parent side: the context managers `seed` and `download`.  Child side: `main`, run with
``python -m tests.swarm.seeder``; its first line of stdin is the configuration, its first line of
stdout the ports it listens on, and then each line asks for one thing (see `_Peer`).

DHT, LSD and port mapping are off and every socket is bound to a loopback address, so nothing
ever leaves the machine.  The settings are libtorrent's high-performance ones: the seeder must
never be what a benchmark measures.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.swarm.child import JsonChild, python_child

LOOPBACK = "127.0.0.1"
LOOPBACK6 = "::1"


class LibtorrentPeer:
    """A running libtorrent process; what it tells is of its (first) torrent."""

    def __init__(self, child: JsonChild, ports: dict[str, int]) -> None:
        self.child = child
        self.ports = ports

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self.child.pid

    @property
    def port(self) -> int:
        """The port on 127.0.0.1 (on ::1 if it listens there only)."""
        return self.ports.get(LOOPBACK) or self.ports[LOOPBACK6]

    @property
    def address(self) -> str:
        """HOST:PORT, as `--peer` takes it."""
        if LOOPBACK in self.ports:
            return f"{LOOPBACK}:{self.ports[LOOPBACK]}"
        return f"[{LOOPBACK6}]:{self.ports[LOOPBACK6]}"

    def status(self) -> dict[str, Any]:
        """state, progress (0..1), uploaded, downloaded (payload bytes), peers, seeding."""
        return self.child.ask({"do": "status"})

    def peers(self) -> list[dict[str, Any]]:
        """Of each connected peer: its port, whether rc4, encrypted (the handshake); sources."""
        return list(self.child.ask({"do": "peers"})["peers"])

    def connect(self, host: str, port: int) -> None:
        """Connect to a peer."""
        self.child.ask({"do": "connect", "peer": [host, port]})

    def limit_upload(self, rate: int) -> None:
        """Bytes per second from now on; 0 is no limit."""
        self.child.ask({"do": "limit", "rate": rate})

    def wait_done(self, timeout: float) -> float:
        """Wait until everything is downloaded and verified; the seconds since it was added."""
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            answer = self.child.ask({"do": "wait", "seconds": min(max(left, 0.1), 5)}, 30)
            if answer["seeding"]:
                return float(answer["seconds"])
            if left <= 0:
                raise TimeoutError(f"download not done in {timeout:g} s: {answer}")

    def recheck(self, timeout: float) -> bool:
        """Hash everything on disk again; True when all of it is right."""
        return bool(self.child.ask({"do": "recheck", "seconds": timeout}, timeout + 10)["seeding"])

    def kill(self) -> None:
        """Crash it."""
        self.child.kill()


@contextmanager
def _peer(
    work: Path, name: str, config: dict[str, Any], before: Sequence[str] = ()
) -> Iterator[LibtorrentPeer]:
    work.mkdir(parents=True, exist_ok=True)
    child = python_child("tests.swarm.seeder", stderr=work / f"{name}.log", before=before)
    try:
        ports = child.ask(config, 30)["ports"]
        yield LibtorrentPeer(child, ports)
    finally:
        child.close()


@contextmanager
def seed(
    torrent: Path,
    payload: Path,
    work: Path,
    *,
    ipv4: bool = True,
    ipv6: bool = False,
    port: int = 0,
    announce_port: int = 0,
    utp: bool = False,
    upload_limit: int = 0,
    trackers: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    check: bool = False,
    hosts: Sequence[str] = (),
    beside: Sequence[Path] = (),
    before: Sequence[str] = (),
) -> Iterator[LibtorrentPeer]:
    """Seed the file or directory `payload` of the torrent file `torrent`.

    `beside` are more torrent files whose payload lies in the same directory.

    `work` gets the log.  `announce_port` is what trackers are told instead
    of the port (that of a proxy); `upload_limit` in bytes per second; `check` hashes the payload
    first instead of trusting it; `hosts` are the addresses to listen on instead of loopback;
    `before` is a command that runs it (`network.Home.before`).
    """
    config = {
        "torrent": str(torrent),
        "save_path": str(payload.parent),
        "listen": ",".join(f"{host}:{port}" for host in hosts) or _interfaces(ipv4, ipv6, port),
        "utp": utp,
        "upload_limit": upload_limit,
        "trackers": list(trackers),
        "settings": dict(settings or {}),
        "announce_port": announce_port,
        "seed": not check,
        "wait_seeding": True,
        "beside": [str(path) for path in beside],
    }
    with _peer(work, f"seeder-{torrent.stem}", config, before) as peer:
        yield peer


@contextmanager
def download(
    torrent: Path | str,
    into: Path,
    work: Path,
    *,
    peers: Sequence[tuple[str, int]] = (),
    ipv6: bool = False,
    port: int = 0,
    utp: bool = False,
    trackers: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    hosts: Sequence[str] = (),
    before: Sequence[str] = (),
    wanted: bool = True,
) -> Iterator[LibtorrentPeer]:
    """Download a torrent (a file's path, or a magnet) into the directory `into`.

    `hosts` and `before` as for `seed`; what is not `wanted` is not fetched, and it only takes part.
    """
    into.mkdir(parents=True, exist_ok=True)
    config = {
        "torrent": str(torrent),
        "save_path": str(into),
        "listen": ",".join(f"{host}:{port}" for host in hosts) or _interfaces(True, ipv6, port),
        "utp": utp,
        "upload_limit": 0,
        "wanted": wanted,
        "trackers": list(trackers),
        "settings": dict(settings or {}),
        "seed": False,
        "wait_seeding": False,
        "peers": [list(peer) for peer in peers],
    }
    with _peer(work, "downloader", config, before) as peer:
        yield peer


def _interfaces(ipv4: bool, ipv6: bool, port: int) -> str:
    hosts = [LOOPBACK] * ipv4 + [f"[{LOOPBACK6}]"] * ipv6
    return ",".join(f"{host}:{port}" for host in hosts)


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    import libtorrent as lt

    settings: dict[str, Any] = dict(lt.high_performance_seed())
    settings.update(
        listen_interfaces=config["listen"],
        enable_dht=False,
        enable_lsd=False,
        enable_upnp=False,
        enable_natpmp=False,
        enable_ip_notifier=False,
        webtorrent_stun_server="",
        enable_incoming_utp=config["utp"],
        enable_outgoing_utp=config["utp"],
        allow_multiple_connections_per_ip=True,
        allow_multiple_connections_per_pid=True,
        out_enc_policy=int(lt.enc_policy.pe_disabled),
        in_enc_policy=int(lt.enc_policy.pe_enabled),
        alert_mask=lt.alert_category.status | lt.alert_category.error,
        alert_queue_size=10_000,
        cache_size=-1,
        unchoke_slots_limit=100,
        unchoke_interval=1,
        connections_limit=500,
        max_out_request_queue=1500,
        max_allowed_in_request_queue=2000,
        send_buffer_watermark=8 << 20,
        send_buffer_watermark_factor=200,
        send_buffer_low_watermark=1 << 20,
        max_queued_disk_bytes=64 << 20,
        aio_threads=4,
        hashing_threads=2,
        close_redundant_connections=False,
        peer_connect_timeout=5,
        min_reconnect_time=1,
        connection_speed=100,
        suggest_mode=0,
        ssrf_mitigation=False,
        announce_port=config.get("announce_port", 0),
        validate_https_trackers=False,
        tracker_backoff=1,
        stop_tracker_timeout=1,
    )
    settings.update(config.get("settings", {}))
    return settings


class _Peer:
    """The child: one libtorrent session, one torrent."""

    def __init__(self, config: dict[str, Any]) -> None:
        import libtorrent as lt

        self.lt = lt
        settings: Any = _settings(config)
        self.session = lt.session(settings)
        self.ports = self._listen_ports(config["listen"].count(",") + 1)
        self.started = time.monotonic()
        self.finished: float | None = None
        torrent = config["torrent"]
        if torrent.startswith("magnet:"):
            params = lt.parse_magnet_uri(torrent)
        else:
            params = lt.load_torrent_file(torrent)
        params.save_path = config["save_path"]
        params.trackers = [*params.trackers, *config["trackers"]]
        flags = params.flags & ~lt.torrent_flags.auto_managed & ~lt.torrent_flags.paused
        if config["seed"]:
            flags |= lt.torrent_flags.seed_mode
        params.flags = flags
        if not config.get("wanted", True):
            params.file_priorities = [0] * 1000  # libtorrent forgets what is too many
        self.handle = self.session.add_torrent(params)
        for path in config.get("beside", ()):
            more = lt.load_torrent_file(path)
            more.save_path, more.flags = config["save_path"], flags
            self.session.add_torrent(more)
        if config["upload_limit"]:
            self.handle.set_upload_limit(config["upload_limit"])
        if config["wait_seeding"] and not self.do_wait({"seconds": 25})["seeding"]:
            raise RuntimeError(f"not seeding: {self.do_status({})}")
        for host, port in config.get("peers", ()):
            self.handle.connect_peer((host, port))

    def _listen_ports(self, wanted: int) -> dict[str, int]:
        ports: dict[str, int] = {}
        deadline = time.monotonic() + 10
        while len(ports) < wanted and time.monotonic() < deadline:
            self.session.wait_for_alert(200)
            for alert in self.session.pop_alerts():
                if isinstance(alert, self.lt.listen_succeeded_alert):
                    if alert.socket_type == self.lt.socket_type_t.tcp:
                        ports[str(alert.address)] = alert.port
                elif isinstance(alert, self.lt.listen_failed_alert):
                    raise RuntimeError(alert.message())
        if not ports:
            raise RuntimeError("listens nowhere")
        return ports

    def do_status(self, request: dict[str, Any]) -> dict[str, Any]:
        status = self.handle.status()
        return {
            "state": str(status.state),
            "progress": status.progress,
            "seeding": bool(status.is_seeding),
            "uploaded": status.total_payload_upload,
            "downloaded": status.total_payload_download,
            "wasted": status.total_redundant_bytes + status.total_failed_bytes,
            "peers": status.num_peers,
            "trouble": status.errc.message() if status.errc.value() else "",
        }

    def do_peers(self, request: dict[str, Any]) -> dict[str, Any]:
        lt = self.lt.peer_info
        peers = [
            {
                "port": peer.ip[1],
                "rc4": bool(peer.flags & lt.rc4_encrypted),
                "encrypted": bool(peer.flags & (lt.rc4_encrypted | lt.plaintext_encrypted)),
                "sources": int(peer.source),
            }
            for peer in self.handle.get_peer_info()
        ]
        return {"peers": peers}

    def do_connect(self, request: dict[str, Any]) -> dict[str, Any]:
        host, port = request["peer"]
        self.handle.connect_peer((host, port))
        return {}

    def do_limit(self, request: dict[str, Any]) -> dict[str, Any]:
        self.handle.set_upload_limit(request["rate"])
        return {}

    def do_wait(self, request: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + float(request["seconds"])
        while not (seeding := self.handle.status().is_seeding) and time.monotonic() < deadline:
            self.session.wait_for_alert(20)
            self.session.pop_alerts()
            time.sleep(0.005)
        if seeding and self.finished is None:
            self.finished = time.monotonic()
            self._flush()
        seconds = (self.finished or time.monotonic()) - self.started
        return self.do_status({}) | {"seconds": seconds}

    def _flush(self) -> None:
        """Wait until what was downloaded is in the files, for whoever compares them."""
        self.handle.flush_cache()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            self.session.wait_for_alert(100)
            if any(isinstance(a, self.lt.cache_flushed_alert) for a in self.session.pop_alerts()):
                return
        raise RuntimeError("the disk cache was not flushed in 10 s")

    def do_recheck(self, request: dict[str, Any]) -> dict[str, Any]:
        self.handle.force_recheck()
        time.sleep(0.2)
        return self.do_wait(request)


def main() -> None:
    """Serve requests from stdin until it closes."""

    def answer(value: dict[str, Any]) -> None:
        print(json.dumps(value), flush=True)

    try:
        peer = _Peer(json.loads(sys.stdin.readline()))
    except Exception as error:
        answer({"error": f"{type(error).__name__}: {error}"})
        raise
    answer({"ports": peer.ports})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer(getattr(peer, f"do_{request['do']}")(request))
        except Exception as error:
            answer({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
