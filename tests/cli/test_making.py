"""What `create` and `share` have in common: trackers in tiers, the place of a .torrent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from torrentfs.cli.making import (
    check_writable,
    hashing_bar,
    parse_tier,
    place_of,
    write_torrent,
)
from torrentfs.errors import ConfigError
from torrentfs.storage.payload import list_payload


def test_a_tier_is_urls_with_commas_between() -> None:
    assert parse_tier("udp://a:1") == ("udp://a:1",)
    assert parse_tier("http://a/x,y,wss://b/") == ("http://a/x,y", "wss://b/")
    for text in ("", "a:1", "ftp://a", "udp://a,ftp://b", "udp://"):
        with pytest.raises(ConfigError):
            parse_tier(text)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "what"
    root.mkdir()
    (root / "file").write_bytes(b"x")
    return root


def test_the_place_of_the_torrent(source: Path, tmp_path: Path) -> None:
    payload = list_payload(source)
    (tmp_path / "out").mkdir()
    assert place_of(None, payload, True, tmp_path) == tmp_path / "what.torrent"
    assert place_of(tmp_path / "out", payload, True, tmp_path) == tmp_path / "out/what.torrent"
    assert place_of(tmp_path / "x.t", payload, False, tmp_path) == tmp_path / "x.t"
    with pytest.raises(ConfigError, match="must be a directory"):
        place_of(tmp_path / "x.t", payload, True, tmp_path)


def test_it_is_never_inside_what_it_is_made_of(source: Path, tmp_path: Path) -> None:
    payload = list_payload(source)
    (tmp_path / "link").symlink_to(source)
    for output in (source, source / "x.torrent", tmp_path / "link"):
        with pytest.raises(ConfigError, match="inside what the torrent is made of"):
            place_of(output, payload, False, tmp_path)
    with pytest.raises(ConfigError, match="inside what the torrent is made of"):
        place_of(source / "file", list_payload(source / "file"), False, tmp_path)


def test_what_cannot_be_written_is_refused_early(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_bytes(b"")
    check_writable(tmp_path / "free", force=False)
    check_writable(taken, force=True)
    with pytest.raises(ConfigError, match="--force overwrites it"):
        check_writable(taken, force=False)
    with pytest.raises(ConfigError, match="is a directory"):
        check_writable(tmp_path, force=True)
    with pytest.raises(ConfigError, match="no directory"):
        check_writable(tmp_path / "none/x", force=True)
    with pytest.raises(ConfigError, match="too long"):
        check_writable(tmp_path / ("ä" * 125 + ".long-torrent"), force=False)
    if os.geteuid():
        tmp_path.chmod(0o500)
        with pytest.raises(ConfigError, match="permission denied"):
            check_writable(tmp_path / "free", force=True)
        tmp_path.chmod(0o700)


def test_writing_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "x.torrent"
    write_torrent(place, b"one", force=False)
    assert place.stat().st_mode & 0o777 == 0o666 & ~_umask()
    with pytest.raises(ConfigError, match="exists"):
        write_torrent(place, b"two", force=False)
    assert place.read_bytes() == b"one"
    write_torrent(place, b"three", force=True)
    assert place.read_bytes() == b"three"

    def fail(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ConfigError, match="no space left"):
        write_torrent(place, b"four", force=True)
    assert place.read_bytes() == b"three"
    assert list(tmp_path.iterdir()) == [place]


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: object, target: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    place = tmp_path / "x.torrent"
    write_torrent(place, b"one", force=False)
    with pytest.raises(ConfigError, match="exists"):
        write_torrent(place, b"two", force=False)
    assert place.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [place]


def _umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


def test_no_bar_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with hashing_bar("x", 10) as on_progress:
        on_progress(5)
    assert capsys.readouterr() == ("", "")
