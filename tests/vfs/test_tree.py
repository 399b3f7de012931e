"""The tree: names, attributes, inodes, listings."""

from __future__ import annotations

import stat
import time

import pytest

from tests.vfs.fakes import FakeVolume, volume
from torrentfs.metainfo.torrent_file import parse_torrent
from torrentfs.vfs.listing import Listing
from torrentfs.vfs.tree import ROOT, Attributes, Tree, TreeOptions
from torrentfs.vfs.views import View


def names(listing: Listing) -> list[str]:
    return [entry.name.decode() for entry in listing.entries()]


def stat_of(tree: Tree, *path: str) -> Attributes:
    return tree.attributes(tree.resolve(path))


def test_a_single_file_torrent_is_a_file_and_others_are_directories() -> None:
    """docs/semantics.md: "a file if it is a single-file torrent, else a directory"."""
    tree = Tree(volumes=[volume("film.mkv", 1000), volume("album", [("one.flac", 7)])])
    assert sorted(names(tree.listing(ROOT))) == [".", "..", "album", "film.mkv"]
    film = stat_of(tree, "film.mkv")
    assert film.mode == stat.S_IFREG | 0o444
    assert (film.nlink, film.size, film.blocks) == (1, 1000, 2)
    assert stat_of(tree, "album").mode == stat.S_IFDIR | 0o555
    assert stat_of(tree, "album", "one.flac").size == 7
    found, file, size = tree.file(tree.resolve(["album", "one.flac"]))
    assert (found.metainfo.name, file, size) == ("album", 0, 7)


def test_a_torrent_of_one_file_in_a_directory_stays_a_directory() -> None:
    tree = Tree(volumes=[volume("album", [("album", 7)])])
    assert tree.path_of(tree.resolve(["album", "album"])) == ("album", "album")


@pytest.mark.parametrize(
    ("size", "blocks"), [(0, 0), (1, 1), (512, 1), (513, 2), (1 << 40, 1 << 31)]
)
def test_blocks_are_full_whatever_is_cached(size: int, blocks: int) -> None:
    """docs/semantics.md: "of the whole file, whatever of it is in the cache"."""
    assert stat_of(Tree(volumes=[volume("x", size)]), "x").blocks == blocks


def test_owner_modes_and_umask() -> None:
    """docs/semantics.md: "less `--umask`"."""
    options = TreeOptions(uid=5, gid=6, umask=0o077)
    tree = Tree(options, [volume("t", [("run|x", 1), ("read", 1)])])
    assert stat_of(tree, "t").mode == stat.S_IFDIR | 0o500
    assert stat_of(tree, "t", "run").mode == stat.S_IFREG | 0o500
    assert stat_of(tree, "t", "read").mode == stat.S_IFREG | 0o400


def test_links_count_subdirectories() -> None:
    """docs/semantics.md: "1 for files, 2 + subdirectories for directories"."""
    files = [("a/b/c", 1), ("a/x", 1), ("d/e", 1), ("f", 1)]
    tree = Tree(volumes=[volume("t", files), volume("single", 1)])
    assert stat_of(tree, "t").nlink == 4
    assert stat_of(tree, "t", "a").nlink == 3
    assert stat_of(tree, "t", "a", "b").nlink == 2
    assert tree.attributes(ROOT).nlink == 3


def test_padding_files_are_hidden_and_their_directories_too() -> None:
    """docs/semantics.md: "Padding files (BEP 47) are not shown"."""
    tree = Tree(volumes=[volume("t", [("a", 1), (".pad/1|p", 5), ("b", 1)])])
    assert names(tree.listing(tree.resolve(["t"]))) == [".", "..", "a", "b"]
    with pytest.raises(FileNotFoundError):
        tree.resolve(["t", ".pad"])
    hidden = tree.resolve(["t", "a"]) + 1
    with pytest.raises(FileNotFoundError):
        tree.attributes(hidden)
    assert tree.totals() == (1, 2, 2)


def test_links_are_followed_as_stat_does() -> None:
    files = [
        ("a/b/up|l=c/file", 0), ("a/b/back|l=a", 0), ("c/file", 3), ("dir|l=a/b", 0),
        ("loop|l=hole", 0), ("hole|l=loop", 0), ("gone|l=none", 0),
    ]  # fmt: skip
    tree = Tree(volumes=[volume("t", files)])

    def leads(path: str) -> str:
        return "/".join(tree.path_of(tree.follow(path.split("/"))))

    assert leads("t/a/b/up") == leads("t/dir/up") == "t/c/file"
    assert leads("t/dir/back/b/back/b/up") == "t/c/file"
    assert leads("t/dir") == "t/a/b"
    for path in ("t/loop", "t/gone", "t/c/none"):
        with pytest.raises(FileNotFoundError):
            leads(path)
    with pytest.raises(NotADirectoryError):
        leads("t/c/file/x")


