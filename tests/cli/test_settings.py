"""Settings by name: what the command line says, in Python's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import pytest

from torrentfs.cli.mount import mount
from torrentfs.cli.settings import ReadingCommand, config_option, names, parse_settings
from torrentfs.engine.config import SessionConfig
from torrentfs.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def test_values_are_text_numbers_paths_and_lists(home: Path) -> None:
    made = parse_settings(
        {
            "cache_dir": home / "c,d",
            "cache_size": 3 << 30,
            "readahead": "1M",
            "read_timeout": 2.5,
            "metadata_timeout": "1m",
            "peer": [("192.0.2.7", 6881), "[2001:db8::7]:1", ("2001:db8::8", 2)],
            "tracker": "http://t/announce?a,b\\c",
            "private": True,
        }
    )
    session, beside = made.session, made.beside
    assert (session.cache_dir, session.cache_size) == (home / "c,d", 3 << 30)
    assert (session.readahead, session.read_timeout, made.metadata_timeout) == (1 << 20, 2.5, 60)
    assert beside.peers == (("192.0.2.7", 6881), ("2001:db8::7", 1), ("2001:db8::8", 2))
    assert beside.trackers == ("http://t/announce?a,b\\c",)
    assert session.private
    assert parse_settings({"peer": ("192.0.2.7", 1)}).beside.peers == (("192.0.2.7", 1),)


@pytest.mark.parametrize("off", [{"dht": False}, {"no_dht": True}])
def test_a_flag_is_named_either_way(home: Path, off: dict[str, Any]) -> None:
    assert parse_settings(off).session.dht is None
    on = {name: not value for name, value in off.items()}
    assert parse_settings(on).session.dht is not None
    assert parse_settings(dict.fromkeys(off)).session.dht is not None  # None is "not given"


def test_what_the_user_has_set_for_all_is_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = home / ".config" / "torrentfs" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text('proxy = "socks5://127.0.0.1:9"\nallow-other = true\nreadahead = "1M"\n')
    monkeypatch.setenv("TORRENTFS_NO_DHT", "1")
    session = parse_settings({}).session
    assert session.proxy is not None
    assert (session.readahead, session.dht) == (1 << 20, None)
    session = parse_settings({"readahead": "2M", "dht": True}).session
    assert session.readahead == 2 << 20
    assert session.dht is not None
    other = home / "other.toml"
    other.write_text("readahead = '3M'\n")
    assert parse_settings({"config": other}).session.readahead == 3 << 20


def test_the_gateway_is_left_alone(home: Path) -> None:
    session = parse_settings({}).session
    assert not session.port_mapping
    assert session.dht
    assert session.lsd


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"cache_sise": 1}, "no setting 'cache_sise': use one of allow_local, .* webrtc$"),
        ({"allow_other": True}, "no setting 'allow_other'"),
        ({"cache_size": "much"}, "'much' is not a size"),
        ({"peer": "nowhere"}, "'nowhere' is not an address"),
        ({"dht": "yes"}, "dht: 'yes' is neither True nor False"),
        ({"private": "maybe"}, "'maybe' is neither true nor false"),
        ({"read_timeout": 0}, "longer than 0s"),
        ({"config": "/nowhere/at/all"}, "cannot read the config file"),
        ({"mount_options": "x"}, "no setting 'mount_options'"),
    ],
)
def test_a_mistake_is_one_line(home: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_settings(settings)
    assert "\n" not in str(caught.value)


def test_equal_settings_are_equal(home: Path) -> None:
    def one() -> SessionConfig:
        return parse_settings({"proxy": "http://u:p@h:1", "dht_bootstrap": "h:1"}).session

    assert one() == one()
    assert hash(one()) == hash(one())  # sessions are shared by this


def test_each_is_an_option_of_mount() -> None:
    known = {str(param.name).removeprefix("no_") for param in mount.params} | {"config"}
    assert set(names()) <= known
    assert {"peer", "cache_dir", "proxy", "upload_limit", "metadata_timeout"} <= set(names())


def test_a_command_takes_of_the_config_file_what_it_reads(home: Path) -> None:
    seen: list[tuple[object, ...]] = []

    @click.command(cls=ReadingCommand, reads=("readahead", "port"))
    @click.option("--readahead", type=int)
    @click.option("--port", type=int)
    @click.option("--private", is_flag=True)
    @config_option
    def command(readahead: int, port: int, private: bool) -> None:
        seen.append((readahead, port, private))

    file = home / "other.toml"
    file.write_text("readahead = 7\nport = 8\nprivate = true\nallow-other = true\n")
    command.main(["--config", str(file), "--port", "9"], standalone_mode=False)
    assert seen == [(7, 9, False)]
    file.write_text("nonsense = 1\n")
    with pytest.raises(ConfigError, match="nonsense"):
        command.main(["--config", str(file)], standalone_mode=False)
