"""What the control server is told by its user: where it listens beside its Unix socket."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from torrentfs.errors import ConfigError

LOCAL = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class ControlConfig:
    """`--http` and what goes with it."""

    http: tuple[str, int] | None = None
    """Address in digits, and port; 0 takes any free one."""
    names: tuple[str, ...] = ()
    """Host names by which it is asked (behind a proxy), beside `localhost`."""
    allow_remote: bool = False
    """Whether it may listen where other machines reach it."""

    def __post_init__(self) -> None:
        if self.http is None:
            if self.names or self.allow_remote:
                raise ConfigError("--http-name and --http-allow-remote need --http ADDRESS:PORT")
            return
        if not self.allow_remote and not ipaddress.ip_address(self.http[0]).is_loopback:
            raise ConfigError(
                f"--http {self.http[0]}: other machines would reach it, over plain HTTP; say so by "
                f"--http-allow-remote, or listen on {LOCAL} behind a proxy with TLS"
            )


def parse_http(text: str) -> tuple[str, int]:
    """`("127.0.0.1", 8080)` of `127.0.0.1:8080`, `localhost:8080`, `:8080` or `8080`."""
    found = re.fullmatch(r"(?:(?:\[([0-9a-fA-F:.]+)\]|([^\s:\[\]/]*)):)?(\d{1,5})", text.strip())
    wrong = ConfigError(f"{text!r} is not an address: write it like 127.0.0.1:8080 or [::1]:8080")
    if found is None or int(found[3]) > 65535:
        raise wrong
    host = found[1] or found[2] or LOCAL
    if host.lower() == "localhost":
        host = LOCAL
    try:
        return str(ipaddress.ip_address(host)), int(found[3])
    except ValueError:
        raise ConfigError(f"{text!r}: give an address in digits, like 127.0.0.1:8080") from None


def parse_name(text: str) -> str:
    """A host name, in lower case."""
    name = text.strip().rstrip(".").lower()
    if not re.fullmatch(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?", name):
        raise ConfigError(f"{text!r} is not a host name: write it like films.example.org")
    return name