def test_symlinks_point_inside_the_torrent_relative_to_their_place() -> None:
    tree = Tree(
        volumes=[
            volume(
                "t",
                [
                    ("a/b/up|l=c/file", 0),
                    ("a/b/beside|l=a/b/x", 0),
                    ("a/b/x", 1),
                    ("top|l=a", 0),
                    ("c/file", 3),
                ],
            )
        ]
    )

    def target(*path: str) -> bytes | None:
        return tree.link_target(tree.resolve(path))

    assert target("t", "a", "b", "up") == b"../../c/file"
    assert target("t", "a", "b", "beside") == b"x"
    assert target("t", "top") == b"a"
    assert target("t", "a", "b", "x") is None
    assert target("t") is None
    about = stat_of(tree, "t", "a", "b", "up")
    assert about.mode == stat.S_IFLNK | 0o777
    assert about.size == len(b"../../c/file")


def test_names_of_strangers_are_made_safe_before_they_get_here() -> None:
    """docs/semantics.md: "made safe, unique and stable when the torrent is read"."""
    paths = [[b"..", b"etc"], [b"a/b"], [b"a\0"], [b"x" * 300], [b"twice"], [b"TWICE"]]
    entries = b"".join(
        b"d6:lengthi1e4:pathl%see" % b"".join(b"%d:%s" % (len(part), part) for part in path)
        for path in paths
    )
    info = b"d5:filesl%se4:name2:..12:piece lengthi16384e6:pieces20:%se" % (entries, b"h" * 20)
    tree = Tree(volumes=[FakeVolume(parse_torrent(b"d4:info%se" % info))])  # type: ignore[arg-type]
    assert names(tree.listing(ROOT))[2:] == ["_"]
    found = names(tree.listing(tree.resolve(["_"])))[2:]
    assert {"_", "a_b", "a_", "TWICE"} < set(found)
    assert len({name.lower() for name in found}) == len(paths)
    assert max(len(name) for name in found) == 255


def test_select_shows_only_those_files_and_no_empty_directory() -> None:
    tree = Tree()
    tree.add(volume("t", [("a/x", 1), ("b/y", 2), ("b/z", 4), ("c", 8)]), select=(2, 3, 99))
    assert names(tree.listing(tree.resolve(["t"]))) == [".", "..", "b", "c"]
    assert names(tree.listing(tree.resolve(["t", "b"]))) == [".", "..", "z"]
    assert stat_of(tree, "t").nlink == 3
    assert tree.totals() == (1, 2, 12)


def test_selection_does_not_change_inodes() -> None:
    """docs/semantics.md: "inodes do not depend on the selection"."""
    files = [("a/x", 1), ("b/y", 2), ("b/z", 4), ("c", 8)]
    whole, part = Tree(volumes=[volume("t", files)]), Tree()
    part.add(volume("t", files), select=(2,))
    for path in (["t"], ["t", "b"], ["t", "b", "z"]):
        assert whole.resolve(path) == part.resolve(path)


FIRST, SECOND = "11" * 20, "22" * 20


@pytest.mark.parametrize(
    ("one", "two"),
    [("Name", "Name"), ("Name", "name"), ("caf\u00e9", "cafe\u0301"), ("stra\u00dfe", "STRASSE")],
)
def test_a_second_torrent_of_the_same_name_gets_its_hash(one: str, two: str) -> None:
    """docs/semantics.md: "the one that was added first keeps it"."""
    first, second = volume(one, key=FIRST, added=1.0), volume(two, key=SECOND, added=2.0)
    for order in ([first, second], [second, first]):
        tree = Tree(volumes=order)
        assert names(tree.listing(ROOT))[2:] == [one, f"{two} [22222222]"]
        assert tree.name_of_key(SECOND) == f"{two} [22222222]"


def test_torrents_added_at_one_time_are_named_in_the_order_of_their_hashes() -> None:
    volumes = [volume("x", key=SECOND), volume("x", key=FIRST)]
    for order in (volumes, volumes[::-1]):
        assert Tree(volumes=order).name_of_key(SECOND) == "x [22222222]"


