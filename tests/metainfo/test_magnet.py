"""Magnet links: every field in every form, and every refusal."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import fuzz_magnet
from tests.metainfo.torrents import build
from torrentfs.errors import InvalidTorrent
from torrentfs.metainfo import limits
from torrentfs.metainfo.hashes import InfoHashes
from torrentfs.metainfo.magnet import Magnet, Publisher, magnet_of, parse_magnet, parse_publisher
from torrentfs.metainfo.torrent_file import parse_torrent

V1, V2 = bytes(range(100, 120)), bytes(range(32))
XT1, XT2 = f"xt=urn:btih:{V1.hex()}", f"xt=urn:btmh:1220{V2.hex()}"


@pytest.mark.parametrize(
    ("query", "hashes"),
    [
        (XT1, InfoHashes(V1)),
        (f"xt=urn:btih:{V1.hex().upper()}", InfoHashes(V1)),
        (f"xt=URN:BTIH:{V1.hex()}", InfoHashes(V1)),
        (f"xt=urn%3Abtih%3A{V1.hex()}", InfoHashes(V1)),
        (f"xt=urn:btih:{base64.b32encode(V1).decode()}", InfoHashes(V1)),
        (f"xt=urn:btih:{base64.b32encode(V1).decode().lower()}", InfoHashes(V1)),
        (XT2, InfoHashes(v2=V2)),
        (f"{XT1}&{XT2}", InfoHashes(V1, V2)),
        (f"xt.1=urn:btih:{V1.hex()}&xt.2=urn:btmh:1220{V2.hex()}", InfoHashes(V1, V2)),
        (f"xt=urn:sha1:ABC&dn=x&{XT1}&{XT1}", InfoHashes(V1)),
    ],
)
def test_hashes(query: str, hashes: InfoHashes) -> None:
    assert parse_magnet(f"magnet:?{query}").hashes == hashes
    assert parse_magnet(f" MAGNET:?{query}\n").hashes == hashes


def test_all_fields() -> None:
    magnet = parse_magnet(
        f"magnet:?{XT1}&dn=a+b%20%C3%A4%0A&tr=http%3A%2F%2Ft%2Fa%3Fx%3D1%262&tr.1=udp://u:80"
        "&tr=http%3A%2F%2Ft%2Fa%3Fx%3D1%262&tr=no+url&ws=http://w/a+b&xs=http://x/y.torrent"
        "&as=http://z/&x.pe=127.0.0.1:6881&x.pe=%5B::1%5D:1"
        "&x.pe=host.example:65535&so=0,2,4-8&so=10&&=&unknown=1"
    )
    assert magnet == Magnet(
        hashes=InfoHashes(V1),
        name="a b ä",
        trackers=("http://t/a?x=1&2", "udp://u:80"),
        web_seeds=("http://w/a+b",),
        peers=(("127.0.0.1", 6881), ("::1", 1), ("host.example", 65535)),
        select=(range(1), range(2, 3), range(4, 9), range(10, 11)),
        exact_source=("http://x/y.torrent", "http://z/"),
    )
    assert parse_magnet(magnet.to_uri()) == magnet


@pytest.mark.parametrize(
    "field",
    "x.pe=1.2.3.4 x.pe=1.2.3.4:0 x.pe=1.2.3.4:65536 x.pe=::1:5 x.pe=[::1] x.pe=a%20b:1 x.pe=ä:1 "
    f"so=a so=5-3 so=-1 so=1- so={limits.MAX_FILES} so=1-99999999 dn= tr= ws=x xs=/a".split(),
)
def test_malformed_advice_is_dropped(field: str) -> None:
    assert parse_magnet(f"magnet:?{XT1}&{field}") == Magnet(InfoHashes(V1))


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("", "not a magnet"),
        ("http://x/", "not a magnet"),
        ("magnet:xt=urn:btih:" + V1.hex(), "not a magnet"),
        ("magnet:?dn=x", "no BitTorrent hash"),
        ("magnet:?xt=urn:sha1:" + V1.hex(), "no BitTorrent hash"),
        ("magnet:?xt=urn:btih:", "btih"),
        ("magnet:?xt=urn:btih:" + "x" * 40, "btih"),
        ("magnet:?xt=urn:btih:" + "1" * 32, "btih"),
        ("magnet:?xt=urn:btih:" + "a" * 31 + "=", "btih"),
        ("magnet:?xt=urn:btih:" + "ä" * 32, "btih"),
        ("magnet:?xt=urn:btmh:1220" + "x" * 64, "btmh"),
        ("magnet:?xt=urn:btmh:1114" + V1.hex(), "btmh"),
        ("magnet:?xt=urn:btmh:" + V2.hex(), "btmh"),
        (f"magnet:?{XT1}&xt=urn:btih:{'0' * 40}", "more than one"),
        (f"magnet:?{XT1}&dn=" + "x" * limits.MAX_MAGNET_BYTES, "over"),
    ],
)
def test_refusals(uri: str, words: str) -> None:
    with pytest.raises(InvalidTorrent, match=words) as caught:
        parse_magnet(uri)
    assert "\n" not in str(caught.value)


def test_magnet_of() -> None:
    metainfo = parse_torrent(
        build("hybrid", trackers=[["http://a/"], ["udp://b:1"]], web_seeds=["http://w/ä"])
    )
    magnet = magnet_of(metainfo)
    assert magnet.hashes == metainfo.hashes
    assert magnet.trackers == ("http://a/", "udp://b:1")
    assert parse_magnet(magnet.to_uri()) == magnet


urls = st.text(min_size=1, max_size=10).map(lambda tail: f"http://h/{tail}")
anything = st.one_of(
    urls.map(lambda url: f"tr={url}"),
    st.text(max_size=20),
    st.text("0123456789,-", max_size=12).map(lambda text: f"so={text}"),
    st.text("[]:.%0123456789abcdef", max_size=20).map(lambda text: f"x.pe={text}"),
)


@given(st.lists(anything, max_size=6))
def test_goes_round(parts: list[str]) -> None:
    uri = "&".join([f"magnet:?{XT1}", *parts])
    fuzz_magnet.one_input(uri.encode("utf-8", "surrogatepass"))


@given(st.binary(max_size=80))
def test_anything_else_is_a_declared_error(data: bytes) -> None:
    fuzz_magnet.one_input(data)
    fuzz_magnet.one_input(b"magnet:?xt=" + data)


def test_a_publisher_instead_of_a_torrent() -> None:
    key = "8543d3e6115f0f98c944077a4493dcd543e49c739fd998550a1f614ab36ed63e"
    link = f"magnet:?xs=urn:btpk:{key}"
    assert parse_publisher(link) == Publisher(bytes.fromhex(key))
    assert parse_publisher(f"{link}&s=6e") == Publisher(bytes.fromhex(key), b"n")
    assert parse_publisher(f"{link}&xt=urn:btih:{'a' * 40}") is None
    assert parse_publisher(f"magnet:?xt=urn:btih:{'a' * 40}") is None
    hashes = InfoHashes(v1=b"h" * 20)
    assert parse_magnet(f"{link}&dn=x", hashes) == Magnet(hashes, name="x")
    for wrong in (f"{link[:-1]}", f"{link}&s=6", f"{link}&s={'00' * 65}", f"{link}&s=zz"):
        with pytest.raises(InvalidTorrent):
            parse_publisher(wrong)
