"""Folders of the mount: they come and go with their torrents, under stable names and inodes."""

from __future__ import annotations

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vfs.fakes import FakeVolume, volume
from torrentfs.vfs.folders import FOLDER, ROOT, Folders
from torrentfs.vfs.tree import Placement, Tree, TreeOptions

FIRST, SECOND, THIRD = "11" * 20, "22" * 20, "33" * 20


def key(one: FakeVolume) -> str:
    return one.metainfo.hashes.key


def names(tree: Tree, *path: str) -> list[str]:
    listing = tree.listing(tree.resolve(path))
    return sorted(entry.name.decode() for entry in listing.entries())[2:]


def seconds(tree: Tree, *path: str) -> float:
    return tree.attributes(tree.resolve(path)).time_ns / 1e9


def test_folders_come_with_their_first_torrent_and_go_with_their_last() -> None:
    """docs/semantics.md: "Folders come with their first torrent and go with their last"."""
    tree = Tree()
    one, two = volume("one", [("f", 1)]), volume("two", 5)
    assert tree.add(one, folder=("films", "old")) == ("films", "old", "one")
    assert tree.add(two, folder=("films",)) == ("films", "two")
    assert names(tree) == ["films"]
    assert names(tree, "films") == ["old", "two"]
    assert tree.path_of(tree.resolve(["films", "old", "one", "f"])) == ("films", "old", "one", "f")
    assert tree.attributes(tree.resolve(["films"])).mode == stat.S_IFDIR | 0o555
    assert tree.path_of_key(key(one)) == ("films", "old", "one")
    change = tree.remove(key(one), now=1.0)
    assert change.path == ("films", "old", "one")
    assert change.parent == tree.resolve(["films"])
    assert [name for name, _ in change.entries] == [b"old"]
    assert names(tree, "films") == ["two"]
    assert [name for name, _ in tree.remove(key(two), now=2.0).entries] == [b"films"]
    assert names(tree) == []


def test_what_comes_is_told_by_the_outermost_new_entry() -> None:
    tree = Tree()
    change = tree.insert(Placement(volume("one"), folder=("a", "b")))
    assert (change.path, change.parent) == (("a", "b", "one"), ROOT)
    assert change.entries == [(b"a", tree.resolve(["a"]))]
    change = tree.insert(Placement(volume("two"), folder=("a", "b")))
    assert change.parent == tree.resolve(["a", "b"])
    assert change.entries == [(b"two", tree.resolve(["a", "b", "two"]))]


def test_links_and_dots_of_folders() -> None:
    tree = Tree()
    tree.add(volume("t", [("d/f", 1)]), folder=("a",))
    tree.add(volume("s"), folder=("a", "b"))
    tree.add(volume("top"))
    a, b = tree.resolve(["a"]), tree.resolve(["a", "b"])
    assert tree.attributes(a).nlink == 4
    assert tree.attributes(b).nlink == 2
    assert tree.attributes(ROOT).nlink == 3
    assert tree.lookup(b, b"..") == a
    assert tree.lookup(a, b"..") == ROOT
    assert tree.lookup(b, b".") == b
    assert tree.lookup(tree.resolve(["a", "t"]), b"..") == a
    assert tree.volume(a) is None
    assert tree.link_target(a) is None
    with pytest.raises(IsADirectoryError):
        tree.file(a)
    with pytest.raises(FileNotFoundError):
        tree.attributes(a ^ 1 << 40)


@pytest.mark.parametrize("torrent", ["films", "Films", "FILMS"])
def test_a_torrent_called_like_a_folder_gets_its_hash(torrent: str) -> None:
    """docs/semantics.md: "who is there keeps the name"."""
    tree = Tree()
    tree.add(volume("x"), folder=("films",))
    assert tree.add(volume(torrent, key=SECOND)) == (f"{torrent} [22222222]",)
    assert names(tree, "films") == ["x"]


def test_a_folder_called_like_a_torrent_gets_a_hash_of_its_path_each_time() -> None:
    tree = Tree()
    tree.add(volume("films", [("a", 1)]))
    folder, _ = tree.add(volume("x"), folder=("films",))
    assert folder.startswith("films [")
    assert len(folder) == len("films [12345678]")
    assert tree.add(volume("y"), folder=("films",)) == (folder, "y")
    again = Tree()
    again.add(volume("films", [("a", 1)]))
    assert again.add(volume("y"), folder=("films",)) == (folder, "y")
    assert again.resolve([folder]) == tree.resolve([folder])