def test_a_torrent_may_be_called_like_another_ones_replacement() -> None:
    tree = Tree()
    tree.add(volume("x [22222222]", key="33" * 20))
    tree.add(volume("x", key=FIRST))
    assert tree.add(volume("x", key=SECOND)) == (f"x [{SECOND[:16]}]",)


def test_a_long_name_is_clipped_at_a_character_for_its_suffix() -> None:
    name = "\u00e9" * 127
    tree = Tree(volumes=[volume(name, key=FIRST), volume(name, key=SECOND)])
    entry = tree.name_of_key(SECOND)
    assert entry == "\u00e9" * 122 + " [22222222]"
    assert len(entry.encode()) <= 255


def test_a_torrent_that_joins_renames_nobody() -> None:
    tree = Tree(volumes=[volume("x", key=SECOND, added=9.0)])
    assert tree.add(volume("x", key=FIRST, added=1.0)) == ("x [11111111]",)
    assert tree.name_of_key(SECOND) == "x"


def test_a_torrent_is_there_once() -> None:
    tree = Tree(volumes=[volume("x")])
    with pytest.raises(ValueError, match="already"):
        tree.add(volume("x"))


def test_remove_frees_name_and_inodes_and_moves_the_roots_time() -> None:
    one = volume("x", [("f", 1)], added=50.0)
    tree = Tree(volumes=[one])
    inode = tree.resolve(["x", "f"])
    key = one.metainfo.hashes.key
    assert tree.remove(key, now=99.0) == (("x",), ROOT, [(b"x", tree_root_of(one))])
    assert tree.attributes(ROOT).time_ns == 99 * 10**9
    with pytest.raises(FileNotFoundError):
        tree.attributes(inode)
    with pytest.raises(KeyError):
        tree.remove(key, now=100.0)
    assert tree.add(one) == ("x",)
    assert tree.resolve(["x", "f"]) == inode


def tree_root_of(one: FakeVolume) -> int:
    return Tree(volumes=[one]).resolve([one.metainfo.name])


def test_a_folder_that_is_held_does_not_go_with_its_last_torrent() -> None:
    tree = Tree()
    first, second = volume("t", 5), volume("t", 6, key="ab" * 20)
    tree.add(first, folder=("a", "b"), now=1.0)
    before = stat_of(tree, "a", "b")
    held = tree.hold(("a", "b"))
    assert tree.leaving(first.metainfo.hashes.key).parent == before.inode
    tree.remove(first.metainfo.hashes.key, 2.0)
    assert names(tree.listing(before.inode)) == [".", ".."]
    assert tree.add(second, folder=("a", "b"), now=2.0) == ("a", "b", "t")
    tree.let_go(held)
    assert stat_of(tree, "a", "b").inode == before.inode
    assert stat_of(tree, "a", "b").generation == before.generation
    tree.remove(second.metainfo.hashes.key, 3.0)
    assert names(tree.listing(ROOT)) == [".", ".."]
    tree.let_go(tree.hold(("a",)))  # it held one that is not there, and leaves none
    assert names(tree.listing(ROOT)) == [".", ".."]


def test_times_are_those_of_adding_or_of_creation() -> None:
    dated, undated = volume("a", added=1234.5678, created=1000), volume("b", added=77.0)
    tree = Tree(TreeOptions(mtime="added"), [dated, undated])
    assert stat_of(tree, "a").time_ns == 1_234_568_000_000
    assert tree.attributes(ROOT).time_ns == 1_234_568_000_000
    tree = Tree(TreeOptions(mtime="created"), [dated, undated])
    assert stat_of(tree, "a").time_ns == 1000 * 10**9
    assert stat_of(tree, "b").time_ns == 77 * 10**9


@pytest.mark.parametrize("lie", [-1, 0, 1 << 62])
def test_a_senseless_creation_date_is_not_shown(lie: int) -> None:
    tree = Tree(TreeOptions(mtime="created"), [volume("a", added=5.0, created=lie)])
    assert stat_of(tree, "a").time_ns == 5 * 10**9


def test_dot_names() -> None:
    tree = Tree(volumes=[volume("t", [("a/b/c", 1)])])
    inner = tree.resolve(["t", "a", "b"])
    assert tree.lookup(inner, b".") == inner
    assert tree.lookup(inner, b"..") == tree.resolve(["t", "a"])
    assert tree.lookup(tree.resolve(["t"]), b"..") == ROOT
    assert tree.lookup(ROOT, b"..") == ROOT


