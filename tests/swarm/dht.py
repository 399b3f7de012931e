"""A DHT of real nodes on loopback: libtorrent's and ours mixed, in two processes of their own.

Parent side: `dht_network`. Child side: `main`, run with ``python -m tests.swarm.dht``; the first
line of stdin is the configuration, each later one asks for one thing (`do_...`).

Over IPv4 every libtorrent node has an address of its own (127.0.0.x); over IPv6 there is only ::1,
so there they differ by port. What libtorrent does against many nodes at one address is off.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any

from tests.swarm.child import JsonChild, python_child

Address = tuple[str, int]


class DhtNetwork:
    """Running nodes; `addresses` are theirs, libtorrent's first."""

    def __init__(self, libtorrent: JsonChild, ours: JsonChild, addresses: list[Address]) -> None:
        self.libtorrent = libtorrent
        self.ours = ours
        self.addresses = addresses
        self.our_addresses: list[Address] = []

    def bootstrap_options(self, count: int = 2) -> list[str]:
        """`--dht-bootstrap` of some nodes of both kinds."""
        chosen = [*self.addresses[:1], *self.addresses[-(count - 1) :]]
        return [
            word
            for host, port in chosen
            for word in ("--dht-bootstrap", f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        ]

    def sizes(self) -> list[int]:
        """How many nodes each one knows."""
        return [
            *self.libtorrent.ask({"do": "sizes"})["sizes"],
            *self.ours.ask({"do": "sizes"})["sizes"],
        ]

    def wait_grown(self, least: int, timeout: float = 30.0) -> None:
        """Wait until nearly every node knows `least` others."""
        deadline = time.monotonic() + timeout
        while True:
            sizes = self.sizes()
            if sum(size >= least for size in sizes) >= 0.9 * len(sizes):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"the DHT has not grown in {timeout:g} s: {sizes}")
            time.sleep(0.1)

    def stored(self, info_hash: bytes) -> int:
        """How many of our nodes keep a peer of this torrent."""
        return int(self.ours.ask({"do": "stored", "info_hash": info_hash.hex()})["nodes"])

    def wait_stored(self, info_hash: bytes, timeout: float = 30.0) -> None:
        """Wait until a node of ours was told of a peer."""
        deadline = time.monotonic() + timeout
        while not self.stored(info_hash):
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody was told of a peer in {timeout:g} s")
            time.sleep(0.05)

    def index(self, address: Address, target: bytes) -> tuple[int, set[bytes]]:
        """Let libtorrent ask a node for a sample of its torrents (BEP 51): how many, and some."""
        request = {"do": "index", "at": list(address), "target": target.hex()}
        answer = self.libtorrent.ask(request)
        return int(answer["total"]), {bytes.fromhex(one) for one in answer["samples"]}

    def seed(self, torrent: Path, payload: Path) -> None:
        """libtorrent's first node seeds; only the DHT is told."""
        self.libtorrent.ask(
            {"do": "seed", "node": 0, "torrent": str(torrent), "save_path": str(payload.parent)}
        )

    def publish(self, info_hash: bytes, salt: bytes = b"", sequence: int = 1) -> bytes:
        """Name a torrent as a publisher's newest (BEP 46) at libtorrent's nodes; his key."""
        answer = self.ours.ask(
            {
                "do": "publish",
                "info_hash": info_hash.hex(),
                "salt": salt.hex(),
                "sequence": sequence,
                "at": [one for one in self.addresses if one not in self.our_addresses],
            },
            30,
        )
        assert answer["taken"], "no node of libtorrent's took the item"
        return bytes.fromhex(answer["key"])

    def stop_seeding(self) -> None:
        """It stops: nobody has the payload any more but who got it."""
        self.libtorrent.ask({"do": "stop", "node": 0})

    def download(self, magnet: str, into: Path, timeout: float) -> None:
        """libtorrent's second node fetches a magnet link that it looks up in the DHT."""
        into.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + timeout
        self.libtorrent.ask({"do": "download", "node": 1, "magnet": magnet, "save_path": str(into)})
        while not (status := self.libtorrent.ask({"do": "status", "node": 1}))["seeding"]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"not downloaded in {timeout:g} s: {status}")
            time.sleep(0.05)


