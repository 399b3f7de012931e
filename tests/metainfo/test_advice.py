"""What stands beside `info`: URLs and hosts. (Whole torrents: test_torrent_file.)"""

from __future__ import annotations

import pytest

from torrentfs.metainfo import limits
from torrentfs.metainfo.advice import Advice, is_host, unique_urls, valid_url


@pytest.mark.parametrize(
    ("raw", "url"),
    [
        (b"http://a/b?c=d", "http://a/b?c=d"),
        ("udp://tracker.example:80", "udp://tracker.example:80"),
        (b" wss://x/ \n", "wss://x/"),
        ("http://ü/ö".encode(), "http://ü/ö"),
        (b"http://a b/", None),
        (b"http://a\x00/", None),
        (b"http://\xff/", None),
        ("http://\udcff/", None),
        (b"//a/b", None),
        (b"/etc/passwd", None),
        (b"http://", None),
        (b"", None),
        (3, None),
        (b"http://" + b"x" * limits.MAX_URL_BYTES, None),
    ],
)
def test_valid_url(raw: object, url: str | None) -> None:
    assert valid_url(raw) == url


def test_unique_urls_are_capped() -> None:
    raws = [b"http://a/", b"no", "http://a/", b"http://b/", b"http://c/"]
    assert unique_urls(raws, 2) == ("http://a/", "http://b/")


@pytest.mark.parametrize("host", [b"a.example", b"::1", b"127.0.0.1", b"x_y-z"])
def test_is_host(host: bytes) -> None:
    assert is_host(host)


@pytest.mark.parametrize("host", [b"", b"a b", b"a/b", b"\xff", b"x" * 256, b"[::1]", b"a\n"])
def test_is_no_host(host: bytes) -> None:
    assert not is_host(host)


def test_fields_build_an_equal_advice() -> None:
    advice = Advice(trackers=(("http://a/",),), comment="c")
    assert Advice(**advice.fields()) == advice


def test_who_is_asked_is_what_the_newer_one_says() -> None:
    old = Advice((("http://old/",),), ("http://w/",), nodes=(("h", 1),), comment="c")
    new = Advice((("http://new/",),), comment="d", creation_date=5)
    assert old.asking(new) == Advice((("http://new/",),), comment="c")
    assert old.asking(Advice(comment="d")) is old  # it names nobody


def test_a_fingerprint_is_of_who_is_asked_alone() -> None:
    one = Advice((("http://a/",), ("http://b/",)))
    assert Advice(comment="c").fingerprint == ""
    assert one.fingerprint == Advice(one.trackers, comment="c").fingerprint
    others = [Advice((("http://a/", "http://b/"),)), Advice(web_seeds=("http://a/",))]
    others += [Advice(http_seeds=("http://a/",)), Advice(nodes=(("a", 1),))]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 5