@pytest.mark.parametrize(("one", "two"), [("Films", "films"), ("caf\u00e9", "cafe\u0301")])
def test_folders_that_some_system_cannot_tell_apart(one: str, two: str) -> None:
    tree = Tree()
    tree.add(volume("x"), folder=(one,))
    folder, _ = tree.add(volume("y"), folder=(two,))
    assert folder.startswith(f"{two} [")
    assert tree.add(volume("z"), folder=(two,)) == (folder, "z")
    assert tree.add(volume("w"), folder=(one,)) == (one, "w")


def test_a_suffix_that_is_taken_is_made_longer() -> None:
    tree = Tree()
    tree.add(volume("films", [("a", 1)], key=FIRST))
    folder, _ = tree.add(volume("x"), folder=("films",))
    other = Tree()
    other.add(volume("films", [("a", 1)], key=FIRST))
    other.add(volume(folder, [("a", 1)], key=SECOND))
    longer, _ = other.add(volume("x"), folder=("films",))
    assert longer.startswith(folder[:-1])
    assert len(longer) == len("films [0123456789abcdef]")


@pytest.mark.parametrize(
    ("asked", "made"),
    [
        ("..", "_"), (".", "_"), ("", "_"), ("a/b", "a_b"), ("a\0b", "a_b"),
        ("nul.txt", "_nul.txt"), ("\udcff", "_"), ("\u202egpj.exe", "_gpj.exe"), ("tab\t", "tab_"),
    ],
)  # fmt: skip
def test_names_of_folders_are_made_safe(asked: str, made: str) -> None:
    assert Tree().add(volume("x"), folder=(asked,)) == (made, "x")


def test_a_folder_with_a_long_name_and_folders_too_deep() -> None:
    """docs/semantics.md: "Folders may be 100 deep"."""
    [name, _] = Tree().add(volume("x"), folder=("\u00e9" * 200,))
    assert len(name.encode()) <= 255
    with pytest.raises(ValueError, match="100 deep"):
        Tree().add(volume("x"), folder=("d",) * 101)


def test_a_name_that_was_given_is_kept_if_it_is_free() -> None:
    tree = Tree()
    assert tree.add(volume("x", key=SECOND), name="x [22222222]") == ("x [22222222]",)
    assert tree.add(volume("x", key=FIRST), name="y/..") == ("y_..",)
    assert tree.add(volume("x", key=THIRD), name="Y_..") == ("Y_.. [33333333]",)


def test_given_names_come_before_what_torrents_are_called() -> None:
    old, new = volume("x", key=FIRST, added=1.0), volume("y", key=SECOND, added=2.0)
    tree = Tree()
    tree.add_many([Placement(old), Placement(new, name="x")])
    assert tree.path_of_key(SECOND) == ("x",)
    assert tree.path_of_key(FIRST) == ("x [11111111]",)


def test_inodes_of_folders_follow_from_their_paths() -> None:
    """docs/semantics.md: "of a folder from its path"."""
    one, two = Tree(), Tree()
    for tree, order in ((one, "xy"), (two, "yx")):
        for name in order:
            tree.add(volume(name), folder=("a", name))
    for path in (["a"], ["a", "x"], ["a", "y"]):
        assert one.resolve(path) == two.resolve(path)
        assert one.resolve(path) & FOLDER
        assert 0 < one.resolve(path) < 1 << 63
    assert one.resolve(["a", "x"]) != one.resolve(["a", "y"])


def test_inodes_that_collide_are_hashed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Poor:
        def __init__(self, data: bytes, digest_size: int) -> None:
            self.salt = int(data.rpartition(b"/")[2])

        def digest(self) -> bytes:
            return self.salt.to_bytes(8, "big")

    monkeypatch.setattr("torrentfs.vfs.folders.hashlib.blake2b", Poor)
    folders = Folders({})
    inodes = {folders.reach((name,)).folder.inode for name in "abcdefgh"}
    assert len(inodes) == 8


