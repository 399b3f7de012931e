"""Quantities as people write them: sizes, durations, rates, addresses, modes.

Pure text to values and back. Sizes are powers of 1024 whatever the spelling (`10G`, `10GiB`,
`10gb`), as in rclone; a bare number is bytes. Durations are `60s`, `1m30s`, `500ms`, and a bare
number is seconds. Every mistake is a `ConfigError` of one line that shows a right example.
"""

from __future__ import annotations

import re

from torrentfs.errors import ConfigError

_UNITS = "KMGTP"
_SIZE = re.compile(r"(\d{1,20}(?:\.\d{1,20})?)\s*(?:([kmgtp])(?:i?b)?|b)?", re.IGNORECASE)
_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)\s*(ms|s|m|h|d)", re.IGNORECASE)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

MAX_SIZE = 2**62
"""Largest size accepted, in bytes: room below what a signed 64-bit offset holds."""
MAX_DURATION = 366 * 86400.0
"""Longest duration accepted, in seconds: longer ones are a slip of the unit."""


def parse_size(text: str) -> int:
    """Bytes of `10G`, `256M`, `1.5T`, `4096`; ConfigError otherwise."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is not a size: write it like 512M or 10G")
    number, unit = match.groups()
    power = _UNITS.index(unit.upper()) + 1 if unit else 0
    size = int(float(number) * 1024**power) if "." in number else int(number) * 1024**power
    if size > MAX_SIZE:
        raise ConfigError(f"{text!r} is too large a size: the most is {format_size(MAX_SIZE)}")
    return size


def parse_rate(text: str) -> int | None:
    """Bytes a second of `5M` or `5M/s`; `0`, `off` and `none` are no limit (None)."""
    plain = text.strip().lower().removesuffix("/s")
    if plain in ("off", "none", "unlimited"):
        return None
    return parse_size(plain) or None


def parse_duration(text: str) -> float:
    """Seconds of `60s`, `2m`, `1h30m`, `500ms`, `90`; ConfigError otherwise."""
    plain = text.strip()
    if re.fullmatch(r"\d{1,12}(\.\d{1,12})?", plain):
        plain += "s"
    parts = _DURATION.findall(plain)
    if not parts or _DURATION.sub("", plain).strip():
        raise ConfigError(f"{text!r} is not a duration: write it like 90s, 5m or 1h")
    seconds = sum(float(number) * _SECONDS[unit.lower()] for number, unit in parts)
    if seconds > MAX_DURATION:
        raise ConfigError(f"{text!r} is too long a duration: the most is a year")
    return seconds


def parse_host_port(text: str) -> tuple[str, int]:
    """`(host, port)` of `192.0.2.7:6881`, `[2001:db8::7]:6881` or `name:6881`."""
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+(?:%[\w.-]+)?)\]|([^\s:\[\]/]+)):(\d{1,5})", text)
    if match is None:
        raise ConfigError(
            f"{text!r} is not an address: write it like 192.0.2.7:6881 or [2001:db8::7]:6881"
        )
    port = int(match[3])
    if not 0 < port < 65536:
        raise ConfigError(f"{text!r}: the port must be 1 to 65535")
    return match[1] or match[2], port


def parse_umask(text: str) -> int:
    """The mode bits of `022` or `0o022` (octal), 0 to 0777."""
    if not re.fullmatch(r"(0o)?[0-7]{1,4}", text) or int(text, 8) > 0o777:
        raise ConfigError(f"{text!r} is not a umask: write it in octal, like 022")
    return int(text, 8)


def parse_url(text: str, schemes: tuple[str, ...]) -> str:
    """The URL itself when it has one of `schemes` and a host."""
    match = re.fullmatch(r"([a-zA-Z][a-zA-Z0-9+.-]*)://[^\s/?#]+[^\s]*", text)
    if match is None or match[1].lower() not in schemes or not text.isprintable():
        expected = " or ".join(f"{scheme}://" for scheme in schemes)
        raise ConfigError(f"{text!r} is not a URL that starts with {expected}")
    return text


def format_size(size: float) -> str:
    """`1.5 GiB`, `312 KiB`, `17 B`: three significant digits at most."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 999.5 or unit == "TiB":
            break
        value /= 1024
    digits = 0 if unit == "B" or value >= 99.95 else 1
    text = f"{value:.{digits}f}"
    return f"{text.removesuffix('.0')} {unit}"


def format_rate(rate: float) -> str:
    """`3.1 MiB/s`."""
    return f"{format_size(rate)}/s"


def format_duration(seconds: float) -> str:
    """`90s`, `2m`, `1h`: the shortest exact spelling of whole units, as the options take it."""
    for unit, length in (("h", 3600), ("m", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{int(seconds // length)}{unit}"
    return f"{seconds:g}s"


def format_host_port(host: str, port: int) -> str:
    """The inverse of `parse_host_port`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
