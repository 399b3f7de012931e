"""What a share tells about itself, and that nobody can hold it up by asking."""

from __future__ import annotations

import json
import socket
import stat
from pathlib import Path

import pytest
import trio

from torrentfs.daemon import share_status as module
from torrentfs.daemon.share_status import describe, status_socket, tell_status
from torrentfs.engine.stats import PeerStatistics, SessionStatistics, TorrentStatistics


def peer(number: int) -> PeerStatistics:
    return PeerStatistics(
        f"10.0.0.{number}:1", "tcp", "someone", 0.5, 0, 10 * number, 0.0, float(number), "U"
    )


def status(peers: int = 2) -> SessionStatistics:
    numbers = {
        "size": 100,
        "pieces_have": 3,
        "pieces_total": 4,
        "download_rate": 0.0,
        "upload_rate": 7.0,
        "downloaded": 0,
        "uploaded": 70,
        "wasted": 0,
        "hash_failures": 0,
        "waiting_reads": 0,
    }
    torrent = TorrentStatistics(
        "what",
        "ab" * 20,
        "complete",
        **numbers,  # type: ignore[arg-type]
        peers=tuple(peer(n) for n in range(peers)),
    )
    return SessionStatistics(4711, (torrent,))


def test_what_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told = describe(status())
    assert told["port"] == 4711
    (torrent,) = told["torrents"]
    assert (torrent["name"], torrent["key"], torrent["uploaded"]) == ("what", "ab" * 20, 70)
    assert [p["address"] for p in torrent["peers"]] == ["10.0.0.1:1", "10.0.0.0:1"]
    monkeypatch.setattr(module, "MAX_PEERS", 3)
    (torrent,) = describe(status(9))["torrents"]
    assert torrent["peer_count"] == 9
    assert [p["address"] for p in torrent["peers"]] == ["10.0.0.8:1", "10.0.0.7:1", "10.0.0.6:1"]


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "runtime_directory", lambda: tmp_path / "run")
    return tmp_path / "run"


def sockets(runtime: Path) -> list[Path]:
    """Those that there are, and for nobody but their user."""
    found = list(runtime.iterdir())
    assert [stat.S_IMODE(place.stat().st_mode) for place in found] == [0o600] * len(found)
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o700
    return found


async def ask(place: Path) -> bytes:
    async with await trio.open_unix_socket(str(place)) as line:
        said = b""
        async for data in line:
            said += data
        return said


@pytest.mark.real
async def test_many_ask_and_one_takes_nothing(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with status_socket() as listener, trio.fail_after(20):
        assert listener is not None
        (place,) = sockets(runtime)
        # more than the buffer of a socket takes
        monkeypatch.setattr(module, "describe", lambda now: {"fill": "x" * (1 << 20), "port": 1})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell_status, listener, status)
            with socket.socket(socket.AF_UNIX) as silent:
                silent.connect(str(place))
                gone = socket.socket(socket.AF_UNIX)
                gone.connect(str(place))
                gone.close()
                for _ in range(2):
                    assert json.loads(await ask(place))["port"] == 1
            nursery.cancel_scope.cancel()
    assert sockets(runtime) == []


@pytest.mark.real
async def test_a_lack_of_descriptors_pauses_it(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.0)
    accept = trio.SocketListener.accept
    failures = [OSError(24, "Too many open files")] * 3

    async def failing(self: trio.SocketListener) -> trio.SocketStream:
        if failures:
            raise failures.pop()
        return await accept(self)

    monkeypatch.setattr(trio.SocketListener, "accept", failing)
    with status_socket() as listener, trio.fail_after(20):
        assert listener is not None
        (place,) = sockets(runtime)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell_status, listener, status)
            assert json.loads(await ask(place)) == describe(status())
            nursery.cancel_scope.cancel()
    assert failures == []


@pytest.mark.expect_log("torrentfs shares will not know of this")
def test_without_a_place_for_it_there_is_none(runtime: Path) -> None:
    runtime.write_bytes(b"")
    with status_socket() as listener:
        assert listener is None
