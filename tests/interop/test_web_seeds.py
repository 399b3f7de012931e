"""Web seeds alone and beside peers: nginx for BEP 19, a small script for BEP 17."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import libtorrent as lt
import pytest

from tests.interop.copying import (
    KIB,
    MIB,
    STRANGE_TREE,
    VERSIONS,
    assert_same,
    copy_equals,
    cp,
    reading,
    wait_until,
)
from tests.interop.httpseed import http_seed
from tests.swarm.mounted import Mounted, mounted
from tests.swarm.nginx import WebSeed, wait_quiet, web_seed
from tests.swarm.payload import sha256_file, write_file, write_tree
from tests.swarm.proxy import proxy
from tests.swarm.seeder import LibtorrentPeer, seed
from tests.swarm.torrents import MadeTorrent, Version, make_torrent

pytestmark = pytest.mark.real


def film(work: Path, size: int, **torrent: Any) -> MadeTorrent:
    """A single-file torrent."""
    file = write_file(work / "payload" / "a film, 50% off?.mkv", 2, size)
    return make_torrent(file, work / "t.torrent", **torrent)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_tree_from_nginx_alone(tmp_path: Path, version: Version) -> None:
    tree = write_tree(tmp_path / "payload" / "odd #1 tree", STRANGE_TREE)
    with web_seed(tree.parent, tmp_path) as web:
        made = make_torrent(
            tree,
            tmp_path / "t.torrent",
            version=version,
            piece_length=32 * KIB,
            web_seeds=[web.url()],
        )
        with mounted(made.torrent, tmp_path) as mount:
            copy_equals(mount / tree.name, tree, tmp_path)
        wait_quiet(web)
        # Everything once: nothing is asked for twice when nobody competes.
        assert sum(STRANGE_TREE.values()) == web.bytes_sent()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("exact", [True, False], ids=["URL of the file", "URL of its directory"])
def test_a_single_file_from_nginx_alone(tmp_path: Path, version: Version, exact: bool) -> None:
    made = film(tmp_path, 9 * MIB + 333, version=version)
    with (
        web_seed(made.path.parent, tmp_path) as web,
        mounted(
            made.torrent, tmp_path, "--web-seed", web.url(made.path.name if exact else "")
        ) as mount,
    ):
        copy_equals(mount / made.path.name, made.path, tmp_path)


def test_a_magnet_names_the_web_seed(tmp_path: Path) -> None:
    """The metadata comes from a peer that then dies, the bytes from the web seed of the link."""
    made = film(tmp_path, 3 * MIB)
    with (
        web_seed(made.path.parent, tmp_path) as web,
        seed(made.torrent, made.path, tmp_path, upload_limit=64 * KIB) as peer,
        mounted(made.magnet(ws=web.url()), tmp_path, "--peer", peer.address) as mount,
    ):
        peer.kill()
        copy_equals(mount / made.path.name, made.path, tmp_path)
        wait_quiet(web)
        assert web.bytes_sent() >= 3 * MIB - 256 * KIB


@contextmanager
def two_kinds(work: Path) -> Iterator[tuple[Mounted, MadeTorrent, WebSeed, LibtorrentPeer]]:
    """A mount with nginx and a peer at equal rates: both must help, neither is done early."""
    made = film(work, 16 * MIB)
    with (
        web_seed(made.path.parent, work) as web,
        # nginx limits each answer, not the server; and the first second of an answer not at all
        proxy(("127.0.0.1", web.port), work, rate=4 * MIB) as port,
        seed(made.torrent, made.path, work) as peer,
        proxy(("127.0.0.1", peer.port), work / "peer", rate=4 * MIB) as peer_port,
        mounted(
            made.torrent,
            work,
            *("--peer", f"127.0.0.1:{peer_port}"),
            *("--web-seed", f"http://127.0.0.1:{port}/"),
            "-vv",
        ) as mount,
    ):
        mount.wait_log("connected")
        yield mount, made, web, peer


def test_web_seed_and_peers_share_one_read(tmp_path: Path) -> None:
    with two_kinds(tmp_path) as (mount, made, web, peer):
        copy_equals(mount / made.path.name, made.path, tmp_path)
        wait_quiet(web)
        from_web, from_peer = web.bytes_sent(), int(peer.status()["uploaded"])
    assert from_web > 2 * MIB
    assert from_peer > 2 * MIB
    assert from_web + from_peer >= 16 * MIB


def test_nginx_dies_and_a_peer_goes_on(tmp_path: Path) -> None:
    with two_kinds(tmp_path) as (mount, made, web, peer), reading(mount / made.path.name) as file:
        wait_until(lambda: web.bytes_sent() and peer.status()["uploaded"] > MIB)
        web.kill()
        assert file.digests() == [sha256_file(made.path)]


def test_a_peer_dies_and_nginx_goes_on(tmp_path: Path) -> None:
    with two_kinds(tmp_path) as (mount, made, web, peer), reading(mount / made.path.name) as file:
        wait_until(lambda: web.bytes_sent() and peer.status()["uploaded"] > MIB)
        peer.kill()
        assert file.digests() == [sha256_file(made.path)]


def test_nginx_comes_back(tmp_path: Path) -> None:
    """The only source dies in the middle of a copy and is back a moment later."""
    made = film(tmp_path, 8 * MIB)
    with (
        web_seed(made.path.parent, tmp_path / "1") as web,
        proxy(("127.0.0.1", web.port), tmp_path, rate=4 * MIB) as port,
        mounted(made.torrent, tmp_path, "--web-seed", f"http://127.0.0.1:{port}/") as mount,
        reading(mount / made.path.name) as file,
    ):
        wait_until(web.bytes_sent)
        web.kill()
        with web_seed(made.path.parent, tmp_path / "2", port=web.port) as again:
            assert file.digests() == [sha256_file(made.path)]
            assert again.bytes_sent()


def test_a_throttled_nginx(tmp_path: Path) -> None:
    """A server of a few hundred KiB/s: the start is there before the end, and all is right."""
    tree = write_tree(tmp_path / "payload" / "slow", {"a": 700_001, "b": 1, "c": 500_000})
    made = make_torrent(tree, tmp_path / "t.torrent", piece_length=32 * KIB)
    with (
        web_seed(tree.parent, tmp_path, limit_rate=400 * KIB) as web,
        mounted(made.torrent, tmp_path, "--web-seed", web.url()) as mount,
    ):
        with (mount / "slow" / "a").open("rb", buffering=0) as stream:
            assert stream.read(1000) == (tree / "a").read_bytes()[:1000]
            assert web.bytes_sent() < 700_001
        copy_equals(mount / "slow", tree, tmp_path)


def test_one_of_two_web_seeds_serves_something_else(tmp_path: Path) -> None:
    """A mirror with other bytes of the right length is found out and dropped; reads are right."""
    made = film(tmp_path, 6 * MIB, piece_length=64 * KIB)
    write_file(tmp_path / "wrong" / made.path.name, 99, 6 * MIB)
    with (
        web_seed(made.path.parent, tmp_path / "1", limit_rate=4 * MIB) as right,
        web_seed(tmp_path / "wrong", tmp_path / "2", limit_rate=4 * MIB) as wrong,
        mounted(
            made.torrent, tmp_path, "--web-seed", wrong.url(), "--web-seed", right.url(), "-v"
        ) as mount,
    ):
        copy_equals(mount / made.path.name, made.path, tmp_path)
        mount.wait_log(f"web seed {wrong.url()} dropped")
        assert f"web seed {right.url()} dropped" not in mount.log()


@pytest.mark.parametrize("version", ["v1", "hybrid"])
def test_a_seed_of_bep_17(tmp_path: Path, version: Version) -> None:
    size, piece = 3 * MIB + 77, 64 * KIB
    made = film(tmp_path, size, version=version, piece_length=piece)
    assert made.v1
    with http_seed(bytes.fromhex(made.v1), made.path.read_bytes(), piece, busy=1) as server:
        outer: dict[bytes, Any] = lt.bdecode(made.data)  # type: ignore[assignment]
        outer[b"httpseeds"] = [server.url.encode()]
        made.torrent.write_bytes(lt.bencode(outer))
        with mounted(made.torrent, tmp_path) as mount:
            target = cp(mount / made.path.name, tmp_path / "copy")
            assert_same(target, made.path)
        assert server.sent >= size
        assert server.refused == 1
