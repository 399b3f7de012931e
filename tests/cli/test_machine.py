"""The facts that `doctor` judges, each looked up in a place made for the test."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from torrentfs.cli import machine
from torrentfs.cli.machine import distribution_of


def test_this_machine_can_be_looked_at(tmp_path: Path) -> None:
    facts = machine.gather(tmp_path / "not" / "there", 7, 0)
    assert facts.cache.directory == str(tmp_path / "not" / "there")
    assert facts.cache.writable
    assert facts.cache.free > 0
    assert facts.wanted_free == 7
    assert facts.missing == {}
    assert (Path(facts.origin) / "pyproject.toml").exists()  # this checkout
    assert facts.root == (os.geteuid() == 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["file", "file/cache", "dangling", "dangling/cache"])
def test_a_cache_cannot_be_made_where_there_is_no_directory(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    assert not machine.gather(tmp_path / where, 0, 0).cache.writable


def test_a_cache_below_a_closed_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.stat", refuse)
    assert machine.gather(tmp_path / "closed" / "cache", 0, 0).cache.directory


def test_looking_leaves_the_cache_as_it_was(tmp_path: Path) -> None:
    facts = machine.gather(tmp_path, 0, 0)
    assert facts.cache.writable
    assert facts.cache.punches_holes is not None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("reason", ["the file system is read-only", "the disk is full"])
def test_a_directory_that_takes_no_file_is_not_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    def refuse(**_: object) -> None:
        raise OSError(reason)

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    cache = machine.gather(tmp_path, 0, 0).cache
    assert not cache.writable
    assert cache.punches_holes is None


def test_a_package_that_breaks_at_import_is_named_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def imported(name: str) -> None:
        if name == "pyfuse3":
            raise ImportError("libfuse3.so.3: cannot open shared object file")
        if name == "rich":
            raise RuntimeError("odd")

    monkeypatch.setattr("importlib.import_module", imported)
    missing = machine._missing_packages()
    assert set(missing) == {"pyfuse3", "rich"}
    assert "libfuse3.so.3" in missing["pyfuse3"]
    assert missing["rich"] == "RuntimeError: odd"


def test_a_device_that_is_missing_and_one_that_cannot_be_opened(tmp_path: Path) -> None:
    assert machine._open_error(str(tmp_path / "none")) == "it does not exist"
    assert machine._open_error(str(tmp_path)) == "is a directory"
    assert machine._open_error(os.devnull) == ""
    assert machine._mode(str(tmp_path / "none")) == 0
    (tmp_path / "file").touch()
    (tmp_path / "file").chmod(0o600)
    assert machine._mode(str(tmp_path / "file")) == 0o600
    assert not machine._is_setuid_root(str(tmp_path / "file"))
    assert not machine._is_setuid_root(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("text", "number"), [("65535\n", 65535), ("0\n", 0), ("", 0), ("-1", 0), ("garbage", 0)]
)
def test_numbers_of_the_kernel(text: str, number: int) -> None:
    assert machine._number(text) == number


def test_an_address_that_is_not_ours_cannot_be_listened_on() -> None:
    assert "cannot assign" in machine._bind_error(socket.AF_INET, "192.0.2.1", 0)
    assert machine._bind_error(socket.AF_INET, "127.0.0.1", 0) == ""


def test_distributions() -> None:
    assert distribution_of('NAME="x"\nID=ubuntu\nID_LIKE=debian\n') == "debian"
    assert distribution_of('ID="rocky"\nID_LIKE="rhel centos fedora"') == "fedora"
    assert distribution_of("ID=manjaro\nID_LIKE=arch") == "arch"
    assert distribution_of('ID="opensuse-leap"\nID_LIKE="suse opensuse"') == "suse"
    assert distribution_of("ID=alpine") == "alpine"
    assert distribution_of("garbage") == ""
    assert distribution_of("") == ""
