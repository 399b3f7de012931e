"""The mount table, and mount points that are refused, without mounting anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from torrentfs.errors import MountError
from torrentfs.vfs import mountpoint
from torrentfs.vfs.mountpoint import MountPoint

TABLE = rb"""22 1 0:21 / /proc rw,nosuid shared:5 - proc proc rw
23 1 254:0 / / rw,relatime - ext4 /dev/vda rw
90 23 0:47 / /mnt/my\040films\134x ro,nosuid,nodev - fuse.torrentfs torrentfs ro,user_id=0
91 90 0:48 / /mnt/dead ro - fuse.sshfs me@host:/ ro
broken line
"""


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = mountpoint.mount_table(TABLE)
    monkeypatch.setattr(mountpoint, "mount_table", lambda: parsed)


def test_the_mount_table_is_parsed() -> None:
    found = mountpoint.mount_table(TABLE)
    assert found[2] == MountPoint("/mnt/my films\\x", "fuse.torrentfs", "torrentfs", "0:47")
    assert found[2].connection == "47"
    assert len(found) == 4


def test_the_real_mount_table_has_a_root() -> None:
    assert any(mount.path == "/" for mount in mountpoint.mount_table())


@pytest.mark.usefixtures("table")
def test_a_mount_is_found_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mountpoint.find_mount("/mnt/dead") is not None
    assert mountpoint.find_mount("/mnt/dead/") is not None
    assert mountpoint.find_mount("/mnt/dead/below") is None
    (tmp_path / "link").symlink_to("/mnt/dead")
    assert mountpoint.find_mount(tmp_path / "link") is not None


@pytest.mark.usefixtures("table")
def test_a_busy_mount_point() -> None:
    with pytest.raises(MountError, match="torrentfs is mounted there"):
        mountpoint.check_mountpoint("/mnt/my films\\x")
    with pytest.raises(MountError, match=r"fuse\.sshfs is mounted there"):
        mountpoint.check_mountpoint("/mnt/dead")


def test_mount_points_that_cannot_be_used(tmp_path: Path) -> None:
    mountpoint.check_mountpoint(tmp_path)
    (tmp_path / "file").write_text("")
    for path, words in (
        (tmp_path, "is not empty: mount on an empty directory"),
        (tmp_path / "missing", "does not exist: create it with `mkdir -p"),
        (tmp_path / "not there", f"`mkdir -p '{tmp_path}/not there'`"),
        (tmp_path / "file", "is not a directory"),
        (tmp_path / "file" / "below", "is not a directory"),
    ):
        with pytest.raises(MountError, match=words) as caught:
            mountpoint.check_mountpoint(path)
        assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("table")
def test_only_torrentfs_is_unmounted() -> None:
    with pytest.raises(MountError, match=r"not a torrentfs mount but fuse\.sshfs"):
        mountpoint.unmount("/mnt/dead")
    with pytest.raises(MountError, match="nothing is mounted at /nowhere"):
        mountpoint.unmount("/nowhere")


@pytest.mark.usefixtures("table")
def test_a_dead_mount_of_another_kind_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountpoint, "is_dead", lambda mount: True)
    with pytest.raises(MountError, match="dead mount"):
        mountpoint.recover("/mnt/dead")


def test_without_the_fuse_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountpoint, "FUSE_DEVICE", str(tmp_path / "fuse"))
    with pytest.raises(MountError, match="modprobe fuse"):
        mountpoint.check_fuse()
    (tmp_path / "fuse").mkdir()
    with pytest.raises(MountError, match="cannot be opened"):
        mountpoint.check_fuse()


@pytest.fixture
def ordinary_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fuse").write_text("")
    monkeypatch.setattr(mountpoint, "FUSE_DEVICE", str(tmp_path / "fuse"))
    monkeypatch.setattr(mountpoint, "FUSE_CONF", str(tmp_path / "fuse.conf"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "fusermount3").write_text("#!/bin/sh\n")
    (tmp_path / "fusermount3").chmod(0o755)


@pytest.mark.usefixtures("ordinary_user")
def test_a_user_without_fusermount3(tmp_path: Path) -> None:
    mountpoint.check_fuse()
    (tmp_path / "fusermount3").unlink()
    with pytest.raises(MountError, match="install the package fuse3"):
        mountpoint.check_fuse()


@pytest.mark.usefixtures("ordinary_user")
@pytest.mark.parametrize("text", [None, "", "#user_allow_other\n", "user_allow_others"])
def test_a_user_may_not_allow_others_unless_root_says_so(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "fuse.conf").write_text(text)
    with pytest.raises(MountError, match="--allow-root needs the line `user_allow_other`"):
        mountpoint.check_fuse(allow_other=True, option="allow_root")
    (tmp_path / "fuse.conf").write_text("mount_max = 5\n user_allow_other # yes\n")
    mountpoint.check_fuse(allow_other=True)


def test_who_uses_a_directory(tmp_path: Path) -> None:
    with (tmp_path / "held").open("w"):
        users = mountpoint.users_of(str(tmp_path))
    assert [user for user in users if f"({os.getpid()})" in user]
    assert mountpoint.users_of(str(tmp_path)) == []


def test_the_daemon_is_found_by_the_source_of_its_mount() -> None:
    def at(source: str) -> MountPoint:
        return MountPoint("/m", "fuse.torrentfs", source, "0:47")

    assert mountpoint.daemon_of(at("torrentfs")) is None
    assert mountpoint.daemon_of(at("sshfs:1")) is None
    assert mountpoint.daemon_of(at("torrentfs:../1")) is None
    assert mountpoint.daemon_of(at("torrentfs:999999999")) is None
    # We have no FUSE device open, so whoever has our number elsewhere is not the daemon.
    assert mountpoint.daemon_of(at(mountpoint.source_of(os.getpid()))) is None


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("# x\n user_allow_other  # yes\n", True),
        ("#user_allow_other\nmount_max = 5\n", False),
        ("user_allow_others\n", False),
        (None, False),
    ],
)
def test_others_are_allowed_by_a_line_of_fuse_conf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, allowed: bool
) -> None:
    conf = tmp_path / "fuse.conf"
    if text is not None:
        conf.write_text(text)
    monkeypatch.setattr(mountpoint, "FUSE_CONF", str(conf))
    assert mountpoint.others_allowed() == allowed
