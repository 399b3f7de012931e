"""`torrentfs shares`: what is listed, which one is meant, and how one is ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.daemon.test_share_status import status
from torrentfs.cli import shares as module
from torrentfs.cli.shares import Share, ask, end, running_shares
from torrentfs.daemon.share_status import describe
from torrentfs.errors import ConfigError, TransportError

if TYPE_CHECKING:
    from tests.cli.conftest import Run


def share(pid: int, *torrents: tuple[str, str]) -> Share:
    (told,) = describe(status())["torrents"]
    return Share(pid, 1, [{**told, "name": name, "key": key} for name, key in torrents])


A, B, C = ("a", "aa" * 20), ("b\x1b[31m", "ab" * 20), ("c", "cc" * 20)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Share]:
    shares = [share(5, A), share(6, B, C), share(7, C)]
    monkeypatch.setattr(module, "running_shares", lambda: shares)
    return shares


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    numbers: list[int] = []
    monkeypatch.setattr(module, "end", lambda share, what: numbers.append(share.pid))
    return numbers


def test_all_of_them(run: Run, found: list[Share]) -> None:
    result = run("shares")
    assert result.exit_code == 0
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert lines[0] == ["a", "75%", "2", "7 B/s", "70 B", "5"]
    assert [line[0] for line in lines] == ["a", "b\\x1b[31m", "c", "c"]
    said = json.loads(run("shares", "--json").stdout)
    assert [one["pid"] for one in said] == [5, 6, 7]
    assert said[1]["torrents"][1]["name"] == "c"
    found.clear()
    assert run("shares").stdout == ""
    assert run("shares", "--json").stdout == "[]\n"


def test_the_peers_of_one(run: Run, found: list[Share]) -> None:
    for what in ("a", "5", "aaaaaa", "AAAAAAAA"):
        lines = [line.split("\t") for line in run("shares", what).stdout.splitlines()]
        assert lines == [
            ["10.0.0.1:1", "someone", "tcp", "50%", "1 B/s", "10 B"],
            ["10.0.0.0:1", "someone", "tcp", "50%", "0 B/s", "0 B"],
        ]
    result = run("shares", "aaaaa")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "nothing of that name is shared: aaaaa" in result.stderr


@pytest.mark.parametrize(
    ("args", "pids", "words"),
    [
        (["a"], [5], ""),
        (["aaaaaaaa"], [5], ""),
        (["6"], [6], ""),
        (["b\x1b[31m"], [], "process 6 shares 'c' too: end all of it by --stop 6"),
        (["c"], [], "several processes share c: say which (6, 7)"),
        (["x"], [], "nothing of that name is shared: x"),
        ([], [], "--stop needs to know which"),
    ],
)
def test_which_one_is_ended(
    run: Run,
    found: list[Share],
    ended: list[int],
    args: Sequence[str],
    pids: list[int],
    words: str,
) -> None:
    result = run("shares", "--stop", *args)
    assert (result.exit_code, ended, result.stdout) == (bool(words), pids, "")
    assert words in result.stderr


@pytest.mark.real
def test_it_ends_and_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "END_PATIENCE", 0.1)
    with subprocess.Popen(["sleep", "60"]) as process:
        os.kill(process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        with pytest.raises(TransportError, match=f"kill -9 {process.pid} ends it"):
            end(share(process.pid, A), "a")
        os.kill(process.pid, signal.SIGCONT)
        monkeypatch.setattr(module, "END_PATIENCE", 20)
        end(share(process.pid, A), "a")
        assert process.wait(5) == -signal.SIGTERM
    end(share(process.pid, A), "a")  # it is gone already
    with pytest.raises(ConfigError, match="in another container"):
        end(share(0, A), "a")


@pytest.mark.real
@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"{",
        b"[]",
        b'{"port": 1}',
        b'{"port": 1, "torrents": [{}]}',
        b'{"port": 1, "torrents": 7}',
        json.dumps({"port": 1, "torrents": [{**share(1, A).torrents[0], "peers": [1]}]}).encode(),
        b"[" * 100_000,
    ],
    ids=["nothing", "cut", "list", "no-torrents", "empty", "number", "peers", "deep"],
)
def test_what_makes_no_sense_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(module, "runtime_directory", lambda: tmp_path)
    right = json.dumps(describe(status())).encode()
    (tmp_path / "share-none.sock").write_bytes(b"")
    answers: dict[str, Any] = {"share-1.sock": said, "share-2.sock": right}
    threads = []
    for name, answer in answers.items():
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / name))
        listener.listen()

        def tell(listener: socket.socket = listener, answer: bytes = answer) -> None:
            with listener, listener.accept()[0] as line:
                line.sendall(answer)

        threads.append(threading.Thread(target=tell))
        threads[-1].start()
    try:
        (one,) = running_shares()
        assert (one.pid, one.port, one.torrents[0]["name"]) == (os.getpid(), 4711, "what")
    finally:
        for thread in threads:
            thread.join(10)
    monkeypatch.setattr(module, "MAX_ANSWER", 10)
    with pytest.raises(OSError, match="refused"):
        ask(tmp_path / "share-2.sock")
