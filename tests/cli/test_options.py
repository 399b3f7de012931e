"""Where an option's value comes from, and what `-o` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from torrentfs.cli.options import split_mount_options

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run
    from torrentfs.daemon.config import MountConfig

GIB = 1024**3


SOURCE = "magnet:?xt=urn:btih:" + "a" * 40


def write_config(home: Path, text: str) -> Path:
    path = home / ".config/torrentfs/config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("args", "env", "file", "size"),
    [
        ([], {}, "", 10),
        ([], {}, 'cache-size = "2G"', 2),
        ([], {}, 'cache_size = "2G"', 2),
        ([], {"TORRENTFS_CACHE_SIZE": "3G"}, 'cache-size = "2G"', 3),
        (["-o", "cache_size=4G"], {"TORRENTFS_CACHE_SIZE": "3G"}, 'cache-size = "2G"', 4),
        (["-o", "cache-size=4G", "--cache-size", "5G"], {"TORRENTFS_CACHE_SIZE": "3G"}, "", 5),
        (["--cache-size", "5G", "-o", "ro,cache-size=4G"], {}, 'cache-size = "2G"', 5),
        (["-o", "cache-size=4G", "-o", "cache-size=6G"], {}, "", 6),
    ],
)
def test_the_nearest_source_of_a_value_wins(
    run: Run,
    home: Path,
    configs: list[MountConfig],
    args: list[str],
    env: dict[str, str],
    file: str,
    size: int,
) -> None:
    if file:
        write_config(home, file)
    result = run("mount", SOURCE, str(home), *args, **env)
    assert result.exit_code == 0, result.stderr
    assert configs[0].session.cache_size == size * GIB


def test_every_long_option_works_as_o(run: Run, home: Path, configs: list[MountConfig]) -> None:
    words = (
        "allow_other,metadata_timeout=5s,read-timeout=1m,uid=7,gid=8,umask=077,xattrs,"
        "mtime=created,memory_limit=1M,readahead=2M,min-free-space=0,peer=[::1]:7,"
        "tracker=udp://a:1,web_seed=http://b/x\\,y/,port=99,no_tcp,no-web-seeds,no_upload,"
        "download_limit=5M,upload_limit=0,verbose,foreground=false,no_dht,private"
    )
    result = run("mount", SOURCE, str(home), "-o", words, TORRENTFS_FOREGROUND="1")
    assert result.exit_code == 0, result.stderr
    (config,) = configs
    assert config.allow_other
    assert config.metadata_timeout == 5
    assert config.session.read_timeout == 60
    assert (config.uid, config.gid, config.umask) == (7, 8, 0o077)
    assert config.xattrs
    assert config.mtime == "created"
    assert config.session.memory_limit == 1024**2
    assert config.session.readahead == 2 * 1024**2
    assert config.session.min_free == 0
    assert config.peers == (("::1", 7),)
    assert config.trackers == ("udp://a:1",)
    assert config.web_seeds == ("http://b/x,y/",)
    assert config.session.port == 99
    assert not config.session.tcp
    assert not config.session.web_seeds
    assert not config.session.upload
    assert config.session.download_limit == 5 * 1024**2
    assert config.session.upload_limit is None
    assert config.verbosity == 1
    assert not config.foreground


def test_words_of_other_programs_are_accepted(
    run: Run, home: Path, configs: list[MountConfig]
) -> None:
    words = "ro,nosuid,nodev,noatime,_netdev,nofail,x-systemd.automount,x-gvfs-name=T,defaults"
    assert run("mount", SOURCE, str(home), "-o", words).exit_code == 0
    assert len(configs) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("rw", "cannot be written"),
        ("fly", "-o fly: no such option"),
        ("noexec", "no such option"),
        ("cache_size", "needs a value"),
        ("cache_size=big", "'big' is not a size"),
        ("no_tcp=maybe", "neither true nor false"),
        ("o=ro", "no such option"),
        ("=x", "-o =x: a name is missing"),
        ("x" * 5000, "xxx…: no such option"),
    ],
)
def test_wrong_words_are_told(
    run: Run, home: Path, configs: list[MountConfig], words: str, said: str
) -> None:
    result = run("mount", SOURCE, str(home), "-o", words)
    assert result.exit_code == 1
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not configs


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cache-sise = '1G'", "no option 'cache-sise'"),
        ("cache-size = '1G'\ncache_size = '1G'", "given twice"),
        ("cache-size = 'big'", "cache-size: 'big' is not a size"),
        ("cache-size = true", "takes a value"),
        ("cache-size = ['1G']", "not a list"),
        ("no-tcp = 'yes'", "must be true or false"),
        ("peer = ['1.2.3.4:5', 'x']", "peer: 'x' is not an address"),
        ("[mount]\nport = 1", "no option 'mount'"),
        ("port = 99999999", "port:"),
        ("port = 1.5", "port: '1.5' is not a valid whole number"),
        ("cache-dir = ''", "cache-dir: a path must not be empty"),
        ("port = {}", "must be text, a number"),
        ("config = '/x'", "no option 'config'"),
        ("= 1", "is not TOML"),
        ("x = 1" + "\n" * 2**20, "too large"),
    ],
)
def test_a_wrong_config_file_is_one_line(run: Run, home: Path, text: str, said: str) -> None:
    path = write_config(home, text)
    result = run("mount", SOURCE, str(home))
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert said in line
    assert str(path) in line


def test_config_file_by_option_and_variable(
    run: Run, home: Path, configs: list[MountConfig]
) -> None:
    write_config(home, "port = 1")
    other = home / "other.toml"
    other.write_text("port = 2\nno-upload = true\npeer = '1.2.3.4:5'\nmemory-limit = 4096")
    assert run("mount", SOURCE, str(home), "--config", str(other)).exit_code == 0
    assert run("mount", SOURCE, str(home), TORRENTFS_CONFIG=str(other)).exit_code == 0
    assert run("mount", SOURCE, str(home), "-o", f"config={other}").exit_code == 0
    for config in configs:
        assert config.session.port == 2
        assert not config.session.upload
        assert config.peers == (("1.2.3.4", 5),)
        assert config.session.memory_limit == 4096
    result = run("mount", SOURCE, str(home), "--config", str(home / "none.toml"))
    assert result.exit_code == 1
    assert "cannot read the config file" in result.stderr


def test_repeatable_options_by_variable(run: Run, home: Path, configs: list[MountConfig]) -> None:
    peers = "1.2.3.4:5 [::1]:6"
    assert run("mount", SOURCE, str(home), TORRENTFS_PEER=peers).exit_code == 0
    assert configs[0].peers == (("1.2.3.4", 5), ("::1", 6))
    flags = ["--peer", "5.6.7.8:9", "-o", "peer=5.6.7.8:10"]
    assert run("mount", SOURCE, str(home), *flags, TORRENTFS_PEER=peers).exit_code == 0
    assert configs[1].peers == (("5.6.7.8", 10), ("5.6.7.8", 9))


def test_escapes_in_o() -> None:
    assert split_mount_options(["a=1\\,2,b", ",c=\\\\,,d=x=y", "e=\\"]) == [
        ("a", "1,2"),
        ("b", None),
        ("c", "\\"),
        ("d", "x=y"),
        ("e", "\\"),
    ]


def test_a_wrong_variable_is_named(run: Run, home: Path, configs: list[MountConfig]) -> None:
    result = run("mount", SOURCE, str(home), TORRENTFS_CACHE_SIZE="big")
    assert result.exit_code == 1
    expected = "Invalid value for the variable TORRENTFS_CACHE_SIZE: 'big' is not a size"
    assert expected in result.stderr
    assert not configs


def test_a_config_file_out_of_reach_is_none(
    run: Run, home: Path, configs: list[MountConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.stat", refuse)  # as `sudo -u nobody` finds root's home
    assert run("mount", SOURCE, str(home)).exit_code == 0