@contextmanager
def dht_network(
    work: Path, *, ipv6: bool = False, libtorrent: int = 25, ours: int = 25
) -> Iterator[DhtNetwork]:
    """So many nodes of each kind, told of some others, all of one address family."""
    with ExitStack() as stack:
        children = {}
        addresses: dict[str, list[Address]] = {}
        for kind, count in (("libtorrent", libtorrent), ("ours", ours)):
            child = python_child("tests.swarm.dht", stderr=work / f"dht-{kind}.log")
            stack.callback(child.close)
            answer = child.ask({"kind": kind, "count": count, "ipv6": ipv6}, 60)
            addresses[kind] = [(host, port) for host, port in answer["addresses"]]
            children[kind] = child
        everybody = [*addresses["libtorrent"], *addresses["ours"]]
        rng = Random(7)
        for kind, child in children.items():
            others = [rng.sample(everybody, min(6, len(everybody))) for _ in addresses[kind]]
            child.ask({"do": "introduce", "others": others})
        network = DhtNetwork(children["libtorrent"], children["ours"], everybody)
        network.our_addresses = addresses["ours"]
        network.wait_grown(min(8, len(everybody) // 2))
        yield network


def _hosts(ipv6: bool, count: int, first: int) -> list[str]:
    return ["::1"] * count if ipv6 else [f"127.0.0.{first + n}" for n in range(count)]


# -- libtorrent's nodes ------------------------------------------------------------------------


class _LibtorrentNodes:
    """The child: a libtorrent session for each node."""

    def __init__(self, config: dict[str, Any]) -> None:
        import libtorrent as lt

        self.lt = lt
        self.sessions: list[Any] = []
        self.handles: dict[int, list[Any]] = {}
        self.addresses: list[Address] = []
        for host in _hosts(config["ipv6"], config["count"], 10):
            session = lt.session(self._settings(host))
            self.sessions.append(session)
            self.addresses.append((host, self._udp_port(session)))

    def _settings(self, host: str) -> Any:
        lt = self.lt
        shown = f"[{host}]" if ":" in host else host
        return {
            "listen_interfaces": f"{shown}:0",
            "enable_dht": True,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_ip_notifier": False,
            "enable_incoming_utp": False,
            "enable_outgoing_utp": False,
            "dht_bootstrap_nodes": "",
            "dht_restrict_routing_ips": False,
            "dht_restrict_search_ips": False,
            "dht_prefer_verified_node_ids": False,
            "dht_ignore_dark_internet": False,
            "dht_block_ratelimit": 100_000,
            "dht_upload_rate_limit": 10_000_000,
            "dht_announce_interval": 10,
            "allow_multiple_connections_per_ip": True,
            "out_enc_policy": int(lt.enc_policy.pe_disabled),
            "ssrf_mitigation": False,
            "webtorrent_stun_server": "",
            "aio_threads": 1,
            "hashing_threads": 1,
            "min_reconnect_time": 1,
            "peer_connect_timeout": 5,
            "alert_mask": lt.alert_category.status | lt.alert_category.dht,
            "alert_queue_size": 10_000,
        }

    def _udp_port(self, session: Any) -> int:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            session.wait_for_alert(200)
            for alert in session.pop_alerts():
                if (
                    isinstance(alert, self.lt.listen_succeeded_alert)
                    and alert.socket_type == self.lt.socket_type_t.utp
                ):
                    return int(alert.port)
        raise RuntimeError("listens nowhere")

    def do_introduce(self, request: dict[str, Any]) -> dict[str, Any]:
        for session, others in zip(self.sessions, request["others"], strict=True):
            for host, port in others:
                session.add_dht_node((host, port))
        return {}

    def do_sizes(self, request: dict[str, Any]) -> dict[str, Any]:
        sizes = []
        for session in self.sessions:
            session.post_session_stats()
            sizes.append(self._nodes(session))
        return {"sizes": sizes}

    def _nodes(self, session: Any) -> int:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            session.wait_for_alert(100)
            for alert in session.pop_alerts():
                if isinstance(alert, self.lt.session_stats_alert):
                    return int(alert.values["dht.dht_nodes"])
        raise RuntimeError("no statistics")

    def do_index(self, request: dict[str, Any]) -> dict[str, Any]:
        session = self.sessions[0]
        host, port = request["at"]
        session.dht_sample_infohashes(
            (host, port), self.lt.sha1_hash(bytes.fromhex(request["target"]))
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            session.wait_for_alert(100)
            for alert in session.pop_alerts():
                if isinstance(alert, self.lt.dht_sample_infohashes_alert):
                    samples = [one.to_bytes().hex() for one in alert.samples]
                    return {"total": alert.num_infohashes, "samples": samples}
        raise RuntimeError("no sample")

    def _add(self, request: dict[str, Any], params: Any, flags: Any) -> dict[str, Any]:
        params.save_path = request["save_path"]
        params.flags = flags & ~self.lt.torrent_flags.auto_managed & ~self.lt.torrent_flags.paused
        handle = self.sessions[request["node"]].add_torrent(params)
        self.handles.setdefault(request["node"], []).append(handle)
        return {}

    def do_seed(self, request: dict[str, Any]) -> dict[str, Any]:
        params = self.lt.load_torrent_file(request["torrent"])
        return self._add(request, params, params.flags | self.lt.torrent_flags.seed_mode)

    def do_download(self, request: dict[str, Any]) -> dict[str, Any]:
        params = self.lt.parse_magnet_uri(request["magnet"])
        return self._add(request, params, params.flags)

    def do_status(self, request: dict[str, Any]) -> dict[str, Any]:
        status = self.handles[request["node"]][-1].status()
        return {
            "seeding": bool(status.is_seeding),
            "progress": status.progress,
            "peers": status.num_peers,
        }

    def do_stop(self, request: dict[str, Any]) -> dict[str, Any]:
        for handle in self.handles.pop(request["node"]):
            self.sessions[request["node"]].remove_torrent(handle)
        return {}


# -- ours --------------------------------------------------------------------------------------


async def _run_ours(config: dict[str, Any]) -> None:
    import trio

    from torrentfs.discovery.dht.node import DhtNode
    from torrentfs.transports.udp_port import UdpPort

    nodes: list[DhtNode] = []
    addresses: list[Address] = []
    async with trio.open_nursery() as nursery:
        for host in _hosts(config["ipv6"], config["count"], 100):
            port = UdpPort(0, bind=host)
            await nursery.start(port.serve)
            node = DhtNode(port)
            await nursery.start(node.run)
            nodes.append(node)
            addresses.append((host, port.port))
        _answer({"addresses": addresses})
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            request = json.loads(line)
            now = trio.current_time()
            match request["do"]:
                case "introduce":
                    for node, others in zip(nodes, request["others"], strict=True):
                        node.dht.add_routers([(host, port) for host, port in others], now)
                        node._flush()
                    _answer({})
                case "publish":
                    _answer(await _publish(nodes[0], request))
                case "sizes":
                    _answer({"sizes": [node.dht.nodes for node in nodes]})
                case "stored":
                    info_hash = bytes.fromhex(request["info_hash"])
                    storages = [node.dht.answers.storage for node in nodes]
                    ipv6 = config["ipv6"]
                    found = [s.sample(info_hash, 1, ipv6=ipv6, now=now) for s in storages]
                    _answer({"nodes": sum(map(bool, found))})
        nursery.cancel_scope.cancel()


async def _publish(node: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Sign an item and put it at the nodes of the request; how many took it, and the key."""
    import trio
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from torrentfs.discovery.dht.items import signed_part, target_of
    from torrentfs.metainfo.bencoding import encode
    from torrentfs.wire.krpc import GetItem, Item, PutItem, Response

    private = Ed25519PrivateKey.from_private_bytes(b"a publisher of tests".ljust(32))
    key = private.public_key().public_bytes_raw()
    value = encode({"ih": bytes.fromhex(request["info_hash"])})
    sequence = request["sequence"]
    bare = Item(value, key, bytes(64), sequence, bytes.fromhex(request["salt"]))
    item = Item(value, key, private.sign(signed_part(bare)), sequence, bare.salt)
    taken: list[Address] = []

    def put(address: Address) -> None:
        def on_token(response: Response, now: float) -> None:
            node.dht.ask(
                address,
                PutItem(item, response.token or b""),
                now,
                on_answer=lambda response, now: taken.append(address),
                on_lost=lambda now: None,
            )

        node.dht.ask(
            address,
            GetItem(target_of(item)),
            trio.current_time(),
            on_answer=on_token,
            on_lost=lambda now: None,
        )

    for host, port in request["at"]:
        put((host, port))
    node._flush()
    with trio.move_on_after(10):
        while len(taken) < len(request["at"]):  # noqa: ASYNC110
            await trio.sleep(0.02)
    return {"taken": len(taken), "key": key.hex()}


def _answer(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)


def main() -> None:
    """Serve requests from stdin until it closes."""
    config = json.loads(sys.stdin.readline())
    if config["kind"] == "ours":
        import trio

        trio.run(_run_ours, config)
        return
    nodes = _LibtorrentNodes(config)
    _answer({"addresses": nodes.addresses})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            _answer(getattr(nodes, f"do_{request['do']}")(request))
        except Exception as error:
            _answer({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
