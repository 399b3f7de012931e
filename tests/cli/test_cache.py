"""`cache` against a mount."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.controlled import controlled
from torrentfs.storage.base import Use

if TYPE_CHECKING:
    from tests.cli.conftest import Run
    from tests.daemon.control.fakes import FakeMount

__all__ = ["controlled"]


@pytest.fixture
def shrunk(controlled: FakeMount) -> list[int]:
    """The sizes to shrink to."""
    sizes: list[int] = []
    cache: Any = controlled.session.cache

    async def uses() -> list[Use]:
        return [Use("ab" * 20, 5000, False), Use(controlled.item.key, 3000, True)]

    async def shrink(size: int) -> int:
        sizes.append(size)
        return 2048

    async def metadata(hashes: object) -> None:
        return None

    cache.uses, cache.shrink, cache.metadata = uses, shrink, metadata
    return sizes


def test_du(controlled: FakeMount, shrunk: list[int], run: Run) -> None:
    assert run("cache", "du").stdout == (
        f"4.9 KiB\t?\tababababab\tidle\n2.9 KiB\tsample\t{controlled.item.key[:10]}\t\n"
    )
    assert len(json.loads(run("cache", "du", "--json").stdout)["torrents"]) == 2


def test_prune(shrunk: list[int], run: Run) -> None:
    assert run("cache", "prune", "--to", "1M").stdout == "freed 2 KiB\n"
    assert shrunk == [1024 * 1024]
    assert run("cache", "prune").exit_code == 1


@pytest.mark.parametrize(("good", "code"), [(True, 0), (False, 1)])
@pytest.mark.parametrize("names", [(), ("sample",)], ids=str)
def test_verify(
    controlled: FakeMount, run: Run, good: bool, code: int, names: tuple[str, ...]
) -> None:
    async def verify(piece: int) -> bool:
        return good or piece != 3

    controlled.volume.torrent = SimpleNamespace(
        store=SimpleNamespace(have=range(7), verify=verify), metainfo=controlled.item.metainfo
    )
    result = run("cache", "verify", *names)
    assert result.exit_code == code
    assert result.stdout == f"7 pieces (205 KiB), {code} damaged\n"
