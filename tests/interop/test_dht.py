"""The DHT with real nodes: a magnet without trackers, both ways, over IPv4 and IPv6."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.swarm.dht import dht_network
from tests.swarm.mounted import mounted
from tests.swarm.payload import sha256_tree, write_tree
from tests.swarm.torrents import make_torrent

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
            print(f'took {took:.2f} s')
            assert sha256_tree(mount / "tree") == sha256_tree(tree)
            network.stop_seeding()
            network.download(made.magnet(), tmp_path / "copy", 90)
            assert sha256_tree(tmp_path / "copy" / "tree") == sha256_tree(tree)
        assert took < SOON
        assert (mount.cache / "dht-nodes").stat().st_size > 100
