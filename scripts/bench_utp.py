"""Section `utp` of the benchmark: a film over uTP alone, from one libtorrent seeder on loopback.

TCP is off on every side. *torrentfs* and *encrypted* (RC4 throughout) mount with an empty cache
and read the film from its beginning to its end; *libtorrent* downloads it, with its own uTP.
CPU seconds as in section `swarm`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.bench_rounds import (
    Contender,
    Options,
    Part,
    Row,
    Section,
    WrongBytes,
    process_cpu,
    read,
    reader,
    sha256_range,
)
from tests.swarm.mounted import mounted
from tests.swarm.payload import write_file
from tests.swarm.seeder import LibtorrentPeer, download, seed
from tests.swarm.torrents import MadeTorrent, make_torrent

NO_TCP = {"enable_incoming_tcp": False, "enable_outgoing_tcp": False}
LIMIT = 150.0


def run_torrentfs(encryption: str, made: MadeTorrent, seeder: LibtorrentPeer, work: Path) -> Row:
    """A mount that reads everything once."""
    size = made.path.stat().st_size
    options = ("--peer", seeder.address, "--no-tcp", "--encryption", encryption)
    with mounted(
        made.torrent, work, *options, "--bind-interface", "lo", "--min-free-space", "0"
    ) as mount:
        before = mount.cpu_seconds()
        with reader(work) as reading:
            part = Part(made.path, mount / made.path.name, 0, size)
            times = read(reading, part, limit=LIMIT)
        cpu = mount.cpu_seconds() - before
    return {"cold_mb_s": size / times.seconds / 1e6, "cpu_s_per_gb": cpu / (size / 1e9)}


def run_libtorrent(made: MadeTorrent, seeder: LibtorrentPeer, work: Path) -> Row:
    """A plain download."""
    size = made.path.stat().st_size
    here = [("127.0.0.1", seeder.port)]
    with download(made.torrent, work / "out", work, peers=here, utp=True, settings=NO_TCP) as peer:
        seconds = peer.wait_done(LIMIT)
        cpu = process_cpu(peer.pid)
    if sha256_range(work / "out" / made.path.name) != sha256_range(made.path):
        raise WrongBytes("libtorrent's film")
    return {"cold_mb_s": size / seconds / 1e6, "cpu_s_per_gb": cpu / (size / 1e9)}


@contextmanager
def contenders(options: Options, work: Path) -> Iterator[dict[str, Contender]]:
    """The film and its seeder."""
    payload = write_file(work / "payload" / "film.bin", 1, options.film(128))
    made = make_torrent(payload, work / "film.torrent", piece_length=1 << 20, private=True)
    with seed(made.torrent, payload, work, utp=True, settings=NO_TCP) as seeder:
        yield {
            "torrentfs": functools.partial(run_torrentfs, "off", made, seeder),
            "encrypted": functools.partial(run_torrentfs, "require", made, seeder),
            "libtorrent": functools.partial(run_libtorrent, made, seeder),
        }


UTP = Section(
    "a film over uTP alone, beside libtorrent's own",
    contenders,
    (("torrentfs", "libtorrent"), ("encrypted", "torrentfs")),
)
"""The section."""
