"""Sizes, durations and addresses: what users write, and what they get wrong."""

from __future__ import annotations

import pytest

from torrentfs.daemon.quantities import (
    format_duration,
    format_host_port,
    format_rate,
    format_size,
    parse_duration,
    parse_host_port,
    parse_rate,
    parse_size,
    parse_umask,
    parse_url,
)
from torrentfs.errors import ConfigError

M = 1024 * 1024


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("1K", 1024),
        ("32M", 32 * M),
        ("10g", 10 * 1024 * M),
        ("10GiB", 10 * 1024 * M),
        ("1.5M", 3 * M // 2),
        ("17b", 17),
        (" 2 T ", 2 * 1024 * 1024 * M),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "M", "-1", "1X", "1.M", "ten", "1e9", "1 2", "9" * 30, "9999P"]
)
def test_wrong_sizes(text: str) -> None:
    with pytest.raises(ConfigError, match="size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "rate"), [("5M", 5 * M), ("5M/s", 5 * M), ("0", None), ("off", None), ("none", None)]
)
def test_rates(text: str, rate: int | None) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60s", 60), ("2m", 120), ("1h", 3600), ("1m30s", 90), ("500ms", 0.5), ("90", 90), ("0", 0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "1x", "-5s", "5s!", "1e3", "99999d", "nan", "inf"])
def test_wrong_durations(text: str) -> None:
    with pytest.raises(ConfigError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:6881", ("127.0.0.1", 6881)),
        ("[::1]:1", ("::1", 1)),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
        ("seed.example.org:65535", ("seed.example.org", 65535)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_host_port(text) == address
    assert format_host_port(*address) == text


@pytest.mark.parametrize(
    "text", ["", "host", "::1:80", "host:0", "host:70000", ":80", "a b:80", "[::1]", "[zz]:1"]
)
def test_wrong_addresses(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_host_port(text)


def test_umask_is_octal() -> None:
    assert parse_umask("022") == 0o022
    assert parse_umask("0o77") == 0o77
    for wrong in ("8", "1777", "-1", "rwx", ""):
        with pytest.raises(ConfigError, match="octal"):
            parse_umask(wrong)


def test_urls_are_checked_for_scheme_and_host() -> None:
    url = "udp://tracker.example.org:80/announce"
    assert parse_url(url, ("http", "udp")) == url
    for wrong in ("tracker.example.org", "ftp://a/", "http://", "http://a/b c", "http:///x"):
        with pytest.raises(ConfigError, match="http://"):
            parse_url(wrong, ("http", "udp"))


def test_what_is_printed() -> None:
    assert format_size(17) == "17 B"
    assert format_size(1023) == "1 KiB"
    assert format_size(1536) == "1.5 KiB"
    assert format_size(32 * M) == "32 MiB"
    assert format_size(5 * 1024**4) == "5 TiB"
    assert format_rate(3 * M + M // 10) == "3.1 MiB/s"
    assert [format_duration(s) for s in (0.5, 60, 90, 7200)] == ["0.5s", "1m", "90s", "2h"]