def test_what_is_not_there_and_what_is_no_directory() -> None:
    tree = Tree(volumes=[volume("t", [("a/b", 1)]), volume("s", 1)])
    with pytest.raises(FileNotFoundError):
        tree.lookup(ROOT, b"nope")
    with pytest.raises(FileNotFoundError):
        tree.lookup(tree.resolve(["t"]), b"\xff\xfe")
    for path in (["s"], ["t", "a", "b"]):
        with pytest.raises(NotADirectoryError):
            tree.lookup(tree.resolve(path), b"x")
        with pytest.raises(NotADirectoryError):
            tree.listing(tree.resolve(path))
    for inode in (ROOT, tree.resolve(["t"]), tree.resolve(["t", "a"])):
        with pytest.raises(IsADirectoryError):
            tree.file(inode)
    single = tree.resolve(["s"])
    for inode in (0, 2, 1 << 62, single + 1, single | 1 << 25, tree.resolve(["t"]) + 5):
        with pytest.raises(FileNotFoundError):
            tree.attributes(inode)


def test_two_torrents_never_share_a_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torrentfs.vfs.tree._PREFIX_BITS", 3)
    volumes = [volume(f"t{n}", [("f", 1)]) for n in range(7)]
    trees = [Tree(volumes=volumes), Tree(volumes=volumes[::-1])]
    inodes = [[tree.resolve([v.metainfo.name, "f"]) for v in volumes] for tree in trees]
    assert inodes[0] == inodes[1]
    assert len(set(inodes[0])) == 7


def test_two_hundred_thousand_files_are_quick_and_lean() -> None:
    """Timing is generous: other programs run here too."""
    huge = volume("huge", [(f"{n % 500:03}/{n % 20:02}/{n}.bin", n) for n in range(200_000)])
    began = time.perf_counter()
    tree = Tree(volumes=[huge])
    assert time.perf_counter() - began < 0.1  # nothing is looked at yet
    began = time.perf_counter()
    tree.resolve(["huge", "499", "19", "199999.bin"])
    assert time.perf_counter() - began < 1.0
    assert sum(len(tree.listing(tree.resolve(["huge", f"{n:03}"]))) - 2 for n in range(500)) == 500


def test_repr_counts() -> None:
    assert repr(Tree(volumes=[volume("a"), volume("b")])) == "<Tree of 2 torrents>"


def test_the_files_of_a_torrent_are_those_shown_with_their_paths() -> None:
    tree = Tree()
    one = volume("one", [("a", 1), ("d/b", 2), ("c", 3)])
    single = volume("single", 5)
    tree.add(one, select=[1, 2], folder=("films",))
    tree.add(single)
    key = one.metainfo.hashes.key
    assert list(tree.files_of(key)) == [(1, ("films", "one", "d", "b")), (2, ("films", "one", "c"))]
    assert list(tree.files_of(single.metainfo.hashes.key)) == [(0, ("single",))]
    for index, path in tree.files_of(key):
        assert tree.path_of(tree.inode_of(key, index)) == path


def test_the_files_shown_below_a_place() -> None:
    lengths = [("a/one", 5), ("a/b/two", 5), ("three", 5), ("a/four", 5)]
    whole, part = volume("whole", lengths), volume("part", lengths)
    film = volume("film", 7)
    tree = Tree(volumes=[whole, film])
    tree.add(part, select=(1, 2, 3))
    for path, found in (
        (("whole",), None),
        (("whole", "a"), [0, 1, 3]),
        (("whole", "a", "one"), [0]),
        (("part",), [1, 2, 3]),
        (("part", "a"), [1, 3]),
        (("part", "a", "b"), [1]),
        (("film",), [0]),
    ):
        assert tree.files_below(tree.resolve(path)) == found
    shown = [tree.files_shown(one.metainfo.hashes.key) for one in (whole, part, film)]
    assert shown == [None, [1, 2, 3], [0]]
    with pytest.raises(FileNotFoundError):
        tree.files_below(ROOT)


def test_the_files_shown_of_a_flat_torrent() -> None:
    lengths = [("a/one", 5), ("two.mkv", 5)]
    for view, found in ((View(), None), (View(select=("*.mkv",)), [1]), (View(("x",)), [])):
        one = volume("t", lengths)
        tree = Tree(TreeOptions(layout="flat", view=view), [one])
        assert tree.files_shown(one.metainfo.hashes.key) == found
