"""The DHT with real nodes: a magnet without trackers, both ways, over IPv4 and IPv6."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.interop.copying import wait_until
from tests.swarm.dht import dht_network
from tests.swarm.mounted import mounted
from tests.swarm.payload import sha256_tree, write_tree
from tests.swarm.ports import free_port
from tests.swarm.torrents import Version, make_torrent

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

SOON = 3.0
"""Seconds from the start of the command to a list of files."""

WITH_DHT = {"TORRENTFS_NO_DHT": "0"}


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
def test_a_magnet_without_trackers(tmp_path: Path, ipv6: bool) -> None:
    """Found through 50 nodes, libtorrent's and ours, and found there in turn by libtorrent."""
    tree = write_tree(tmp_path / "payload" / "tree")
    made = make_torrent(tree, tmp_path / "t.torrent")
    assert made.v1 is not None
    info_hash = bytes.fromhex(made.v1)
    with dht_network(tmp_path, ipv6=ipv6) as network:
        network.seed(made.torrent, tree)
        network.wait_stored(info_hash)
        started = time.monotonic()
        options = network.bootstrap_options()
        with mounted(made.magnet(), tmp_path, *options, environment=WITH_DHT) as mount:
            took = time.monotonic() - started
            assert sha256_tree(mount / "tree") == sha256_tree(tree)
            network.stop_seeding()
            network.download(made.magnet(), tmp_path / "copy", 90)
            assert sha256_tree(tmp_path / "copy" / "tree") == sha256_tree(tree)
        assert took < SOON
        assert (mount.cache / "dht-nodes").stat().st_size > 100


@pytest.mark.parametrize("version", ["v2", "hybrid"])
def test_v2_magnets(tmp_path: Path, version: Version) -> None:
    """A v2 torrent is looked up by the first 20 bytes of its hash (BEP 52), a hybrid by both."""
    tree = write_tree(tmp_path / "payload" / "tree")
    made = make_torrent(tree, tmp_path / "t.torrent", version=version)
    assert made.v2 is not None
    with dht_network(tmp_path, libtorrent=8, ours=8) as network:
        network.seed(made.torrent, tree)
        network.wait_stored(bytes.fromhex(made.v2)[:20])
        options = network.bootstrap_options()
        magnet = f"magnet:?xt=urn:btmh:1220{made.v2}"
        with mounted(magnet, tmp_path, *options, environment=WITH_DHT) as mount:
            assert sha256_tree(mount / "tree") == sha256_tree(tree)


def test_the_second_start_needs_no_bootstrap(tmp_path: Path) -> None:
    """The nodes of the first one are enough, and its metadata is forgotten with the torrent."""
    trees = [write_tree(tmp_path / "payload" / name) for name in ("one", "two")]
    made = [make_torrent(tree, tmp_path / f"{tree.name}.torrent") for tree in trees]
    with dht_network(tmp_path, libtorrent=8, ours=8) as network:
        for tree, one in zip(trees, made, strict=True):
            network.seed(one.torrent, tree)
            assert one.v1 is not None
            network.wait_stored(bytes.fromhex(one.v1))
        with mounted(
            made[0].magnet(), tmp_path, *network.bootstrap_options(), environment=WITH_DHT
        ) as mount:
            assert sha256_tree(mount / "one") == sha256_tree(trees[0])
        nowhere = f"127.0.0.1:{free_port()}"
        with mounted(
            made[1].magnet(), tmp_path, "--dht-bootstrap", nowhere, environment=WITH_DHT
        ) as mount:
            assert sha256_tree(mount / "two") == sha256_tree(trees[1])


def test_an_indexer_learns_what_we_keep(tmp_path: Path) -> None:
    """BEP 51: libtorrent asks a node of ours that was told of a peer."""
    tree = write_tree(tmp_path / "payload" / "tree")
    made = make_torrent(tree, tmp_path / "t.torrent")
    assert made.v1 is not None
    info_hash = bytes.fromhex(made.v1)
    with dht_network(tmp_path, libtorrent=8, ours=8) as network:
        network.seed(made.torrent, tree)
        network.wait_stored(info_hash)
        samples = [network.index(node, info_hash) for node in network.our_addresses]
        assert (1, {info_hash}) in samples
        assert all(sample in ((1, {info_hash}), (0, set())) for sample in samples)


def test_a_publishers_newest_torrent(tmp_path: Path) -> None:
    """BEP 46: the link names no torrent; libtorrent's nodes check and keep what names it.

    The mount follows: what he names next takes the place of the first, and who reads that reads on.
    """
    sizes = {"big": 8_000_000, "small": 100}
    trees = [write_tree(tmp_path / str(n) / "weekly", sizes, seed=n) for n in (10, 20)]
    made = [make_torrent(tree, tmp_path / f"{tree.parent.name}.torrent") for tree in trees]
    hashes = [bytes.fromhex(one.v1 or "") for one in made]
    with dht_network(tmp_path, libtorrent=8, ours=8) as network:
        for tree, one, info_hash in zip(trees, made, hashes, strict=True):
            network.seed(one.torrent, tree)
            network.wait_stored(info_hash)
        key = network.publish(hashes[0], b"weekly")
        link = f"magnet:?xs=urn:btpk:{key.hex()}&s={b'weekly'.hex()}"
        options = [*network.bootstrap_options(), "--follow-interval", "1s"]
        with mounted(link, tmp_path, *options, environment=WITH_DHT) as mount:
            assert (mount / "weekly/small").read_bytes() == (trees[0] / "small").read_bytes()
            with (mount / "weekly/big").open("rb", buffering=0) as reader:
                start = reader.read(10)
                first = (mount / "weekly").stat().st_ino
                assert network.publish(hashes[1], b"weekly", 2) == key
                wait_until(lambda: (mount / "weekly").stat().st_ino != first)
                assert os.listdir(mount.path) == ["weekly"]
                assert sha256_tree(mount / "weekly") == sha256_tree(trees[1])
                assert start + reader.read() == (trees[0] / "big").read_bytes()
