"""Any paths at all become safe and unique, and the order of listing does not matter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.metainfo.promises import assert_safe, assert_tree
from torrentfs.metainfo.names import NameTree, safe_name

awkward = st.sampled_from(
    [name.encode() for name in ("a", "A", "b", ".", "..", "", "/", "a/b", "a_b", "_", "CON", "con")]
) | st.sampled_from(
    [b"\xff", b"\xfe", b"x" * 300, b"X" * 300, b"a\x00b", *map(str.encode, ("é", "É", "e\u0301"))]
)
names = awkward | st.binary(max_size=8) | st.text(max_size=5).map(str.encode)
paths = st.lists(st.lists(names, min_size=1, max_size=4).map(tuple), max_size=12)
Paths = list[tuple[bytes, ...]]


def resolve(paths: Paths) -> dict[tuple[bytes, ...], tuple[str, ...]]:
    tree = NameTree()
    for *directory, name in paths:
        tree.add(tuple(directory), name)
    resolved = tree.resolve()
    for number, path in enumerate(paths):
        raw = resolved.raw_paths.get(number)
        assert path == (raw or tuple(n.encode() for n in resolved.paths[number]))
    return dict(zip(paths, resolved.paths, strict=True))


@given(paths)
def test_safe_and_unique(raw: Paths) -> None:
    tree = NameTree()
    for *directory, name in raw:
        tree.add(tuple(directory), name)
    safe = tree.resolve().paths
    for path in safe:
        for name in path:
            assert_safe(name)
    assert_tree(safe)
    assert [len(path) for path in safe] == [len(path) for path in raw]


@given(paths.map(lambda p: list(dict.fromkeys(p))), st.randoms(use_true_random=False))
def test_order_does_not_matter(raw: Paths, random: object) -> None:
    expected = resolve(raw)
    shuffled = list(raw)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert resolve(shuffled) == expected


@given(paths)
def test_files_of_one_directory_stay_together(raw: Paths) -> None:
    directories: dict[tuple[bytes, ...], tuple[str, ...]] = {}
    for path, safe in resolve(raw).items():
        for depth in range(len(path)):
            assert directories.setdefault(path[:depth], safe[:depth]) == safe[:depth]


@given(names)
def test_safe_name_is_its_own_safe_name(raw: bytes) -> None:
    name = safe_name(raw)
    assert_safe(name)
    assert safe_name(name.encode()) == name
