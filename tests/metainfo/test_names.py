"""Names of torrents: safe, unique, stable."""

from __future__ import annotations

import pytest

from tests.metainfo.promises import assert_safe, assert_tree
from torrentfs.metainfo.names import NameTree, safe_name


def resolve(*paths: tuple[bytes, ...]) -> list[tuple[str, ...]]:
    tree = NameTree()
    for *directory, name in paths:
        tree.add(tuple(directory), name)
    resolved = tree.resolve().paths
    assert_tree(resolved)
    return resolved


@pytest.mark.parametrize(
    ("raw", "safe"),
    [
        (b"plain.txt", "plain.txt"),
        ("日本語 – ünï.mkv".encode(), "日本語 – ünï.mkv"),
        (b'a "quoted": <name>?*|\\', 'a "quoted": <name>?*|\\'),
        (b" spaces . ", " spaces . "),
        (b"", "_"),
        (b".", "_"),
        (b"..", "_"),
        (b"...", "..."),
        (b".hidden", ".hidden"),
        (b"/etc/passwd", "_etc_passwd"),
        (b"../../x", ".._.._x"),
        (b"nul\x00byte", "nul_byte"),
        (b"line\nfeed\x7f\xc2\x85", "line_feed__"),
        (b"bad\xff\xfeutf8", "bad__utf8"),
        (b"surrogate \xed\xa0\x80", "surrogate ___"),
        ("exe.\u202egpj".encode(), "exe._gpj"),
        (b"CON", "_CON"),
        (b"nul.txt", "_nul.txt"),
        (b"Com7 .log", "_Com7 .log"),
        (b"console", "console"),
        (b"x" * 255, "x" * 255),
    ],
)
def test_safe_name(raw: bytes, safe: str) -> None:
    assert safe_name(raw) == safe
    assert_safe(safe)


@pytest.mark.parametrize(
    "raw",
    [b"x" * 256, b"y" * 5000 + b".mkv", "ü".encode() * 128, b"\xff" * 300, b"." * 300, b"a." * 200],
)
def test_long_names_are_cut(raw: bytes) -> None:
    name = safe_name(raw)
    assert_safe(name)
    assert name.endswith(".mkv") == raw.endswith(b".mkv")
    assert safe_name(raw + b"1") != name  # though they agree in what is kept


def test_plain_paths_stay() -> None:
    paths = [(b"a", b"b"), (b"a", b"c"), (b"b",), (b"c", b"b", b"a")]
    assert resolve(*paths) == [("a", "b"), ("a", "c"), ("b",), ("c", "b", "a")]


def test_case_twins_are_kept_apart() -> None:
    first, second = resolve((b"Readme.TXT",), (b"README.txt",))
    assert second == ("README.txt",)  # the smaller in byte order keeps its name
    assert first[0].startswith("Readme [")
    assert first[0].endswith("].TXT")
    assert resolve((b"README.txt",), (b"Readme.TXT",)) == [second, first]


def test_case_twins_of_directories_stay_whole() -> None:
    paths = resolve((b"Dir", b"a"), (b"dir", b"a"), (b"Dir", b"b"), (b"dir", b"b"))
    assert paths[0][0] == paths[2][0] == "Dir"
    assert paths[1][0] == paths[3][0] != "dir"
    assert paths[1][0].startswith("dir [")


def test_unicode_forms_are_kept_apart() -> None:
    one, other = resolve(("é".encode(),), ("e\u0301".encode(),))
    assert one != other


def test_exact_duplicates_are_told_apart() -> None:
    paths = resolve(*[(b"d", b"same.bin")] * 5)
    assert paths[0] == ("d", "same.bin")
    assert len(set(paths)) == 5


def test_file_where_a_directory_is_needed() -> None:
    paths = resolve((b"x",), (b"x", b"y"), (b"x", b"y", b"z"))
    assert paths[2] == ("x", "y", "z")
    assert paths[1][0] == "x"
    assert paths[1][1].startswith("y [")
    assert paths[0][0].startswith("x [")


def test_a_plain_name_is_never_changed_for_an_altered_one() -> None:
    slash, plain = resolve((b"a/b",), (b"a_b",))
    assert plain == ("a_b",)
    assert slash[0].startswith("a_b [")


def test_a_suffix_does_not_hit_another_name() -> None:
    twin = resolve((b"A",), (b"a",))[1][0]
    paths = resolve((b"A",), (b"a",), (twin.encode(),))
    assert paths[2] == (twin,)


def test_raw_paths_are_kept_where_they_differ() -> None:
    tree = NameTree()
    tree.add((b"d",), b"plain")
    tree.add((b"d",), b"sla/sh")
    tree.add((b"D",), b"plain")
    resolved = tree.resolve()
    assert resolved.paths[0][1] == "plain"
    assert resolved.raw_paths[1] == (b"d", b"sla/sh")
    assert resolved.entry((b"d", b"sla/sh")) == resolved.paths[1]
    assert resolved.entry((b"D",)) == resolved.paths[2][:1]
    assert resolved.entry((b"D", b"plain")) == resolved.paths[2]
    assert resolved.entry((b"no",)) is None


def test_nothing_at_all() -> None:
    assert NameTree().resolve().paths == []
