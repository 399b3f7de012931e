"""What a service manager hears."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from torrentfs.daemon.readiness import Readiness


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        yield listener


def heard(manager: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(manager.recv(4096).decode())
        except BlockingIOError:
            return found


def test_what_is_told_arrives_and_the_variable_is_gone(manager: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": manager.getsockname(), "HOME": "/"}
    readiness = Readiness(environment)
    readiness.tell("READY=1", "STATUS=two\nlines")
    assert heard(manager) == ["READY=1\nSTATUS=two lines"]
    assert environment == {"HOME": "/"}


def test_an_abstract_address() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0torrentfs-test-{os.getpid()}")
        Readiness({"NOTIFY_SOCKET": f"@torrentfs-test-{os.getpid()}"}).tell("READY=1")
        assert listener.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "x" * 300, "@" + "y" * 300])
def test_nobody_who_listens_is_no_trouble(address: str) -> None:
    Readiness({"NOTIFY_SOCKET": address} if address else {}).tell("READY=1")


async def test_signs_of_life_come_three_times_as_often_as_needed(
    manager: socket.socket, autojump_clock: trio.testing.MockClock
) -> None:
    readiness = Readiness(
        {
            "NOTIFY_SOCKET": manager.getsockname(),
            "WATCHDOG_USEC": "30000000",
            "WATCHDOG_PID": str(os.getpid()),
        }
    )
    with trio.move_on_after(35):
        await readiness.live()
    assert heard(manager) == ["WATCHDOG=1"] * 4


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "-5"},
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
    ],
)
async def test_no_sign_of_life_is_asked_for(
    variables: dict[str, str], manager: socket.socket
) -> None:
    readiness = Readiness({"NOTIFY_SOCKET": manager.getsockname(), **variables})
    with trio.fail_after(1):
        await readiness.live()
    assert heard(manager) == []