def test_times_move_when_an_entry_of_that_very_directory_comes_or_goes() -> None:
    tree = Tree()
    tree.add(volume("x", added=5.0), folder=("a", "b"), now=100.0)
    assert [seconds(tree, *path) for path in ([], ["a"], ["a", "b"])] == [100, 100, 100]
    tree.add(volume("y", added=5.0), folder=("a", "b"), now=200.0)
    assert [seconds(tree, *path) for path in ([], ["a"], ["a", "b"])] == [100, 100, 200]
    tree.add(volume("z", added=5.0), folder=("c",), now=300.0)
    assert [seconds(tree, *path) for path in ([], ["a"], ["c"])] == [300, 100, 300]
    tree.remove(key(volume("y")), now=400.0)
    assert [seconds(tree, *path) for path in ([], ["a"], ["a", "b"])] == [300, 100, 400]
    tree.remove(key(volume("x")), now=500.0)
    assert seconds(tree) == 500
    assert seconds(tree, "c") == 300
    assert seconds(tree, "c", "z") == 5


def test_times_move_forwards_when_the_clock_was_set_back() -> None:
    """By a second: who looks at whole seconds must see it.

    docs/semantics.md: "only forwards, even if the clock was set back".
    """
    tree = Tree()
    tree.add(volume("x", added=1000.0), now=1000.0)
    tree.add(volume("y"), now=10.0)
    assert seconds(tree) == 1001
    tree.remove(key(volume("y")), now=11.0)
    assert seconds(tree) == 1002
    tree.add(volume("z"), now=2000.0)
    assert seconds(tree) == 2000


def test_what_comes_at_one_moment_is_one_change() -> None:
    tree = Tree(folder_times={(): 50.0})
    tree.add_many([Placement(volume(f"{n}")) for n in range(9)], now=10.0)
    assert seconds(tree) == 51


def test_times_survive_and_what_came_while_nothing_was_mounted_moves_them() -> None:
    tree = Tree()
    tree.add(volume("x", added=1.0), folder=("a",), now=123.456)
    times = tree.folder_times
    assert times == {(): 123.456, ("a",): 123.456}
    again = Tree(folder_times=times)
    again.add(volume("x", added=1.0), folder=("a",))
    assert again.folder_times == times
    again.add(volume("new", added=500.0), folder=("a",))
    assert again.folder_times == {(): 123.456, ("a",): 500.0}
    fresh = Tree()
    fresh.add(volume("x", added=1.0), folder=("a",))
    assert fresh.folder_times == {(): 1.0, ("a",): 1.0}


def test_a_folder_that_comes_again_is_not_older_than_it_was_nor_the_same_to_the_kernel() -> None:
    tree = Tree()
    tree.add(volume("x"), folder=("a",), now=100.0)
    before = tree.attributes(tree.resolve(["a"]))
    tree.remove(key(volume("x")), now=101.0)
    tree.add(volume("x"), folder=("a",), now=50.0)
    after = tree.attributes(tree.resolve(["a"]))
    assert after.inode == before.inode
    assert after.time_ns == 102 * 10**9  # what it had at its end, and a second
    assert after.generation != before.generation
    entry = next(e for e in tree.listing(after.inode).entries() if e.name == b"x")
    assert entry.attributes.generation == after.generation


def test_totals_of_a_folder() -> None:
    tree = Tree()
    tree.add(volume("x", 5), folder=("a", "b"))
    tree.add(volume("y", 7), folder=("a",))
    tree.add(volume("z", 9))
    assert tree.totals() == (3, 3, 21)
    assert tree.totals(tree.resolve(["a"])) == (2, 2, 12)


def test_the_layout_infohash_has_a_folder_per_torrent() -> None:
    """docs/semantics.md: "in a directory called by its info-hash"."""
    tree = Tree(TreeOptions(layout="infohash"))
    assert tree.add(volume("x", key=FIRST), folder=("a",)) == ("a", FIRST, "x")
    assert tree.add(volume("x", [("f", 1)], key=SECOND)) == (SECOND, "x")
    assert tree.resolve([SECOND, "x", "f"])
    tree.remove(SECOND, now=1.0)
    assert names(tree) == ["a"]


