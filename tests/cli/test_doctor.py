"""`torrentfs doctor`: each fact that is wrong gives its line and the command that mends it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from torrentfs.cli import machine
from torrentfs.cli.doctor import examine
from torrentfs.cli.machine import CacheFacts, Facts

if TYPE_CHECKING:
    from tests.cli.conftest import Run

CACHE = CacheFacts("/c", writable=True, free=2**40, filesystem="ext4", punches_holes=True)


def test_a_machine_where_all_is_right() -> None:
    assert {verdict.level for verdict in examine(Facts())} == {"ok"}


@pytest.mark.parametrize(
    ("facts", "level", "mend"),
    [
        ({"fuse_device": "it does not exist"}, "FAIL", "sudo modprobe fuse"),
        ({"fuse_device": "permission denied"}, "FAIL", "sudo chmod 666 /dev/fuse"),
        ({"fuse_device": "it does not exist", "container": True}, "FAIL", "--device /dev/fuse"),
        ({"fusermount": None}, "FAIL", "sudo apt install fuse3"),
        ({"fusermount": None, "distribution": "fedora"}, "FAIL", "sudo dnf install fuse3"),
        ({"fusermount": None, "distribution": "arch"}, "FAIL", "sudo pacman -S fuse3"),
        ({"fusermount": None, "distribution": ""}, "FAIL", "install the package fuse3"),
        ({"fusermount": None, "root": True}, "warn", "apt install fuse3"),
        ({"fusermount_setuid": False}, "FAIL", "sudo chmod u+s /usr/bin/fusermount3"),
        ({"missing": {"pyfuse3": "no libfuse3.so"}}, "FAIL", "libfuse3-dev"),
        ({"missing": {"trio": "x"}}, "FAIL", "pip install --force-reinstall /src/torrentfs"),
        ({"missing": {"trio": "x"}, "origin": ""}, "FAIL", "install torrentfs again"),
        ({"allow_other": False}, "warn", "echo user_allow_other"),
        ({"connections_problem": "not mounted"}, "warn", "mount -t fusectl"),
        ({"connections_problem": "read-only"}, "warn", "remount,rw"),
        ({"connections_problem": "read-only", "root": True}, "warn", "remount,rw"),
        ({"user_background": 334}, "warn", "max_user_bgreq"),
        ({"fuse_mode": 0o600, "root": True}, "warn", "sudo chmod 666 /dev/fuse"),
        ({"cache": replace(CACHE, writable=False)}, "FAIL", "--cache-dir"),
        ({"cache": replace(CACHE, filesystem="nfs4")}, "warn", "local disk"),
        ({"cache": replace(CACHE, filesystem="fuse.sshfs")}, "warn", "local disk"),
        ({"cache": replace(CACHE, free=9), "wanted_free": 10}, "warn", "--min-free-space"),
        ({"cache": replace(CACHE, punches_holes=False)}, "warn", "ext4"),
        ({"cache": replace(CACHE, punches_holes=None)}, "warn", ""),
        ({"open_files": 1024}, "warn", "ulimit -Hn 4096"),
        ({"ipv6": False}, "warn", "sysctl"),
        ({"port": 80, "port_error": "permission denied"}, "FAIL", "--port"),
    ],
)
def test_one_thing_wrong(facts: dict[str, Any], level: str, mend: str) -> None:
    wrong = [verdict for verdict in examine(Facts(**facts)) if verdict.level != "ok"]
    assert [verdict.level for verdict in wrong] == [level]
    assert mend in wrong[0].mend


def test_root_needs_no_setuid_and_no_permission() -> None:
    facts = Facts(
        root=True,
        fusermount_setuid=False,
        allow_other=False,
        connections_problem="not mounted",
        user_background=1,
    )
    verdicts = examine(facts)
    assert {verdict.level for verdict in verdicts} == {"ok"}


@pytest.mark.parametrize(
    ("fact", "code"), [({}, 0), ({"ipv6": False}, 0), ({"fusermount": None}, 1)]
)
def test_exit_code(
    run: Run, monkeypatch: pytest.MonkeyPatch, fact: dict[str, Any], code: int
) -> None:
    monkeypatch.setattr(machine, "gather", lambda *_args: Facts(**fact))
    result = run("doctor", "--json")
    assert result.exit_code == code
    verdicts = json.loads(result.stdout)
    assert set(verdicts[0]) == {"check", "level", "text", "mend"}
    human = run("doctor")
    assert human.exit_code == code
    marks = [line[:4].strip() for line in human.stdout.splitlines() if not line.startswith(" ")]
    assert marks == [verdict["level"] for verdict in verdicts]


def test_what_the_config_file_names_is_what_is_judged(
    run: Run, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    asked: list[tuple[object, ...]] = []

    def gather(*args: object) -> Facts:
        asked.append(args)
        return Facts()

    monkeypatch.setattr(machine, "gather", gather)
    file = home / ".config/torrentfs/config.toml"
    file.parent.mkdir(parents=True)
    file.write_text('cache-dir = "~/c"\nmin-free-space = "1G"\nport = 5000\nno-dht = true\n')
    assert run("doctor").exit_code == 0
    assert run("doctor", "--port", "6000", TORRENTFS_CACHE_DIR="/d").exit_code == 0
    assert asked == [(home / "c", 1 << 30, 5000), (Path("/d"), 1 << 30, 6000)]
    file.write_text("port = 'x'\n")
    result = run("doctor")
    assert (result.exit_code, "config.toml: port" in result.stderr) == (1, True)
