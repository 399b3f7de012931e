"""Torrent files: every field, every refusal."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.metainfo.promises import check_promises
from tests.metainfo.torrents import PAYLOAD, VERSIONS, Version, build
from torrentfs.errors import InvalidTorrent
from torrentfs.metainfo import bencoding, limits
from torrentfs.metainfo.hashes import InfoHashes
from torrentfs.metainfo.torrent_file import Metainfo, parse_info, parse_torrent


def info_of(**fields: Any) -> dict[bytes, Any]:
    info: dict[bytes, Any] = {b"name": b"n", b"piece length": 16384}
    info |= {key.replace("_", " ").encode(): value for key, value in fields.items()}
    if b"files" not in info and b"file tree" not in info:
        info.setdefault(b"length", 20_000)
    if b"file tree" not in info:
        info.setdefault(b"pieces", bytes(40))
    return {key: value for key, value in info.items() if value is not None}


def torrent_of(info: dict[bytes, Any], **outer: Any) -> Metainfo:
    fields = {key.replace("_", " ").encode(): value for key, value in outer.items()}
    metainfo = parse_torrent(bencoding.encode({**fields, b"info": info}))
    check_promises(metainfo)
    return metainfo


def files_of(*entries: dict[bytes, Any]) -> Metainfo:
    total = sum(entry.get(b"length", 0) for entry in entries if entry.get(b"attr") != b"l")
    return torrent_of(info_of(files=list(entries), pieces=bytes(20 * -(-total // 16384))))


def entry(*path: str | bytes, length: int = 1, **fields: Any) -> dict[bytes, Any]:
    extra = {key.replace("_", " ").encode(): value for key, value in fields.items()}
    return {b"length": length, b"path": list(path), **extra}


def test_info_hash_is_over_the_received_bytes() -> None:
    # keys out of order, which no encoder of ours would write
    info = b"d6:pieces20:" + bytes(20) + b"6:lengthi1e12:piece lengthi16384e4:name1:ne"
    metainfo = parse_torrent(b"d4:info" + info + b"8:announce8:http://ae")
    assert metainfo.info == info
    assert metainfo.hashes.v1 == hashlib.sha1(info).digest()
    assert info in metainfo.to_torrent()
    assert metainfo.piece_hash(0) == bytes(20)
    assert metainfo.piece_hashes == bytes(20)


@pytest.mark.parametrize("version", VERSIONS)
def test_all_that_stands_around_info(version: Version) -> None:
    outer: dict[str, Any] = {
        "trackers": (("http://a/announce", "udp://b:80"), ("wss://c/",)),
        "web_seeds": ("http://w/a%20b/", "https://v/"),
        "http_seeds": ("http://h/seed.php",),
        "nodes": (("127.0.0.1", 6881), ("::1", 1)),
        "creation_date": 1_700_000_000,
        "comment": "schön",
        "created_by": "torrentfs",
    }
    metainfo = parse_torrent(build(version, **outer))
    for name, value in outer.items():
        assert getattr(metainfo, name) == value
    again = parse_torrent(metainfo.to_torrent())
    assert again.advice == metainfo.advice
    assert again.hashes == metainfo.hashes
    assert dict(again.piece_layers) == dict(metainfo.piece_layers)
    check_promises(metainfo)


def test_malformed_advice_is_dropped() -> None:
    metainfo = torrent_of(
        info_of(),
        announce=7,
        announce_list=[],
        url_list=b"",
        httpseeds=[1, b"no url", b"http://\n", b"http://" + b"x" * 5000, b"\xff://"],
        nodes=[[b"h", 0], [b"h"], 1, [b"a b", 1], [b"h", 70000]],
        creation_date=b"today",
        comment=3,
    )
    assert metainfo.advice == type(metainfo.advice)()


def test_trackers_of_bep_12() -> None:
    fields: dict[bytes, Any] = {b"announce": b"http://alone/", b"info": info_of()}
    assert parse_torrent(bencoding.encode(fields)).trackers == (("http://alone/",),)
    tiers = [[b"http://a/", b"http://a/"], b"http://b/", [], [b"http://a/", b" http://c/ "], 5]
    fields[b"announce-list"] = tiers
    expected = (("http://a/",), ("http://b/",), ("http://c/",))
    assert parse_torrent(bencoding.encode(fields)).trackers == expected
    fields[b"announce-list"] = [[b"http://t%d/" % n] for n in range(limits.MAX_TRACKERS + 5)]
    assert len(parse_torrent(bencoding.encode(fields)).trackers) == limits.MAX_TRACKERS


def test_url_list_may_be_one_string() -> None:
    data = bencoding.encode({b"url-list": b"http://w/", b"info": info_of()})
    assert parse_torrent(data).web_seeds == ("http://w/",)


def test_text_has_no_control_characters() -> None:
    metainfo = torrent_of(info_of(), comment=b"two\nlines \x1b[31mred\xff", created_by=b"\x00")
    assert metainfo.comment == "two\nlines [31mred\ufffd"
    assert metainfo.created_by is None


@pytest.mark.parametrize(
    ("value", "private"), [(1, True), (0, False), (None, False), (b"1", False)]
)
def test_private(value: object, private: bool) -> None:
    assert torrent_of(info_of(private=value)).private is private


def test_utf8_keys_win_where_valid() -> None:
    path = {b"path.utf-8": ["ä".encode()]}
    metainfo = torrent_of(
        info_of(**{"name.utf-8": "ñ".encode()}, name=b"\xf1", files=[entry(b"\xe4") | path])
        | {b"pieces": bytes(20)}
    )
    assert (metainfo.name, metainfo.raw_name) == ("ñ", "ñ".encode())
    assert (metainfo.files[0].path, metainfo.files[0].raw_path) == (("ä",), ("ä".encode(),))
    bad = files_of(entry("good") | {b"path.utf-8": [b"\xe4"]}, entry("b") | {b"path.utf-8": 3})
    assert [file.path for file in bad.files] == [("good",), ("b",)]
    assert torrent_of(info_of(**{"name.utf-8": b"\xff"})).name == "n"


def test_names() -> None:
    assert torrent_of(info_of(name=b"../up")).name == ".._up"
    nameless = torrent_of(info_of(name=None))
    assert nameless.name == nameless.hashes.key
    assert nameless.raw_name == b""
    long = torrent_of(info_of(name=b"x" * 100_000))
    assert len(long.name) == 255


def test_attributes() -> None:
    files = files_of(
        entry("program", attr=b"x"),
        entry(".pad", "16383", length=16383, attr=b"p"),
        entry("secret", attr=b"hx"),
        entry("odd", attr=7),
        entry("_____padding_file_0_if you see this", length=5),
    ).files
    assert [f.pad for f in files] == [False, True, False, False, True]
    assert [f.executable for f in files] == [True, False, True, False, False]
    assert [f.hidden for f in files] == [False, False, True, False, False]
    assert [f.start for f in files] == [0, 1, 16384, 16385, 16386]


def test_padding_renames_nothing() -> None:
    files = files_of(
        entry(".pad", "1"),
        entry(".pad", "1", length=5, attr=b"p"),
        entry(".PAD_"),
        entry(".pad", "1", length=5, attr=b"p"),
    ).files
    assert [f.path for f in files if not f.pad] == [(".pad", "1"), (".PAD_",)]
    assert [f.raw_path for f in files if not f.pad] == [(b".pad", b"1"), (b".PAD_",)]


@pytest.mark.parametrize(
    ("target", "safe"),
    [
        (["d", "a"], ("d", "a")),
        (["d"], ("d",)),
        (["d", ".", "", "..", "d", "a"], ("d", "a")),
        (["d", "sla/sh"], ("d", "sla_sh")),
        (["no", "such\n"], ("no", "such_")),
        (["..", "etc", "passwd"], None),
        (["d", "..", "..", "x"], None),
        (["/etc/passwd"], ("_etc_passwd",)),
        (["d", ".."], None),
        (None, None),
    ],
)
def test_symlinks_are_confined(target: list[str] | None, safe: tuple[str, ...] | None) -> None:
    """docs/semantics.md: "a link whose target would leave it is an empty file"."""
    link = entry("link", attr=b"l", length=77)
    if target is not None:
        link[b"symlink path"] = target
    file = files_of(entry("d", "a"), entry("d", "sla/sh"), link).files[2]
    assert file.symlink == safe
    assert file.length == 0


def test_files_is_a_sequence() -> None:
    files = files_of(*[entry(f"f{n}") for n in range(5)]).files
    assert len(files) == 5
    assert files[-1] == files[4]
    assert files[1:3] == [files[1], files[2]]
    assert list(files) == [files[n] for n in range(5)]
    with pytest.raises(IndexError):
        files[5]


def test_a_one_file_v2_tree_of_another_name_is_a_directory() -> None:
    leaf = {b"": {b"length": 1, b"pieces root": b"r" * 32}}
    fields = {"file_tree": {b"other": leaf}, "meta_version": 2}
    metainfo = torrent_of(info_of(**fields))
    assert not metainfo.is_single_file
    assert metainfo.files[0].path == ("other",)
    assert metainfo.files[0].pieces_root == b"r" * 32


LEAF: dict[bytes, Any] = {b"": {b"length": 1, b"pieces root": b"r" * 32}}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"piece_length": 0}, "piece length"),
        ({"piece_length": limits.MAX_PIECE_LENGTH + 1}, "piece length"),
        ({"piece_length": b"1"}, "piece length"),
        ({"length": -1}, "no valid length"),
        ({"length": None}, "no valid length"),
        ({"length": limits.MAX_TORRENT_LENGTH + 1}, "no valid length"),
        ({"pieces": bytes(39)}, "39 bytes of piece hashes for 2 pieces"),
        ({"pieces": bytes(60)}, "60 bytes of piece hashes for 2 pieces"),
        ({"pieces": 3}, "neither"),
        ({"pieces": None}, "neither"),
        ({"name": 3}, "name"),
        ({"files": []}, "no files"),
        ({"files": [3]}, "no dictionary"),
        ({"files": [{b"length": 1}]}, "no path"),
        ({"files": [entry()]}, "no path"),
        ({"files": [entry("a") | {b"path": b"a"}]}, "no path"),
        ({"files": [entry("a") | {b"path": [1]}]}, "not made of strings"),
        ({"files": [entry("a") | {b"path": [[], b"a"]}]}, "not made of strings"),
        ({"files": [entry(*["a"] * 101)]}, "over 100 parts"),
        ({"files": [entry("a" * 8193)]}, "over 8192 bytes"),
        ({"files": [entry("a"), entry("a" * 8193)]}, "over 8192 bytes"),
        ({"files": [entry(f"{n}", length=1 << 49) for n in range(3)]}, "larger than"),
        ({"files": [entry("a", attr=b"l", symlink_path=3)]}, "no path"),
        ({"file_tree": 3, "meta_version": 2}, "malformed"),
        ({"file_tree": {}, "meta_version": 2}, "no files"),
        ({"file_tree": {b"a": LEAF}, "meta_version": 3}, "version 3"),
        ({"file_tree": {b"a": {b"": 3}}, "meta_version": 2}, "no dictionary"),
        ({"file_tree": {b"a": {b"": {b"length": 1}}}, "meta_version": 2}, "pieces root"),
        ({"file_tree": {b"a": {**LEAF, b"b": LEAF}}, "meta_version": 2}, "both"),
        ({"file_tree": {b"a": LEAF}, "meta_version": 2, "piece_length": 16385}, "power of two"),
        ({"file_tree": {b"a": LEAF}, "meta_version": 2, "piece_length": 8192}, "power of two"),
    ],
)
def test_refusals(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidTorrent, match=words) as caught:
        torrent_of(info_of(**fields))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a torrent"),
        (b"<html>", "not a torrent"),
        (b"de", "no info"),
        (b"d4:infoi1ee", "malformed"),
        (b"d4:infod", "too early"),
        (b"d4:infode4:infodee", "twice"),
        (b"d4:infod1:x" + b"l" * 10_000, "depth"),
        (b"d1:x" + b"l" * 10_000, "depth"),
    ],
)
def test_no_torrent_at_all(data: bytes, words: str) -> None:
    with pytest.raises(InvalidTorrent, match=words):
        parse_torrent(data)


def test_tail_of_the_file() -> None:
    data = build("v1")
    assert parse_torrent(data + b"\r\n").hashes == parse_torrent(data).hashes
    with pytest.raises(InvalidTorrent, match="bytes behind"):
        parse_torrent(data + b"x")


def test_limits_of_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_FILES", 3)
    files_of(*[entry(f"{n}") for n in range(3)])
    with pytest.raises(InvalidTorrent, match="more than 3 files"):
        files_of(*[entry(f"{n}") for n in range(4)])
    monkeypatch.setattr(limits, "MAX_PIECES", 3)
    with pytest.raises(InvalidTorrent, match="more than 3 pieces"):
        torrent_of(info_of(length=4 * 16384, pieces=bytes(80)))
    monkeypatch.setattr(limits, "MAX_TORRENT_BYTES", 100)
    with pytest.raises(InvalidTorrent, match="over"):
        parse_torrent(bytes(101))
    monkeypatch.setattr(limits, "MAX_METADATA_BYTES", 100)
    with pytest.raises(InvalidTorrent, match="over"):
        parse_info(bytes(101))


@pytest.mark.parametrize("field", ["path", "length", "root", "order", "start"])
def test_hybrid_halves_must_agree(field: str) -> None:
    info = bencoding.decode(parse_torrent(build("hybrid")).info)
    first = info[b"files"][0]
    if field == "path":
        first[b"path"] = [b"other"]
    elif field == "length":
        first[b"length"] += 1
        info[b"files"][1][b"length"] -= 1
    elif field == "root":
        del info[b"file tree"][b"a"][b""][b"pieces root"]
    elif field == "order":
        info[b"files"][0], info[b"files"][2] = info[b"files"][2], info[b"files"][0]
    else:
        total = sum(file[b"length"] for file in info[b"files"])
        info[b"files"] = [f for f in info[b"files"] if b"attr" not in f]
        info[b"files"].append(entry(".pad", "x", length=total - sum(map(len, PAYLOAD.values()))))
        info[b"files"][-1][b"attr"] = b"p"
    with pytest.raises(InvalidTorrent, match=r"halves|root"):
        parse_info(bencoding.encode(info))


@pytest.mark.parametrize("version", VERSIONS)
def test_parse_info(version: Version) -> None:
    whole = parse_torrent(build(version))
    told = parse_info(whole.info, whole.hashes, trackers=[["http://t/"]], web_seeds=["http://w/"])
    assert told.hashes == whole.hashes
    assert told.trackers == (("http://t/",),)
    assert list(told.files) == list(whole.files)
    for wrong in (InfoHashes(v1=bytes(20)), InfoHashes(v2=bytes(32))):
        with pytest.raises(InvalidTorrent, match="does not match"):
            parse_info(whole.info, wrong)
    with pytest.raises(InvalidTorrent, match="bytes behind"):
        parse_info(whole.info + b"x")
    # a magnet with one form of the hash finds a hybrid
    if version == "hybrid":
        assert parse_info(whole.info, InfoHashes(v2=whole.hashes.v2)).hashes == whole.hashes
