"""The service behind `share`: what it adds, tells, and how it ends; over loopback, no peers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import trio

from tests.daemon.fakes import Exited
from tests.swarm.payload import write_tree
from torrentfs.daemon.sharing import ShareConfig, Shared, Sharing, own_addresses, run_share
from torrentfs.engine.config import SessionConfig
from torrentfs.engine.stats import SessionStatistics
from torrentfs.errors import ConfigError
from torrentfs.metainfo.torrent_file import build_torrent, parse_torrent
from torrentfs.storage.hashing import Recipe, builder_for, hash_payload
from torrentfs.storage.originals import originals_of
from torrentfs.storage.payload import list_payload


class Told:
    """A report that remembers, and then does something."""

    def __init__(self, then: Callable[[], None]) -> None:
        self.sharing: Sharing | None = None
        self.status: SessionStatistics | None = None
        self._then = then

    def on_ready(self, sharing: Sharing) -> None:
        self.sharing = sharing

    async def follow(self, status: Callable[[], SessionStatistics]) -> None:
        self.status = status()
        self._then()
        await trio.sleep_forever()


def config(tmp_path: Path, **session: object) -> ShareConfig:
    payload = list_payload(write_tree(tmp_path / "what", {"a": 5, "b/c": 70_000}))
    builder = builder_for(payload, Recipe())
    info, layers = hash_payload(payload, builder)
    metainfo = parse_torrent(build_torrent(info, layers))
    return ShareConfig(
        (Shared(metainfo, originals_of(payload, metainfo)),),
        SessionConfig(
            cache_dir=tmp_path / "cache",
            bind="127.0.0.1",
            **session,  # type: ignore[arg-type]
        ),
    )


def interrupt(signum: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), signum)


def never(code: int) -> NoReturn:
    raise Exited(code)


@pytest.mark.real
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_it_shares_until_a_signal(tmp_path: Path, signum: int) -> None:
    told = Told(interrupt(signum))
    with trio.fail_after(10):
        await run_share(config(tmp_path), told, never)
    assert told.sharing is not None
    assert told.sharing.pid == os.getpid()
    assert told.sharing.port > 0
    assert told.status is not None
    (torrent,) = told.status.torrents
    assert (torrent.name, torrent.state, torrent.progress) == ("what", "complete", 1.0)
    assert not (tmp_path / "cache").exists()


@pytest.mark.real
async def test_a_port_in_use_is_one_declared_error(tmp_path: Path) -> None:
    async def second() -> None:
        assert first.sharing is not None
        with pytest.raises(ConfigError, match="cannot listen"):
            await run_share(config(tmp_path, port=first.sharing.port), Told(lambda: None), never)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        first = Told(lambda: nursery.start_soon(second))
        await run_share(config(tmp_path), first, never)


@pytest.mark.real
async def test_background_ignores_sighup(tmp_path: Path) -> None:
    said: list[str] = []

    def then() -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        said.append("hup")
        os.kill(os.getpid(), signal.SIGTERM)

    whole = config(tmp_path)
    with trio.fail_after(10):
        await run_share(ShareConfig(whole.shared, whole.session, foreground=False), Told(then))
    assert said == ["hup"]


def test_what_crosses_the_pipe() -> None:
    sharing = Sharing(4711, 99, "careful")
    assert Sharing.parse(str(sharing), "careful") == sharing


def test_own_addresses() -> None:
    assert own_addresses("10.1.2.3") == ["10.1.2.3"]
    found = own_addresses(None)
    assert found
    assert found == ["127.0.0.1"] or not any(address.startswith("127.") for address in found)
