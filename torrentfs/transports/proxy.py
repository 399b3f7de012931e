"""`--proxy`: where the proxy is, of which kind, and what it wants to know of us.

`socks5://user:password@host:port` (`socks5h` means the same: names are always resolved by the
proxy) or `http://user:password@host:port`, which is asked to CONNECT for everything.

Name and password are in no `str` or `repr`, and no error repeats the text that had them.

Nothing here does I/O: `outgoing` connects.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote

from torrentfs.errors import ConfigError

MAX_SOCKS_BYTES = 255
"""Longest name or password of SOCKS5 (RFC 1929)."""

_EXAMPLE = "write it like socks5://host:1080 or http://user:password@host:3128"
_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:(?P<user>[^@]*)@)?"
    r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<host>[^\s:@/?#\[\]]+)):(?P<port>\d{1,5})/?",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy; its `str` is for logs and errors."""

    kind: Literal["socks5", "http"]
    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False, compare=False)
    """Name and password in the spelling of the URL, for whoever has to hide them there."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.kind}://{host}:{self.port}"


def parse_proxy(text: str) -> Proxy:
    """The proxy that a URL names; `ConfigError`, without a word of what may be secret."""
    text = text.strip()
    match = _URL.fullmatch(text)
    if match is None or not text.isprintable():
        raise ConfigError(f"the proxy is not a URL with a host and a port: {_EXAMPLE}")
    scheme = match["scheme"].lower()
    if scheme not in ("socks5", "socks5h", "http"):
        known = scheme in ("https", "socks4", "socks4a", "socks")
        shown = f"{scheme}:// proxies are" if known else "a proxy of this kind is"
        raise ConfigError(f"{shown} not supported: {_EXAMPLE}")
    port = int(match["port"])
    if not 0 < port < 65536:
        raise ConfigError("the port of the proxy must be 1 to 65535")
    user, colon, password = (match["user"] or "").partition(":")
    secrets = tuple(filter(None, (match["user"],)))
    try:
        user, password = unquote(user, errors="strict"), unquote(password, errors="strict")
    except UnicodeDecodeError:
        raise ConfigError("name and password of the proxy must be UTF-8 behind their %") from None
    if scheme != "http":
        _check_socks(user, password)
    elif not user and colon:
        raise ConfigError("the proxy has a password and no name")
    elif not (user + password).isprintable() or ":" in user:
        raise ConfigError("name and password of an http proxy must be printable, the name no ':'")
    kind: Literal["socks5", "http"] = "http" if scheme == "http" else "socks5"
    return Proxy(kind, (match["v6"] or match["host"]).lower(), port, user, password, secrets)


def _check_socks(user: str, password: str) -> None:
    if bool(user) != bool(password):
        raise ConfigError("a SOCKS5 proxy takes a name and a password, or neither")
    for part in (user, password):
        if not part.isascii() or len(part) > MAX_SOCKS_BYTES:
            raise ConfigError(
                f"name and password of a SOCKS5 proxy must be ASCII of at most {MAX_SOCKS_BYTES}"
            )
