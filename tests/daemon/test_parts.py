"""What the real parts decide by themselves: which files of a torrent are shown."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from torrentfs.metainfo.magnet import file_numbers

RANGES = st.lists(st.builds(range, st.integers(0, 30), st.integers(0, 30)))


@given(ranges=RANGES, count=st.integers(0, 25))
def test_selected_files(ranges: list[range], count: int) -> None:
    wanted = {number for numbers in ranges for number in numbers if number < count}
    assert list(file_numbers(ranges, count)) == sorted(wanted)


def test_many_huge_ranges_cost_little() -> None:
    assert len(list(file_numbers([range(2**60)] * 10_000, 1000))) == 1000


def test_a_mount_imports_nothing_that_it_does_not_need_for_its_first_byte() -> None:
    """Start-up time counts: what only some torrents need, or what can wait, is imported then."""
    late = (
        *("torrentfs.transports.webrtc.bridge", "torrentfs.discovery.websocket"),
        *("torrentfs.wire.ws_tracker", "torrentfs.engine.metadata", "torrentfs.transports.webseed"),
        *("torrentfs.discovery.port_mapping", "torrentfs.daemon.control.app"),
        *("aiortc", "asyncio", "cryptography", "fastapi", "httpx", "miniupnpc", "OpenSSL"),
        *("python_socks", "rich", "wsproto"),
    )
    script = (
        "import sys, torrentfs.cli.main, torrentfs.cli.mount, torrentfs.cli.foreground\n"
        "import torrentfs.daemon.service, torrentfs.daemon.parts\n"
        "print(sorted(set(sys.argv[1:]) & set(sys.modules)))\n"
    )
    words = [sys.executable, "-c", script, *late]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")
