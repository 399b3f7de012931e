"""Who may ask over TCP: the token, the Host and the Origin. Pure decisions about one request.

Any program of this machine, and any page in a browser on it, can reach a TCP port. So:

* Every request carries the **token**: `Authorization: Bearer TOKEN`, the password of `Basic` (any
  user; what players can do), or the cookie that `GET /?token=TOKEN` sets.
* The **Host** must be an address of ours, or a name that the user gave: a foreign site whose name
  was made to resolve to us (DNS rebinding) is refused.
* A browser says who asks (`Sec-Fetch-Site`, `Origin`): other sites are refused, whatever the
  method, but for a plain link to the page at `/`.

The Unix socket asks for none of this: the kernel decides who may connect to it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A listening socket, as far as access goes. Without a token everybody who connects may ask."""

    token: str | None = None
    port: int = 0
    address: str = ""
    """What it listens on; of `0.0.0.0` and `::` every address is ours."""
    names: tuple[str, ...] = field(default=())
    """Host names beside `localhost` and the address."""

    def is_ours(self, host: str) -> bool:
        """Whether a `Host` header means us."""
        name, port = _split_host(host)
        if port not in (self.port, None) and name not in self.names:
            return False  # behind a proxy of that name the port is the proxy's
        if name in ("localhost", *self.names):
            return True
        try:
            address = ipaddress.ip_address(name)
            own = ipaddress.ip_address(self.address)
        except ValueError:
            return False
        # an address in digits cannot be rebound
        return own.is_unspecified or address == own or (address.is_loopback and own.is_loopback)


@dataclass(frozen=True, slots=True)
class Refusal:
    """No: a status and one line, and headers beside."""

    status: int
    words: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Welcome:
    """The token came in the address: set the cookie and go on without it."""

    cookie: str


def cookie_name(port: int) -> str:
    """Cookies of one host are shared by all its ports."""
    return f"torrentfs_{port}"


def cookie_value(token: str) -> str:
    """What the browser holds: from it the token cannot be told."""
    return hashlib.sha256(f"torrentfs cookie {token}".encode()).hexdigest()


_CHALLENGE = (("www-authenticate", 'Basic realm="torrentfs", charset="UTF-8"'),)


def decide(
    endpoint: Endpoint, method: str, path: str, query: str, headers: Mapping[str, str]
) -> Refusal | Welcome | None:
    """None: go on. `headers` have lower-case names."""
    if endpoint.token is None:
        return None
    host = headers.get("host", "")
    if not endpoint.is_ours(host):
        return Refusal(421, "this is not the host that you asked for (Host)")
    if _is_foreign(method, path, host, headers):
        return Refusal(403, "other sites may not ask here (Origin)")
    if path == "/" and method == "GET" and "token" in (fields := parse_qs(query)):
        if not _same(fields["token"][0], endpoint.token):
            return Refusal(401, "the token is wrong", _CHALLENGE)
        value = cookie_value(endpoint.token)
        name = cookie_name(endpoint.port)
        return Welcome(f"{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age=31536000")
    offered = headers.get("authorization", "")
    if offered:
        if _same(_token_of(offered), endpoint.token):
            return None
        return Refusal(401, "the token is wrong", _CHALLENGE)
    for part in headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == cookie_name(endpoint.port) and _same(value, cookie_value(endpoint.token)):
            return None
    words = "a token is needed: Authorization: Bearer TOKEN (torrentfs status shows where it is)"
    return Refusal(401, words, _CHALLENGE)


def _is_foreign(method: str, path: str, host: str, headers: Mapping[str, str]) -> bool:
    site = headers.get("sec-fetch-site", "none")
    if site not in ("none", "same-origin"):
        is_link = headers.get("sec-fetch-mode") == "navigate" and method == "GET"
        if not (is_link and path == "/" and headers.get("sec-fetch-dest") == "document"):
            return True
    origin = headers.get("origin")
    return origin is not None and origin.lower() not in (
        f"http://{host.lower()}",
        f"https://{host.lower()}",
    )


def _token_of(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            decoded = base64.b64decode(value.strip(), validate=True).decode()
        except (binascii.Error, ValueError):
            return ""
        return decoded.partition(":")[2]
    return ""


def _same(given: str, wanted: str) -> bool:
    """In a time that says nothing."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted.encode())


def _split_host(host: str) -> tuple[str, int | None]:
    """`("localhost", 80)` of `localhost:80`, `("::1", None)` of `[::1]`; `("", None)` if wrong."""
    name, port = host.strip().lower(), ""
    if name.startswith("["):
        name, bracket, rest = name[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return "", None
        port = rest[1:]
    elif name.count(":") == 1:
        name, _, port = name.partition(":")
    if not port:
        return name.rstrip("."), None
    return (name.rstrip("."), int(port)) if port.isascii() and port.isdigit() else ("", None)
