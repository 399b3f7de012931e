"""Promises of the tree that hold for any torrents."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.vfs.fakes import FakeVolume, volume
from torrentfs.vfs.tree import ROOT, Tree

NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0|", exclude_categories=["Cs"]),
    min_size=1,
    max_size=8,
).filter(lambda name: name not in (".", ".."))


@st.composite
def file_lists(draw: st.DrawFn) -> list[tuple[str, int]]:
    """Paths that fit together: no file is also a directory, no two are the same."""
    paths = draw(st.lists(st.lists(NAMES, min_size=1, max_size=4).map(tuple), max_size=12))
    kept: dict[tuple[str, ...], None] = {}
    for path in paths:
        above = {path[:depth] for depth in range(1, len(path))}
        if path in kept or above & kept.keys() or any(k[: len(path)] == path for k in kept):
            continue
        kept[path] = None
    flags = draw(st.lists(st.sampled_from(["", "", "|x", "|p"]), min_size=12, max_size=12))
    sizes = draw(st.lists(st.integers(0, 1 << 40), min_size=12, max_size=12))
    return [
        ("/".join(path) + flag, size) for path, flag, size in zip(kept, flags, sizes, strict=False)
    ]


@st.composite
def torrents(draw: st.DrawFn) -> list[FakeVolume]:
    keys = draw(st.lists(st.binary(min_size=20, max_size=20), max_size=6, unique=True))
    names = st.one_of(st.sampled_from(["a", "A", "same", "Same"]), NAMES)
    contents = st.one_of(st.integers(0, 1 << 40), file_lists())
    return [
        volume(draw(names), draw(contents), key=key.hex(), added=float(draw(st.integers(0, 3))))
        for key in keys
    ]


def walk(tree: Tree) -> dict[tuple[str, ...], int]:
    """Every path and its inode, by listings alone."""
    found = {(): ROOT}
    todo = [((), ROOT)]
    while todo:
        path, inode = todo.pop()
        for name, about, _ in tree.listing(inode).entries():
            text = name.decode("utf-8", "surrogateescape")
            if text in (".", ".."):
                continue
            here = (*path, text)
            assert here not in found
            found[here] = about.inode
            assert tree.attributes(about.inode) == about
            if about.mode & 0o170000 == 0o040000:
                todo.append((here, about.inode))
    return found


@given(torrents())
def test_every_listed_path_leads_to_its_inode_and_back(volumes: list[FakeVolume]) -> None:
    tree = Tree(volumes=volumes)
    for path, inode in walk(tree).items():
        assert tree.resolve(path) == inode
        assert tree.path_of(inode) == path
        assert 0 < inode < 1 << 63


@given(torrents())
def test_inodes_are_unique_and_every_visible_file_is_there(volumes: list[FakeVolume]) -> None:
    tree = Tree(volumes=volumes)
    found = walk(tree)
    assert len(set(found.values())) == len(found)
    files = [inode for inode in found.values() if tree.volume(inode) not in (None,)]
    shown = sorted(
        (owner.metainfo.hashes.key, file)
        for inode in files
        for owner, file in [tree.volume(inode) or (None, None)]
        if owner is not None and file is not None
    )
    expected = sorted(
        (v.metainfo.hashes.key, n)
        for v in volumes
        for n, file in enumerate(v.metainfo.files)
        if not file.pad
    )
    assert shown == expected
    assert tree.totals() == (
        len(volumes),
        len(expected),
        sum(f.length for v in volumes for f in v.metainfo.files if not f.pad),
    )


@given(torrents(), st.randoms(use_true_random=False))
def test_paths_and_inodes_do_not_depend_on_load_order(volumes, random) -> None:  # type: ignore[no-untyped-def]
    before = walk(Tree(volumes=volumes))
    shuffled = list(volumes)
    random.shuffle(shuffled)
    assert walk(Tree(volumes=shuffled)) == before


@given(torrents(), st.data())
def test_a_listing_resumed_anywhere_skips_and_repeats_nothing(volumes, data) -> None:  # type: ignore[no-untyped-def]
    tree = Tree(volumes=volumes)
    for inode in walk(tree).values():
        if tree.attributes(inode).mode & 0o170000 != 0o040000:
            continue
        listing = tree.listing(inode)
        whole = list(listing.entries())
        assert len(whole) == len(listing)
        pieces, place = [], 0
        while True:
            step = data.draw(st.integers(1, 4))
            part = [entry for entry, _ in zip(listing.entries(place), range(step), strict=False)]
            if not part:
                break
            pieces += part
            place = part[-1].next_id
        assert pieces == whole
