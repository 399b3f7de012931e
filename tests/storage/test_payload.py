"""What is taken of a directory, what is left out, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from torrentfs.errors import ConfigError
from torrentfs.storage.payload import LeftOut, PayloadChanged, list_payload, open_original, shown


def write(place: Path, size: int = 1) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"x" * size)
    return place


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ["b", "a/z", "a/deep/er", "a!", "empty"]:
        write(tmp_path / "root" / name, 0 if name == "empty" else 3)
    return tmp_path / "root"


def names(root: Path, **options: object) -> list[str]:
    return ["/".join(f.path) for f in list_payload(root, **options).files]  # type: ignore[arg-type]


def test_files_come_in_the_order_of_a_tree(root: Path) -> None:
    payload = list_payload(root)
    assert names(root) == ["a/deep/er", "a/z", "a!", "b", "empty"]
    assert (payload.name, payload.size, str(payload.left_out)) == ("root", 12, "")
    assert payload.place(1) == str(root / "a/z")


def test_a_file_is_its_own_root(root: Path) -> None:
    payload = list_payload(root / "b")
    assert (payload.name, [f.path for f in payload.files]) == ("b", [()])
    assert payload.place(0) == str(root / "b")


def test_a_directory_by_dots_has_its_own_name(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root / "a")
    assert list_payload(".").name == "a"
    assert list_payload("..").name == "root"
    assert list_payload("deep/").name == "deep"
    assert list_payload(".", name="other").name == "other"


def test_hidden_excluded_and_special_are_left_out_and_counted(root: Path) -> None:
    write(root / ".git/config")
    write(root / "a/.env")
    write(root / "a/cache/x.tmp")
    os.mkfifo(root / "pipe")
    payload = list_payload(root, exclude=["*.tmp", "a/deep"])
    assert ["/".join(f.path) for f in payload.files] == ["a/z", "a!", "b", "empty"]
    assert payload.left_out == LeftOut(hidden=2, excluded=2, special=1)
    assert str(payload.left_out) == "2 hidden, 2 excluded, 1 neither file nor directory"
    assert ".git/config" in names(root, hidden=True)
    assert list_payload(root / ".git").name == ".git"  # named itself


def test_links_are_followed(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "else/where", 5)
    (root / "file").symlink_to(tmp_path / "else/where")
    (root / "folder").symlink_to(tmp_path / "else")
    assert names(root)[-2:] == ["file", "folder/where"]
    (tmp_path / "link").symlink_to(root)
    assert list_payload(tmp_path / "link").name == "link"


def test_links_that_lead_nowhere_are_named(root: Path) -> None:
    (root / "a/dead").symlink_to("nothing")
    with pytest.raises(ConfigError, match=r"a/dead is a link to nothing: .*--exclude"):
        list_payload(root)
    assert "a/dead" not in names(root, exclude=["dead"])


@pytest.mark.parametrize("target", [".", "..", "../a"])
def test_links_back_are_named(root: Path, target: str) -> None:
    (root / "a/back").symlink_to(target)
    with pytest.raises(ConfigError, match="a/back is a link back to a directory above it"):
        list_payload(root)


def test_two_links_to_one_directory_are_no_circle(root: Path) -> None:
    (root / "again").symlink_to("a")
    assert {"a/z", "again/z"} <= set(names(root))


def test_a_link_to_itself_is_one_line(root: Path) -> None:
    (root / "self").symlink_to("self")
    with pytest.raises(ConfigError, match=r"self.*levels of symbolic links"):
        list_payload(root)


def test_what_is_no_payload(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    write(tmp_path / "hidden/.x")
    write(tmp_path / "hollow/x", 0)
    os.mkfifo(tmp_path / "pipe")
    for name, words in {
        "missing": "no such file",
        "none": "has no files",
        "hidden": r"has no files: .*left out: 1 hidden",
        "hollow": "nothing but empty files",
        "hollow/x": "is empty",
        "pipe": "neither a file nor a directory",
    }.items():
        with pytest.raises(ConfigError, match=words):
            list_payload(tmp_path / name)
    with pytest.raises(ConfigError, match="--name"):
        list_payload("/")
    for name in ("", "..", "a/b", "n" * 256):
        with pytest.raises(ConfigError):
            list_payload(tmp_path / "hollow", name=name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["a/z", "a"])
def test_what_may_not_be_read_is_an_error(root: Path, name: str) -> None:
    (root / name).chmod(0)
    try:
        with pytest.raises(ConfigError, match=f"cannot read .*{name}: permission denied"):
            list_payload(root)
    finally:
        (root / name).chmod(0o700)


def test_too_deep_is_one_line(tmp_path: Path) -> None:
    write(tmp_path.joinpath("d", *["x"] * 100, "file"))
    with pytest.raises(ConfigError, match="at most 100 levels"):
        list_payload(tmp_path / "d")


def test_names_that_are_no_text(tmp_path: Path) -> None:
    place = os.fsencode(tmp_path) + b"/\xff\n"
    with open(place, "wb") as file:
        file.write(b"x")
    payload = list_payload(os.fsdecode(place))
    assert payload.name == "\udcff\n"
    assert shown(payload.root).endswith("\\\\xff\\n")
    assert "\n" not in shown("a\nb")


def test_programs_are_known(root: Path) -> None:
    (root / "b").chmod(0o755)
    assert [f.executable for f in list_payload(root).files] == [False, False, False, True, False]


def test_a_change_is_noticed(root: Path) -> None:
    payload = list_payload(root)
    payload.check_all()
    fd = payload.open(1)
    try:
        payload.check(1, fd)
        (root / "a/z").write_bytes(b"yyyy")
        with pytest.raises(PayloadChanged, match=r"a/z changed while it was read"):
            payload.check(1, fd)
    finally:
        os.close(fd)
    with pytest.raises(PayloadChanged, match="changed"):
        payload.open(1)
    with pytest.raises(PayloadChanged, match="changed"):
        payload.check_all()
    (root / "a/z").unlink()
    with pytest.raises(PayloadChanged, match=r"cannot read .*a/z: no such file"):
        payload.open(1)
    with pytest.raises(PayloadChanged, match="no such file"):
        payload.check_all()


def test_a_time_put_back_does_not_hide_a_change(root: Path) -> None:
    place = root / "b"
    payload = list_payload(place)
    before = place.stat()
    place.write_bytes(b"yyy")
    os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(PayloadChanged):
        payload.check_all()


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(root: Path) -> None:
    payload = list_payload(root / "b")
    (root / "b").unlink()
    os.mkfifo(root / "b")
    with pytest.raises(PayloadChanged):
        payload.open(0)
    os.close(open_original(str(root / "b")))
