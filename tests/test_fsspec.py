"""`torrent://`: names, ranges, files and caches as fsspec has them, and URLs of each form."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import fsspec
import pytest

from tests.door import Cached, cached
from torrentfs.errors import ConfigError
from torrentfs.fsspec import PieceCache, TorrentFileSystem

if TYPE_CHECKING:
    from collections.abc import Iterator

DEEP = "d/ä/deep"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Cached:
    return cached(tmp_path_factory.mktemp("cached"))


@pytest.fixture
def fs(made: Cached) -> Iterator[TorrentFileSystem]:
    fs = fsspec.filesystem("torrent", source=str(made.torrent), **made.settings)
    assert isinstance(fs, TorrentFileSystem)
    yield fs
    fs.close()


def test_names(made: Cached, fs: TorrentFileSystem) -> None:
    files = set(made.files)
    assert set(fs.find("")) == files
    assert set(fs.ls("", detail=False)) == {name.split("/")[0] for name in files}
    assert fs.ls("b", detail=False) == ["b/c", "b/empty"]
    assert fs.ls("b/c") == [fs.info("/b/c")]
    assert fs.glob("torrent://*/c") == ["b/c"]
    assert fs.glob("**/*.mkv") == ["g/日本語.mkv"]
    assert (fs.size("b/c"), fs.isfile("b/c"), fs.isdir("b/c")) == (32768, True, False)
    assert (fs.isdir("d/ä"), fs.isdir(""), fs.exists("d/b")) == (True, True, False)
    assert fs.info("d") == {"name": "d", "size": 0, "type": "directory"}
    assert fs.du("") == sum(map(len, made.files.values()))
    assert [names for _, _, names in fs.walk("b")] == [["c", "empty"]]
    for ask in (fs.info, fs.ls, fs.modified, fs.cat_file, fs.open):
        with pytest.raises(FileNotFoundError):
            ask("d/b")
    assert fs.created("a") == fs.modified("a") == datetime(1970, 1, 1, tzinfo=UTC)


def test_ranges(made: Cached, fs: TorrentFileSystem) -> None:
    content = made.files[DEEP]
    assert fs.cat_file(DEEP) == content
    assert fs.cat_file(DEEP, 5, 70_000) == content[5:70_000]
    assert fs.cat_file(DEEP, -9) == content[-9:]
    assert fs.cat_file(DEEP, 9, -9) == content[9:-9]
    assert fs.head(DEEP, 7) == content[:7]
    assert fs.tail(DEEP, 7) == content[-7:]
    paths = [DEEP, "b/c", "nothing", "a"]
    answers = fs.cat_ranges(paths, [1, -3, 0, None], [9, None, 1, None])
    assert answers[:2] == [content[1:9], made.files["b/c"][-3:]]
    assert isinstance(answers[2], FileNotFoundError)
    assert answers[3] == made.files["a"]
    assert fs.cat_ranges(["a", "b/c"], 0, 1, max_gap=0) == [b"\xf4", made.files["b/c"][:1]]
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(paths, 0, 1, on_error="raise")
    with pytest.raises(ValueError, match="one length"):
        fs.cat_ranges(["a"], [1, 2], 1)
    with pytest.raises(TypeError):
        fs.cat_ranges("a", 1, 2)  # type: ignore[arg-type]
    assert fs.cat(["a", "b/c"]) == {name: made.files[name] for name in ("a", "b/c")}
    assert fs.cat("b", recursive=True) == {n: made.files[n] for n in ("b/c", "b/empty")}
    assert fs.cat("a") == made.files["a"]


def test_what_cannot_be_read(tmp_path: Any) -> None:
    holed = cached(tmp_path, without={3})
    fs = TorrentFileSystem(str(holed.torrent), **holed.settings)
    answers = fs.cat_ranges([DEEP, DEEP], [0, 70_000], [9, 70_009])
    assert answers[0] == holed.files[DEEP][:9]
    assert isinstance(answers[1], OSError)
    assert (answers[1].errno, answers[1].filename) == (5, DEEP)
    for ask in (
        lambda: fs.cat_file(DEEP),
        lambda: fs.open(DEEP).read(),
        lambda: fs.cat_ranges([DEEP], 0, None, on_error="raise"),
        lambda: fs.cat([DEEP, "a"]),
    ):
        with pytest.raises(OSError, match="no peer, tracker or web seed is left"):
            ask()
    assert set(fs.cat([DEEP, "a"], on_error="omit")) == {"a"}
    fs.close()


@pytest.mark.parametrize("cache", [None, "none", "readahead", "bytes", "blockcache", "all"])
def test_files(made: Cached, fs: TorrentFileSystem, cache: str | None) -> None:
    content = made.files[DEEP]
    options = {} if cache is None else {"cache_type": cache, "block_size": 4096}
    with fs.open(f"torrent://{DEEP}", **options) as file:
        assert file.size == len(content)
        assert file.read(5) == content[:5]
        assert file.seek(-5, 2) == len(content) - 5
        assert file.read() == content[-5:]
        file.seek(30_000)
        assert file.read(60_000) == content[30_000:90_000]
        file.seek(0)
        assert b"".join(iter(lambda: file.read(777), b"")) == content
        file.seek(0)
        assert file.readline() == content[: content.index(b"\n") + 1]
    with fs.open("g/日本語.mkv", "rt", encoding="latin-1", newline="") as text:
        assert text.read().encode("latin-1") == made.files["g/日本語.mkv"]


def test_a_small_read_takes_along_what_came_with_it() -> None:
    asked: list[tuple[int, int]] = []

    def fetch(start: int, stop: int) -> bytes:
        asked.append((start, stop))
        return bytes(stop - start)

    cache = PieceCache(0, fetch, 1_000_000, start=1000, unit=32768)
    cache._fetch(10, 20)
    assert asked == [(10, 31768)]  # to the border, and no further
    cache._fetch(20, 31768)
    assert len(asked) == 1
    cache._fetch(31760, 31770)
    assert asked[1:] == [(31760, 64536)]
    cache._fetch(100_000, 400_000)
    assert asked[2:] == [(100_000, 400_000)]  # one that is large is that, and nothing more
    cache._fetch(999_990, None)
    assert asked[3:] == [(999_990, 1_000_000)]
    assert cache._fetch(1_000_000, 1_000_001) == b""
    far = PieceCache(0, fetch, 100_000_000, unit=16 << 20)
    asked.clear()
    far._fetch(0, 10)
    assert asked == [(0, 10 + 65536)]  # of a huge piece some, not all in memory


def test_nothing_is_written(fs: TorrentFileSystem) -> None:
    for change in (fs.touch, fs.mkdir, fs.makedirs, fs.rm_file, fs.rmdir):
        with pytest.raises(OSError, match="cannot be written to") as caught:
            change("x")
        assert caught.value.errno == 30
    with pytest.raises(OSError, match="cannot be written to"):
        fs.open("x", "wb")
    with pytest.raises(OSError, match="cannot be written to"):
        fs.pipe_file("x", b"data")


def test_it_travels_as_what_it_was_made_from(made: Cached, fs: TorrentFileSystem) -> None:
    assert fs.cat_file("a") == made.files["a"]
    fs.clear_instance_cache()
    other = pickle.loads(pickle.dumps(fs))
    assert other is not fs
    assert other.cat_file("b/c") == made.files["b/c"]
    assert other.ukey("b/c") == fs.ukey("b/c") != fs.ukey("a")
    assert other.checksum("b/c") == fs.checksum("b/c")
    other.close()
    assert other.cat_file("a") == made.files["a"]  # opened anew
    other.close()


def test_urls(made: Cached, tmp_path: Any) -> None:
    digits = "0123456789abcdef" * 4
    for text in (digits[:40], digits, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"):
        fs, path = fsspec.url_to_fs(f"torrent://{text}/a/b c?d.csv", **made.settings)
        assert path == "a/b c?d.csv"
        assert fs.storage_options["source"] == text
        assert fs.unstrip_protocol(path) == f"torrent://{text}/a/b c?d.csv"
        assert fs._strip_protocol(f"torrent://{text}") == ""
        assert fs._strip_protocol([f"torrent://{text}/x", "y/"]) == ["x", "y"]
    fs, path = fsspec.url_to_fs("torrent:///a/b.csv", source="0" * 40, **made.settings)
    assert (path, fs.unstrip_protocol(path)) == ("a/b.csv", f"torrent://{'0' * 40}/a/b.csv")
    fs, path = fsspec.url_to_fs("torrent://", source=str(made.torrent), **made.settings)
    assert (path, fs.unstrip_protocol("x")) == ("", "torrent://x")
    for chained in (f"torrent://b/c::{made.torrent}", f"torrent://b/c::file://{made.torrent}"):
        with fsspec.open(chained, torrent=made.settings) as file:
            assert file.read() == made.files["b/c"]
            file.fs.close()
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/x.torrent", made.torrent.read_bytes())
    with fsspec.open("torrent://b/c::memory://x.torrent", torrent=made.settings) as file:
        assert file.read(9) == made.files["b/c"][:9]
        file.fs.close()
    options = {**made.settings, "source": str(made.torrent)}
    kept = {"cache_storage": str(tmp_path / "simplecache")}
    with fsspec.open("simplecache::torrent://b/c", torrent=options, simplecache=kept) as file:
        assert file.read(9) == made.files["b/c"][:9]
    fsspec.filesystem("torrent", source=str(made.torrent), **made.settings).close()


def test_mistakes_are_told_at_once(made: Cached) -> None:
    with pytest.raises(ConfigError, match="which torrent"):
        fsspec.open("torrent://a.csv")
    with pytest.raises(ConfigError, match="no setting 'anon'"):
        fsspec.filesystem("torrent", source="x", anon=True)
    with pytest.raises(ConfigError, match="two torrents"):
        fsspec.open("torrent://a::/x.torrent", torrent={"source": "y.torrent"})
    with pytest.raises(ConfigError, match="no such file"):
        fsspec.filesystem("torrent", source="/nowhere.torrent").ls("")
