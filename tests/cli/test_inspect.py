"""`torrentfs inspect`: what a stranger's torrent says, safely."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run


def test_json_has_everything(run: Run, torrent: Path) -> None:
    result = run("inspect", "--json", str(torrent))
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    assert said["name"] == "sample"
    assert len(said["info_hash_v1"]) == 40
    assert said["info_hash_v2"] is None
    assert said["size"] == 10005
    assert (said["piece_length"], said["pieces"], said["file_count"]) == (16384, 2, 2)
    assert said["private"] is True
    assert said["trackers"] == [["http://127.0.0.1:1/announce"], ["udp://127.0.0.1:2"]]
    assert said["web_seeds"] == ["http://127.0.0.1:3/"]
    assert said["creation_date"] == 1700000000
    assert said["comment"] == "hello"
    assert said["magnet"].startswith(f"magnet:?xt=urn:btih:{said['info_hash_v1']}&dn=sample")
    lengths = [(file["length"], file.get("pad"), file.get("executable")) for file in said["files"]]
    assert lengths == [(10000, None, None), (6384, True, None), (5, None, True)]


def test_human_output_has_no_raw_control_characters(run: Run, torrent: Path) -> None:
    result = run("inspect", str(torrent))
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    lines = result.stdout.splitlines()
    assert lines[0] == "Name:           sample"
    assert "Created:        2023-11-14 22:13:20 UTC" in lines
    assert "Trackers:       1. http://127.0.0.1:1/announce" in lines
    assert "                2. udp://127.0.0.1:2" in lines
    assert "       5 B  run  (executable)" in lines


def test_a_magnet_says_what_is_in_it(run: Run) -> None:
    link = f"magnet:?xt=urn:btih:{'A' * 40}&dn=x%1b[31m&tr=udp://a:1&x.pe=[::1]:7&so=1,3-5"
    said = json.loads(run("inspect", "--json", link).stdout)
    assert said["info_hash_v1"] == "a" * 40
    assert said["peers"] == ["[::1]:7"]
    assert said["select"] == [[1, 1], [3, 5]]
    assert "files" not in said
    human = run("inspect", link).stdout
    assert "\x1b" not in human
    assert "Selected files: 1, 3-5" in human


def test_an_info_hash_becomes_a_magnet(run: Run) -> None:
    said = json.loads(run("inspect", "--json", "B" * 64).stdout)
    assert said["info_hash_v2"] == "b" * 64
    assert said["magnet"] == "magnet:?xt=urn:btmh:1220" + "b" * 64


@pytest.mark.parametrize(
    "data", [b"", b"d", b"d4:infodee", b"i1e", b"l" * 100_000, b"d4:infod6:lengthi-1eee", b"\0" * 9]
)
def test_a_hostile_file_is_one_line(run: Run, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bad\n.torrent"
    path.write_bytes(data)
    result = run("inspect", str(path))
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "Traceback" not in result.stderr


def test_files_that_cannot_be_read(run: Run, tmp_path: Path) -> None:
    assert "is a directory" in run("inspect", str(tmp_path)).stderr
    assert run("inspect", "").exit_code == 1
    assert run("inspect", "x\0y").exit_code == 1


def test_a_url_is_fetched_through_the_proxy_or_not_at_all(run: Run) -> None:
    proxy = "socks5://me:secret@127.0.0.1:9"
    result = run("inspect", "--proxy", proxy, "http://torrents.example/x.torrent")
    assert result.exit_code == 1
    assert "the proxy socks5://127.0.0.1:9 cannot be reached" in result.stderr
    assert "secret" not in result.stderr


def test_the_proxy_and_the_interface_of_the_config_file_are_held(run: Run, home: Path) -> None:
    file = home / ".config/torrentfs/config.toml"
    file.parent.mkdir(parents=True)
    file.write_text('proxy = "socks5://127.0.0.1:9"\ncache-size = "1G"\n')
    result = run("inspect", "http://torrents.example/x.torrent")
    assert result.exit_code == 1
    assert "the proxy socks5://127.0.0.1:9 cannot be reached" in result.stderr
    file.write_text('bind-interface = "nope0"\n')
    for words, env in (
        ((), {}),
        (("--bind-interface", "nope1"), {}),
        ((), {"TORRENTFS_BIND_INTERFACE": "nope2"}),
    ):
        result = run("inspect", *words, "http://127.0.0.1:9/x.torrent", **env)
        assert result.exit_code == 1
        (name,) = (*words[1:], *env.values()) or ("nope0",)
        assert f"no network interface {name}" in result.stderr.replace("'", "")
    file.write_text("no-such = 1\n")
    assert "config.toml: there is no option 'no-such'" in run("inspect", "A" * 40).stderr
