"""Files of `--ip-filter`: plain, packed, and all that can be wrong with one."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from torrentfs.daemon import filters
from torrentfs.daemon.filters import read_ip_filters
from torrentfs.errors import ConfigError


def test_plain_and_packed_files_make_one_filter(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.dat", tmp_path / "b.p2p.gz"
    plain.write_bytes(b"1.2.3.0 - 1.2.3.255 , 0 , x\r\n")
    packed.write_bytes(gzip.compress(b"name:5.0.0.0-5.255.255.255\n"))
    made = read_ip_filters((plain, packed))
    assert made is not None
    assert made.ranges == 2
    assert made.blocks("1.2.3.4")
    assert made.blocks("5.6.7.8")
    assert read_ip_filters(()) is None


def test_single_bad_lines_are_told_and_a_long_one_is_one(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"192.0.2.0/24\nnonsense\n" + b"x" * 100_000 + b"\n198.51.100.0/24")
    made = read_ip_filters((path,))
    assert made is not None
    assert (made.ranges, made.unread, made.first_bad) == (2, 2, "line 2: 'nonsense'")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x1f\x8b\x08damaged", "cannot read the IP filter"),
        (gzip.compress(b"192.0.2.0/24\n" * 100, mtime=0)[:-9], "cannot read the IP filter"),
        (b"<html>not found</html>\n", "no line is a range"),
    ],
    ids=["damaged", "cut off", "a web page"],  # not the bytes: the same at each collection
)
def test_what_is_no_filter_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "list"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        read_ip_filters((path,))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_ip_filters((tmp_path / "none",))
    with pytest.raises(ConfigError, match="is a directory"):
        read_ip_filters((tmp_path,))


def test_what_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "MAX_BYTES", 1000)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(2000)))
    with pytest.raises(ConfigError, match="too large"):
        read_ip_filters((path,))
