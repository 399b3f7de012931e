"""A media server looks at its library over a slow line: what it costs, and who is disturbed.

The programs are those that media servers run: ffprobe and ffmpeg with Jellyfin's options,
mediainfo, minidlnad. Four at a time, each file of a torrent of 4 MiB pieces, every peer 50 ms
away, and beside all that somebody watches a film.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.media.files import write_library
from tests.media.line import behind_a_line
from tests.media.touched import strace, touched
from tests.media.viewer import FILM_RATE, Viewer
from tests.swarm.mounted import Mounted, mounted
from tests.swarm.payload import write_file
from torrentfs.metainfo.torrent_file import Metainfo, parse_torrent

pytestmark = [pytest.mark.real, pytest.mark.alone, pytest.mark.timeout(180)]

MIB = 1 << 20
FETCHED_TO_TOUCHED = 2.5
GRAB_SECONDS = 10.0
"""Jellyfin kills a screen grab that takes longer."""

FFPROBE = (
    *("ffprobe", "-analyzeduration", "200M", "-probesize", "1G", "-threads", "0"),
    *("-v", "warning", "-print_format", "json", "-show_streams", "-show_chapters", "-show_format"),
)


class Library(NamedTuple):
    """A mounted library: its torrents by name, and where the programs' reads are logged."""

    mount: Mounted
    torrents: dict[str, Metainfo]
    logs: Path

    def run(self, name: str, *command: str | Path, limit: float = 60.0) -> str:
        """Run a program over files of the mount, noting what it reads; its output."""
        done = subprocess.run(
            [*strace(self.logs / f"{name}.strace"), *map(str, command)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
        assert done.returncode == 0, f"{name}: {done.stderr}"
        return done.stdout

    def files(self, *endings: str) -> list[Path]:
        """The files of the mount with these endings."""
        found = []
        for folder, _, names in os.walk(self.mount.path):
            found += [Path(folder, name) for name in names if name.endswith(endings)]
        return sorted(found)

    def touched_bytes(self) -> int:
        """What the programs read, in whole pieces of the torrents."""
        pieces: set[tuple[str, int]] = set()
        root = self.mount.path
        for log in self.logs.glob("*.strace"):
            for path, offset, length in touched(log, root):
                title, *names = Path(path).relative_to(root).parts
                metainfo = self.torrents[title]
                paths = [file.path for file in metainfo.files]
                spans = metainfo.geometry.file_spans(paths.index(tuple(names)), offset, length)
                pieces.update((title, span.piece) for span in spans)
        return sum(self.torrents[title].geometry.piece_size(piece) for title, piece in pieces)

    def fetched_bytes(self) -> int:
        """Payload that the library's torrents have received, duplicates included."""
        return sum(
            int(os.getxattr(self.mount / title, f"user.torrentfs.{name}"))
            for title in self.torrents
            for name in ("downloaded", "wasted")
        )


@contextmanager
def library(work: Path) -> Iterator[Library]:
    """Titles and a film, each with a seeder behind a line of its own, on one mount."""
    titles = write_library(work / "payload")
    film = write_file(work / "payload" / "film.bin", 7, 160 * MIB)
    logs = work / "logs"
    logs.mkdir()
    with (
        behind_a_line([*titles, film], work) as (sources, peers),
        mounted(sources, work, "--xattrs", *peers) as mount,
    ):
        parsed = [parse_torrent(source.read_bytes()) for source in sources]
        torrents = {metainfo.name: metainfo for metainfo in parsed[:-1]}
        yield Library(mount, torrents, logs)


def scan_title(shown: Library, file: Path) -> tuple[str, float]:
    """What Jellyfin does with a new file: probe it, and grab a picture of a video."""
    name = file.name
    told = json.loads(shown.run(f"probe {name}", *FFPROBE, "-i", f"file:{file}"))
    assert float(told["format"]["duration"]) > 60
    if file.suffix in (".mp3", ".flac"):
        return name, 0.0
    picture = shown.logs / f"{name}.jpg"
    begun = time.monotonic()
    shown.run(
        f"grab {name}",
        *("ffmpeg", "-v", "error", "-nostdin", "-ss", "60", "-i", f"file:{file}"),
        *("-an", "-sn", "-vframes", "1", "-vf", "thumbnail=n=24", "-f", "image2", picture),
    )
    took = time.monotonic() - begun
    assert picture.stat().st_size > 1000
    return name, took


def minidlna(shown: Library, work: Path) -> list[str]:
    """Index the mount with minidlnad, in a network of its own; the paths that it found."""
    database = work / "minidlna"
    database.mkdir()
    config, log, pid = work / "minidlna.conf", database / "minidlna.log", database / "pid"
    config.write_text(
        f"media_dir={shown.mount.path}\ndb_dir={database}\nlog_dir={database}\n"
        "inotify=no\nnetwork_interface=own0\n"
    )
    network = (
        "ip link set lo up; ip link add own0 type veth peer name own1; "
        "ip addr add 10.99.0.1/24 dev own0; ip link set own0 up; ip link set own1 up"
    )
    server = f'exec minidlnad -S -R -f "{config}" -P "{pid}"'
    process = subprocess.Popen(
        [
            *strace(shown.logs / "minidlna.strace"),
            *("unshare", "-n", "sh", "-c", f"{network}; {server}"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while f"Scanning {shown.mount.path} finished" not in (said := _text(log)):
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.1)
    finally:
        if pid.exists():  # the server itself, for which strace waits
            os.kill(int(pid.read_text()), signal.SIGTERM)
        else:
            process.kill()
        process.wait(20)
    with sqlite3.connect(database / "files.db") as index:
        rows = index.execute("select path from details where duration is not null").fetchall()
    return sorted(path for (path,) in rows)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_a_scan_fetches_little_and_disturbs_nobody(tmp_path: Path) -> None:
    with library(tmp_path) as shown:
        files = shown.files(".mp4", ".mkv", ".ts", ".mp3", ".flac")
        assert len(files) == 8
        begun = time.monotonic()
        with Viewer(shown.mount / "film.bin") as viewer, ThreadPoolExecutor(4) as pool:
            grabs = dict(pool.map(lambda file: scan_title(shown, file), files))
            told = list(
                pool.map(lambda file: shown.run(f"info {file.name}", "mediainfo", file), files)
            )
            indexed = minidlna(shown, tmp_path)
            scanned = time.monotonic() - begun
        assert all("Duration" in text for text in told)
        assert indexed == sorted(map(str, files))
        assert max(grabs.values()) < GRAB_SECONDS, grabs
        assert viewer.stalls == []
        assert viewer.played > scanned * FILM_RATE * 0.9  # it watched all the while
        fetched, wanted = shown.fetched_bytes(), shown.touched_bytes()
        print(f"fetched {fetched:,} touched {wanted:,} = {fetched / wanted:.2f}, grabs {grabs}")
        assert fetched <= FETCHED_TO_TOUCHED * wanted
