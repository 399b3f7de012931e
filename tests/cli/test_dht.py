"""The options about the DHT."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from torrentfs.cli.dht import PUBLIC
from torrentfs.cli.settings import parse_settings
from torrentfs.engine.config import DhtConfig

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run
    from torrentfs.daemon.config import MountConfig

SOURCE = "magnet:?xt=urn:btih:" + "a" * 40


def test_it_is_on_and_begins_with_public_nodes(
    run: Run, home: Path, configs: list[MountConfig]
) -> None:
    assert run("mount", SOURCE, str(home)).exit_code == 0
    assert configs[0].session.dht == DhtConfig(bootstrap=PUBLIC)
    assert not configs[0].session.private
    assert DhtConfig().bootstrap == ()  # who uses the engine names whom to ask


def test_named_nodes_replace_the_public_ones(
    run: Run, home: Path, configs: list[MountConfig]
) -> None:
    args = ["--dht-bootstrap", "127.0.0.1:7000", "--dht-bootstrap", "[::1]:7001"]
    assert run("mount", SOURCE, str(home), *args).exit_code == 0
    assert configs[0].session.dht == DhtConfig(bootstrap=(("127.0.0.1", 7000), ("::1", 7001)))


def test_it_may_ask_and_answer_nobody(run: Run, home: Path, configs: list[MountConfig]) -> None:
    assert run("mount", SOURCE, str(home), "--dht-read-only").exit_code == 0
    assert configs[0].session.dht == DhtConfig(PUBLIC, read_only=True)
    assert parse_settings({"dht_read_only": True}).session.dht == configs[0].session.dht


@pytest.mark.parametrize(
    ("args", "variables"),
    [
        (["--no-dht"], {}),
        (["-o", "no_dht"], {}),
        ([], {"TORRENTFS_NO_DHT": "1"}),
        (["--dht-bootstrap", "127.0.0.1:7000"], {"TORRENTFS_NO_DHT": "1"}),
    ],
)
def test_it_is_off(
    run: Run,
    home: Path,
    configs: list[MountConfig],
    args: list[str],
    variables: dict[str, str],
) -> None:
    assert run("mount", SOURCE, str(home), *args, **variables).exit_code == 0
    assert configs[0].session.dht is None


def test_a_variable_can_switch_it_on_again(
    run: Run, home: Path, configs: list[MountConfig]
) -> None:
    assert run("mount", SOURCE, str(home), TORRENTFS_NO_DHT="0").exit_code == 0
    assert configs[0].session.dht is not None


def test_private_magnets(run: Run, home: Path, configs: list[MountConfig]) -> None:
    assert run("mount", SOURCE, str(home), "--private").exit_code == 0
    assert configs[0].session.private


def test_a_node_has_a_host_and_a_port(run: Run, home: Path) -> None:
    assert run("mount", SOURCE, str(home), "--dht-bootstrap", "router.example").exit_code != 0
