"""`mount.torrentfs`: the words of mount(8) become those of `torrentfs mount`."""

from __future__ import annotations

import sys

import pytest

from torrentfs.cli import mount_helper
from torrentfs.cli.mount_helper import WrongUsage, arguments

MAGNET = "magnet:?xt=urn:btih:" + 40 * "a"


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("a.torrent /m", "mount -- a.torrent /m"),
        ("a.torrent /m -o ro,cache_size=1G", "mount -o ro,cache_size=1G -- a.torrent /m"),
        ("a.torrent /m -o rw", "mount -o  -- a.torrent /m"),
        (r"a /m -o rw,log_file=/a\,rw,uid=1", r"mount -o log_file=/a\,rw,uid=1 -- a /m"),
        ("a.torrent /m -n -v -o ro", "mount -o ro -v -- a.torrent /m"),
        ("a.torrent /m -nv -o ro -o noauto", "mount -o ro -o noauto -v -- a.torrent /m"),
        ("-o ro a.torrent /m", "mount -o ro -- a.torrent /m"),
        ("a.torrent /m -t torrentfs -N 7", "mount -- a.torrent /m"),
        (f"a.torrent|{MAGNET} /m", f"mount -- a.torrent {MAGNET} /m"),
        ("none /m -o watch=/srv/torrents", "mount -o watch=/srv/torrents -- /m"),
        ("a /m -s -o colour=red,ro,x-gvfs-hide", "mount -o ro,x-gvfs-hide -- a /m"),
        ("a /m -s -o cache-size=1G,uid=7", "mount -o cache-size=1G,uid=7 -- a /m"),
        (r"a /m -s -o log_file=/x\,y,odd", r"mount -o log_file=/x\,y -- a /m"),
    ],
)
def test_words_are_translated(given: str, made: str) -> None:
    assert arguments(given.split(" ")) == made.split(" ")


def test_a_fake_mount_is_none() -> None:
    assert arguments(["a", "/m", "-f"]) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "one source"),
        (["a"], "one source"),
        (["a", "/m", "/n"], "one source"),
        (["a", "/m", "-o"], "-o needs a value"),
        (["a", "/m", "-x"], "no such option: -x"),
        (["a", "/m", "--help"], "no such option"),
    ],
)
def test_wrong_words(given: list[str], said: str) -> None:
    with pytest.raises(WrongUsage, match=said):
        arguments(given)


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["mount.torrentfs", *words])
    with pytest.raises(SystemExit) as ended:
        mount_helper.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_exit_codes_are_those_of_mount(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "a") == 1
    assert "mount.torrentfs SOURCE MOUNTPOINT" in capsys.readouterr().err
    assert run(monkeypatch, "a", "/m", "-f") == 0
    assert run(monkeypatch, "/nowhere/a.torrent", "/m", "-o", "cache_size=no") == 1
    assert "cache" in capsys.readouterr().err
