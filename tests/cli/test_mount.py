"""`torrentfs mount`: from words to a configuration, and what the user reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from torrentfs.daemon import background
from torrentfs.daemon.background import Ended
from torrentfs.daemon.refreshing import MediaServer
from torrentfs.daemon.sources import FileSource, MagnetSource, UrlSource
from torrentfs.engine.config import SessionConfig

if TYPE_CHECKING:
    from tests.cli.conftest import Run
    from torrentfs.daemon.config import MountConfig

MAGNET = "magnet:?xt=urn:btih:" + "a" * 40


def test_paths_become_absolute(
    run: Run, home: Path, torrent: Path, configs: list[MountConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    args = [torrent.name, "mnt", "--cache-dir", "~/c", "--log-file", "../l"]
    assert run("mount", *args).exit_code == 0
    (config,) = configs
    assert config.sources == (FileSource(torrent.name, torrent),)
    assert config.mountpoint == home / "mnt"
    assert config.session.cache_dir == home / "c"
    assert config.log_file == home.parent / "l"


def test_an_ip_filter_is_read_and_its_odd_lines_are_told(
    run: Run, home: Path, configs: list[MountConfig]
) -> None:
    (home / "list").write_text("192.0.2.0/24\nwords\n")
    result = run("mount", MAGNET, str(home / "mnt"), "--ip-filter", str(home / "list"))
    assert result.exit_code == 0
    assert "1 lines not understood, first line 2: 'words'" in result.stderr
    chosen = configs[0].session.ip_filter
    assert chosen is not None
    assert chosen.blocks("192.0.2.9")


def test_several_sources_in_their_order(
    run: Run, home: Path, torrent: Path, configs: list[MountConfig]
) -> None:
    url = "https://example.org/x.torrent"
    assert run("mount", MAGNET, str(torrent), url, "b" * 64, str(home)).exit_code == 0
    kinds = [type(source) for source in configs[0].sources]
    assert kinds == [MagnetSource, FileSource, UrlSource, MagnetSource]


@pytest.mark.parametrize(
    "forgotten", [MAGNET, "film.TORRENT", "https://h/x", "b" * 40, "later.magnet"]
)
def test_the_mount_point_was_forgotten(
    run: Run, configs: list[MountConfig], forgotten: str
) -> None:
    result = run("mount", forgotten)
    assert result.exit_code == 1
    assert "say what to mount and then where: torrentfs mount SOURCE MOUNTPOINT" in result.stderr
    assert not configs


def test_a_library_needs_no_source(run: Run, home: Path, configs: list[MountConfig]) -> None:
    args = ["--watch", "w", "--watch", "/v", "--state-dir", "~/s", "--on-change", "echo x"]
    servers = ["--refresh", "kodi=http://h/#/media", "--refresh", "plex=http://p"]
    variables = {"TORRENTFS_PLEX_TOKEN": "t"}
    assert run("mount", *args, *servers, str(home / "mnt"), **variables).exit_code == 0
    (config,) = configs
    assert config.sources == ()
    assert config.watch == (Path.cwd() / "w", Path("/v"))
    assert config.state_dir == home / "s"
    assert config.on_change == "echo x"
    assert config.refresh == (
        MediaServer("kodi", "http://h", "/media"),
        MediaServer("plex", "http://p", str(home / "mnt"), "t"),
    )


def test_where_the_library_is(run: Run, home: Path, configs: list[MountConfig]) -> None:
    assert run("mount", str(home)).exit_code == 0
    assert configs[0].state_dir == home / ".local/state/torrentfs"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nothing.torrent"], "nothing.torrent: no such file"),
        (["magnet:?dn=x"], "no BitTorrent hash"),
        (["ftp://example.org/x.torrent"], "only http and https"),
        ([MAGNET, "--allow-other", "--allow-root"], "leave out --allow-root"),
        ([MAGNET, "--read-timeout", "0"], "longer than 0s"),
        ([MAGNET, "--peer", "somewhere"], "'somewhere' is not an address"),
        ([MAGNET, "--umask", "999"], "octal"),
        ([MAGNET, "--ip-filter", "/nowhere/list"], "cannot read the IP filter /nowhere/list"),
        ([MAGNET, "--tracker", "example.org"], "not a URL that starts with http://"),
        ([MAGNET, "--tracker", "ftp://example.org"], "udp:// or ws:// or wss://"),
        ([MAGNET, "--bind-interface", "nowhere0"], "no network interface 'nowhere0'"),
        (
            [MAGNET, "--proxy", "socks5://localhost"],
            "the proxy is not a URL with a host and a port",
        ),
        ([MAGNET, "--proxy", "socks4://localhost:1"], "socks4:// proxies are not supported"),
        ([MAGNET, "--watch", "~/w"], "a watch directory must not be in the mount point"),
        ([MAGNET, "--refresh", "emby=http://h"], "is not KIND=URL, where KIND is jellyfin, plex"),
        ([MAGNET, "--refresh", "plex=http://h"], "--refresh plex needs a token"),
        ([MAGNET, "--refresh-token", "plex"], "is not KIND=FILE"),
        ([MAGNET, "--cache-dir", ""], "'--cache-dir': a path must not be empty"),
        ([MAGNET, "--log-file="], "'--log-file': a path must not be empty"),
        ([MAGNET, "--log-file", "~/a/log"], "the log file must not be in the mount point"),
        ([MAGNET, "--port", "x"], "'x' is not a valid whole number"),
    ],
)
def test_mistakes_are_told_before_anything_starts(
    run: Run, home: Path, configs: list[MountConfig], args: list[str], said: str
) -> None:
    result = run("mount", *args, str(home))
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert said in line
    assert not configs


def test_ways_to_peers_may_be_switched_off(
    run: Run, home: Path, configs: list[MountConfig]
) -> None:
    flags = ["--no-dht", "--no-pex", "--no-lsd", "--no-utp", "--no-webrtc", "--private"]
    assert run("mount", MAGNET, str(home), *flags).exit_code == 0
    (config,) = configs
    session = config.session
    assert (session.pex, session.lsd, session.utp, session.dht) == (False, False, False, None)


@pytest.mark.parametrize(
    ("ended", "args", "stderr"),
    [
        (Ended("mounted x on /m", 0), [], ""),
        (Ended("no peer gave the metadata", 3), [], "torrentfs: no peer gave the metadata\n"),
        (Ended("not empty", 2), ["-v"], "torrentfs: not empty\n"),
        (Ended("mounted x", 0, "no cache"), [], "torrentfs: mounted, but no cache\n"),
    ],
)
def test_the_shell_hears_of_failure_only(
    run: Run,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    ended: Ended,
    args: list[str],
    stderr: str,
) -> None:
    monkeypatch.setattr(background, "run_in_background", lambda *_args, **_settings: ended)
    result = run("mount", MAGNET, str(home), *args)
    assert result.exit_code == ended.code
    assert result.stdout == ""
    assert result.stderr == stderr


def test_verbose_tells_where_the_log_is(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = Ended("mounted x on /m", 0)
    monkeypatch.setattr(background, "run_in_background", lambda *_args, **_settings: ended)
    result = run("mount", "-v", MAGNET, str(home / "m"))
    slug = str(home / "m").strip("/").replace("/", "-")[-100:]
    expected = home / ".local/state/torrentfs/log" / f"{slug}.log"
    assert result.stderr == f"mounted x on /m (log: {expected})\n"


def test_defaults_are_those_of_the_engine(run: Run, home: Path, configs: list[MountConfig]) -> None:
    assert run("mount", MAGNET, str(home)).exit_code == 0
    session = configs[0].session
    assert session.cache_dir == Path(SessionConfig().cache_dir)
    assert session == SessionConfig(
        cache_dir=session.cache_dir,
        dht=session.dht,
        utp=True,
        lsd=True,
        encryption="prefer",
        port_mapping=session.port_mapping,
        allow_local=False,
    )
    assert os.path.isabs(session.cache_dir)
    assert run("mount", MAGNET, str(home), "--allow-local").exit_code == 0
    assert configs[1].session.allow_local
