"""What a user may write: quantities, sources, `-o`, a config file; a value, or the declared error.

The first byte chooses what the rest is read as.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from torrentfs.cli.mount import mount
from torrentfs.cli.options import split_mount_options
from torrentfs.daemon import quantities
from torrentfs.daemon.config import default_log_file, read_config_file
from torrentfs.daemon.sources import parse_source
from torrentfs.errors import ConfigError, InvalidTorrent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MODULES = [
    "torrentfs.cli.options",
    "torrentfs.daemon.config",
    "torrentfs.daemon.quantities",
    "torrentfs.daemon.sources",
]

_NAMES = [param.name for param in mount.params if param.name]
_FILE = os.memfd_create("config")


def seeds() -> Iterable[bytes]:
    """A right one of each kind, and slips."""
    texts = [
        ("10G", "1.5T", "4096", "-1", "1e9", "0"),
        ("5M/s", "off", "none", "0"),
        ("90s", "1h30m", "500ms", "2m 3s", "1d"),
        ("192.0.2.7:6881", "[2001:db8::7]:6881", "[fe80::1%eth0]:1", "host:0"),
        ("022", "0o777", "999"),
        ("http://a/b", "udp://a:1", "ftp://x"),
        ("magnet:?xt=urn:btih:" + "a" * 40, "b" * 64, "C" * 32, "http://", "x.torrent", "~root/x"),
        ("a=1,b,c=\\,", "x-y=1,ro,,=", "\\"),
        ('cache-size = "20G"\npeer = ["192.0.2.7:6881"]', "port = 1.5", "a = [[1]]", "x.y = 1"),
    ]
    for kind, examples in enumerate(texts):
        for text in examples:
            yield bytes([kind]) + text.encode()


def one_input(data: bytes) -> None:
    """Read it."""
    kind, text = (data[:1] or b"\0")[0] % len(_READERS), os.fsdecode(data[1:])
    try:
        _READERS[kind](text)
    except (ConfigError, InvalidTorrent, click.UsageError) as error:
        said = str(error)
    else:
        return
    assert said


def _size(text: str) -> None:
    size = quantities.parse_size(text)
    assert 0 <= size <= quantities.MAX_SIZE
    assert quantities.format_size(size)


def _rate(text: str) -> None:
    rate = quantities.parse_rate(text)
    assert rate is None or rate > 0


def _duration(text: str) -> None:
    seconds = quantities.parse_duration(text)
    assert 0 <= seconds <= quantities.MAX_DURATION
    again = quantities.parse_duration(quantities.format_duration(float(int(seconds))))
    assert again == int(seconds)


def _host_port(text: str) -> None:
    host, port = quantities.parse_host_port(text)
    assert quantities.parse_host_port(quantities.format_host_port(host, port)) == (host, port)


def _umask(text: str) -> None:
    assert 0 <= quantities.parse_umask(text) <= 0o777


def _url(text: str) -> None:
    assert quantities.parse_url(text, ("http", "https", "udp")) == text


def _source(text: str) -> None:
    parse_source(text)
    default_log_file(Path(text.replace("\0", "") or "/"))


def _words(text: str) -> None:
    for name, _ in split_mount_options([text]):
        assert name == name.strip() != ""


def _config(text: str) -> None:
    os.ftruncate(_FILE, 0)
    os.pwrite(_FILE, os.fsencode(text), 0)
    assert set(read_config_file(Path(f"/proc/self/fd/{_FILE}"), _NAMES)) <= set(_NAMES)


_READERS: list[Callable[[str], None]] = [
    _size, _rate, _duration, _host_port, _umask, _url, _source, _words, _config,
]  # fmt: skip
