"""HTTP of a running mount: players, browsers' rules, an idle mount, and its own document."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.control.controlled import Controlled, controlled, of_user
from tests.swarm.mounted import mounted
from tests.swarm.seeder import seed
from tests.swarm.torrents import make_torrent

pytestmark = pytest.mark.real

LARGE = "/files/tree/z/large.bin"


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controlled]:
    with controlled(tmp_path_factory.mktemp("work")) as made:
        yield made


def payload(mount: Controlled, name: str) -> bytes:
    return (mount.made.path / name).read_bytes()


def rss(pid: int) -> int:
    """KiB of memory."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def test_an_idle_mount_has_loaded_nothing(tmp_path: Path) -> None:
    with controlled(tmp_path) as fresh:
        before = rss(fresh.mount.pid)
        loaded = Path(f"/proc/{fresh.mount.pid}/maps").read_text()
        assert "pydantic" not in loaded
        began = time.monotonic()
        assert fresh.ask("list").returncode == 0
        took = time.monotonic() - began
        assert "pydantic" in Path(f"/proc/{fresh.mount.pid}/maps").read_text()
        print(f"memory {before} KiB, then {rss(fresh.mount.pid)} KiB; first command {took:.2f} s")


def test_curl_reads_ranges_and_resumes(mount: Controlled, tmp_path: Path) -> None:
    url, right = mount.url + LARGE, payload(mount, "z/large.bin")
    assert hashlib.sha256(mount.curl(url).stdout).digest() == hashlib.sha256(right).digest()
    assert mount.curl("-r", "1000000-1000009", url).stdout == right[1_000_000:1_000_010]
    assert mount.curl("-r", "-5", url).stdout == right[-5:]
    part = tmp_path / "part"
    part.write_bytes(right[:777_777])
    assert mount.curl("-C", "-", "-o", str(part), url).returncode == 0
    assert part.read_bytes() == right
    head = mount.curl("-I", url).stdout.decode()
    assert "content-length: 2345678" in head
    name = "tree/Ünïcødé/музыка/曲 №1 🎵.flac"
    (entry,) = (f for f in mount.json("files", "tree")["files"] if f["path"] == name)
    assert mount.curl(mount.url + entry["url"]).stdout == payload(mount, name[5:])


def test_a_read_that_fails_is_never_taken_for_the_file(mount: Controlled) -> None:
    file = "b/one-less.bin"
    assert mount.ask("cache", "prune", "--to", "0").returncode == 0
    assert mount.ask("pause", "tree").returncode == 0
    try:
        done = mount.curl("-w", "%{http_code}", f"{mount.url}/files/tree/{file}")
        assert done.stdout.endswith(b"503")
        assert b"paused" in done.stdout
    finally:
        assert mount.ask("resume", "tree").returncode == 0


def test_no_token_wrong_host_wrong_origin(mount: Controlled) -> None:
    def ask(*args: str) -> str:
        command = ["curl", "-sS", "-m", "10", "-o", os.devnull, "-w", "%{http_code}", *args]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    url = f"{mount.url}/api/v1/status"
    right = ["--oauth2-bearer", mount.token]
    assert ask(url) == "401"
    assert ask("--oauth2-bearer", "wrong", url) == "401"
    assert ask(*right, url) == "200"
    assert ask("-u", f"any:{mount.token}", url) == "200"
    assert ask(*right, "-H", "Host: rebound.example", url) == "421"
    assert ask(*right, "-H", "Origin: http://evil.example", url) == "403"
    assert ask(*right, "-H", "Sec-Fetch-Site: cross-site", url) == "403"
    assert ask("-X", "DELETE", f"{mount.url}/api/v1/torrents/tree") == "401"
    assert mount.json("list")["torrents"]
    mode = (mount.work / "state" / "torrentfs" / "http-token").stat().st_mode
    assert mode & 0o777 == 0o600


def test_the_unix_socket_is_for_its_user(mount: Controlled) -> None:
    (path,) = (mount.work / "run" / "torrentfs").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    done = subprocess.run(
        ["curl", "-sS", "--unix-socket", str(path), "http://x/api/v1/status"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["pid"] == mount.mount.pid


def test_a_player_seeks_in_a_film(tmp_path: Path) -> None:
    film = tmp_path / "payload" / "film.mp4"  # its index is at the end
    film.parent.mkdir()
    subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=640x360:d=60:r=25",
         "-c:v", "libx264", "-b:v", "2M", "-preset", "ultrafast", str(film)],
        check=True, timeout=120,
    )  # fmt: skip
    made = make_torrent(film, tmp_path / "f.torrent", piece_length=64 * 1024)
    user = of_user(tmp_path)
    with (
        seed(made.torrent, film, tmp_path) as seeder,
        mounted(
            made.torrent, tmp_path, "--http", "127.0.0.1:0", "--peer", seeder.address,
            environment=user, name="film",
        ) as mount,
    ):  # fmt: skip
        here = Controlled(mount, seeder, made, tmp_path)
        address = here.url.replace("http://", f"http://any:{here.token}@") + "/files/film.mp4"
        probe = subprocess.run(
            ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "json", address],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert json.loads(probe.stdout)["format"]["duration"].startswith("60.0")
        fetched = here.json("status")["received"]["tcp"]
        assert fetched < film.stat().st_size / 2  # a probe is no download
        picture = tmp_path / "at-45-s.png"
        subprocess.run(
            ["ffmpeg", "-v", "error", "-ss", "45", "-i", address, "-frames:v", "1", str(picture)],
            timeout=60, check=True,
        )  # fmt: skip
        assert picture.stat().st_size > 1000


def test_metrics_of_a_real_mount(mount: Controlled) -> None:
    (mount.mount / "tree/a/just-a-block.bin").read_bytes()
    text = mount.curl(f"{mount.url}/metrics").stdout.decode()
    reads = re.findall(r'^torrentfs_read_seconds_count\{.*source="(\w+)"\} ([\d.]+)', text, re.M)
    assert sum(float(count) for _, count in reads) > 0
    assert float(re.findall(r"^torrentfs_first_byte_seconds_count ([\d.]+)", text, re.M)[0]) > 0


def test_the_api_is_as_its_document_says(mount: Controlled) -> None:
    """No 500, no status and no body that the document does not have, whatever is sent."""
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "schemathesis"), "run",
            f"{mount.url}/api/v1/openapi.json",
            "-H", f"Authorization: Bearer {mount.token}",
            "--exclude-path", "/api/v1/events",  # it does not end
            "--max-examples", "15", "--seed", "1", "--request-timeout", "20",
            "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,"
            "response_schema_conformance,response_headers_conformance",
            "--no-color",
        ],
        capture_output=True, text=True, timeout=300, check=False, cwd=mount.work,
    )  # fmt: skip
    assert done.returncode == 0, "\n".join(line[:300] for line in done.stdout.splitlines())
    tested = re.search(r"(\d+) generated", done.stdout)
    assert tested is not None
    assert int(tested[1]) > 200
    assert mount.ask("list").returncode == 0  # and it lives