def test_the_layout_flat_puts_all_files_side_by_side() -> None:
    """docs/semantics.md: "its files lie side by side"."""
    tree = Tree(TreeOptions(layout="flat"))
    album = [("cd1/01.flac", 1), ("cd2/01.flac", 2), ("cover.jpg", 3), ("cd1/pad|p", 4)]
    assert tree.add(volume("album", album, key=FIRST), folder=("music",)) == ("music",)
    assert tree.add(volume("02.flac", 5), folder=("music",)) == ("music", "02.flac")
    tree.add(volume("other", [("Cover.jpg", 7)], key=SECOND), folder=("music",))
    found = names(tree, "music")
    assert len(found) == 5
    assert {"01.flac", "02.flac", "cover.jpg"} < set(found)
    second = next(n for n in found if n.startswith("01 ["))
    assert second.endswith("].flac")
    assert tree.file(tree.resolve(["music", second]))[1] == 1
    assert tree.path_of(tree.inode_of(FIRST, 1)) == ("music", second)
    assert next(n for n in found if n.startswith("Cover [")).endswith("].jpg")
    assert tree.attributes(tree.resolve(["music"])).nlink == 2
    assert tree.attributes(tree.inode_of(FIRST, 0)).size == 1
    with pytest.raises(FileNotFoundError):
        tree.attributes(tree.inode_of(FIRST, 3))
    with pytest.raises(NotADirectoryError):
        tree.listing(tree.inode_of(FIRST, 0))
    change = tree.remove(FIRST, now=1.0)
    assert sorted(name for name, _ in change.entries)[0].startswith(b"01 [")
    assert len(change.entries) == 3
    assert len(names(tree, "music")) == 2


def test_a_flat_torrent_of_which_nothing_is_shown_keeps_its_folder() -> None:
    tree = Tree(TreeOptions(layout="flat"))
    tree.add(volume("t", [("a|p", 1)], key=FIRST), folder=("f",))
    assert names(tree, "f") == []
    tree.remove(FIRST, now=1.0)
    assert names(tree) == []


def test_flat_links_point_to_what_is_shown() -> None:
    files = [
        ("d/file", 1), ("link|l=d/file", 0), ("far/more|l=link", 0), ("dir|l=d", 0),
        ("hidden|l=e/file", 0), ("e/file", 2),
    ]  # fmt: skip
    tree = Tree(TreeOptions(layout="flat"))
    tree.add(volume("t", files, key=FIRST), select=(0, 1, 2, 3, 4))
    assert names(tree) == ["file", "link", "more"]
    assert tree.link_target(tree.resolve(["link"])) == b"file"
    assert tree.link_target(tree.resolve(["more"])) == b"link"


PLACES = st.lists(
    st.tuples(
        st.binary(min_size=20, max_size=20),
        st.sampled_from(["a", "A", "b", "film.mkv"]),
        st.lists(st.sampled_from(["a", "A", "b", "\u00e9", "e\u0301"]), max_size=3).map(tuple),
        st.booleans(),
    ),
    max_size=8,
    unique_by=lambda place: place[0],
)


@given(PLACES, st.sampled_from(["name", "infohash", "flat"]), st.randoms(use_true_random=False))
def test_names_and_inodes_do_not_depend_on_the_order(places, layout, random) -> None:  # type: ignore[no-untyped-def]
    def grown(order) -> Tree:  # type: ignore[no-untyped-def]
        tree = Tree(TreeOptions(layout=layout))
        tree.add_many(
            Placement(volume(name, [("x/y", 1), ("y", 2)] if many else 3, key=k.hex()), (), folder)
            for k, name, folder, many in order
        )
        return tree

    tree = grown(places)
    found = walk(tree)
    assert len(set(found.values())) == len(found)
    for path, inode in found.items():
        assert tree.resolve(path) == inode
        assert tree.path_of(inode) == path
    shuffled = list(places)
    random.shuffle(shuffled)
    assert walk(grown(shuffled)) == found
    for k, *_ in shuffled:
        tree.remove(k.hex(), now=1.0)
    assert walk(tree) == {(): ROOT}
    assert tree.attributes(ROOT).nlink == 2
    assert list(tree.folder_times) == [()]


def walk(tree: Tree) -> dict[tuple[str, ...], int]:
    found: dict[tuple[str, ...], int] = {}
    todo: list[tuple[tuple[str, ...], int]] = [((), ROOT)]
    while todo:
        path, inode = todo.pop()
        assert path not in found
        found[path] = inode
        if stat.S_ISDIR(tree.attributes(inode).mode):
            for name, about, _ in tree.listing(inode).entries():
                if name not in (b".", b".."):
                    todo.append(((*path, name.decode()), about.inode))
    return found
