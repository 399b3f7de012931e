"""The way from a command to the mount it is about: which one, its socket, its answers.

A mount is meant by a path inside it, by `--mount MOUNTPOINT`, or because it is the only one; the
kernel's mount table says which there are, and no file of a mount is touched to find out. All else
is the mount's HTTP API (docs/api.md) over its Unix socket.

httpx is imported when something is asked, so that `--help` and completion of options stay quick.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import click

from torrentfs.cli.options import PATH
from torrentfs.errors import ConfigError, MetadataTimeout, TransportError
from torrentfs.vfs.mountpoint import FSTYPE, MountPoint, daemon_of, mount_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx

TIMEOUT = 180.0
"""Seconds for an answer: adding a URL may take as long as its server."""
API = "/api/v1"
_INFO_HASH = re.compile("[0-9a-fA-F]{40}|[0-9a-fA-F]{64}")

mount_option = click.option(
    "--mount",
    "mountpoint",
    metavar="MOUNTPOINT",
    type=PATH,
    help="The mount that is meant. Not needed when one runs, or for paths inside it.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON (see docs/api.md).")


class Place(NamedTuple):
    """A path of a mount."""

    mount: MountPoint
    path: tuple[str, ...]

    @property
    def text(self) -> str:
        """As the API takes it."""
        return "/".join(self.path)


def running_mounts() -> list[MountPoint]:
    """The mounts of torrentfs that are on top at their place, in the order of the mount table."""
    found: dict[str, MountPoint] = {}
    for mount in mount_table():
        found.pop(mount.path, None)
        found[mount.path] = mount
    return [mount for mount in found.values() if mount.fstype == FSTYPE]


def place_of(path: str | os.PathLike[str]) -> Place | None:
    """Where in which mount `path` is, or None when it is in none."""
    text = os.path.abspath(os.path.expanduser(path))
    mounts = running_mounts()
    for candidate in (text, None):
        if candidate is None:
            candidate = os.path.join(
                os.path.realpath(os.path.dirname(text)), os.path.basename(text)
            )
        for mount in sorted(mounts, key=lambda mount: -len(mount.path)):
            if candidate == mount.path:
                return Place(mount, ())
            if candidate.startswith(mount.path.rstrip("/") + "/"):
                inside = candidate[len(mount.path.rstrip("/")) + 1 :]
                return Place(mount, tuple(inside.split("/")))
    return None


def the_mount(mountpoint: Path | None) -> MountPoint:
    """The mount at `mountpoint`, or the only one; `ConfigError` says what to do otherwise."""
    if mountpoint is not None:
        place = place_of(mountpoint)
        if place is None:
            raise ConfigError(f"no torrentfs is mounted at {mountpoint}")
        return place.mount
    mounts = running_mounts()
    if not mounts:
        raise ConfigError("no torrentfs is mounted here: torrentfs mount SOURCE... MOUNTPOINT")
    if len(mounts) > 1:
        names = ", ".join(mount.path for mount in mounts)
        raise ConfigError(f"several are mounted ({names}): say which by --mount MOUNTPOINT")
    return mounts[0]


class Client:
    """Asks one mount."""

    def __init__(self, http: httpx.Client, mount: MountPoint) -> None:
        self._http = http
        self.mount = mount

    def ask(self, method: str, path: str, **settings: Any) -> Any:
        """The JSON of an answer; what the mount says against it is a `ConfigError` (code 1).

        A `MetadataTimeout` (code 3) when something did not come in time.
        """
        import httpx

        try:
            reply = self._http.request(method, API + path, **settings)
        except httpx.HTTPError as error:
            words = f"the mount at {self.mount.path} does not answer: {error}"
            raise TransportError(words) from error
        return _answer(reply)

    def get(self, path: str, **query: Any) -> Any:
        """What is at `path`."""
        return self.ask("GET", path, params={k: v for k, v in query.items() if v is not None})

    def torrent(self, text: str) -> Any:
        """The torrent of this info-hash, name or path."""
        return self.get("/torrents", name=text)["torrents"][0]

    @contextmanager
    def events(self) -> Iterator[Iterator[tuple[str, str]]]:
        """`(event, JSON)` of what changes, until the mount ends."""
        import httpx

        timeout = httpx.Timeout(TIMEOUT, read=60.0)
        with self._http.stream("GET", f"{API}/events", timeout=timeout) as reply:
            if reply.status_code != 200:
                reply.read()
                _answer(reply)
            yield _parse_events(reply.iter_lines())


def _parse_events(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    name = ""
    for line in lines:
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, value


def _answer(reply: httpx.Response) -> Any:
    if reply.status_code < 400:
        return reply.json() if reply.content else None
    try:
        words = str(reply.json()["error"])
    except (ValueError, KeyError, TypeError):
        words = f"the mount answered with {reply.status_code}"
    raise MetadataTimeout(words) if reply.status_code == 504 else ConfigError(words)


@contextmanager
def connect(mount: MountPoint, timeout: float = TIMEOUT) -> Iterator[Client]:
    """A client of a mount; `ConfigError` when it cannot be reached, with what may help."""
    from torrentfs.daemon.control.place import address_of, find_socket

    path = find_socket(mount.path, daemon_of(mount))
    if path is None:
        path = _of_its_twins(mount)
    if path is None:
        owner = _owner_of(mount)
        if owner not in (None, os.geteuid()) and os.geteuid() != 0:
            raise ConfigError(f"{mount.path} is mounted by another user: ask as that user or root")
        raise ConfigError(
            f"{mount.path} has no control socket here: it may be mounted in a container, or its "
            "log says why"
        )
    import httpx

    with address_of(path) as address:
        transport = httpx.HTTPTransport(uds=address)
        with httpx.Client(
            transport=transport, base_url="http://torrentfs", timeout=timeout, trust_env=False
        ) as http:
            yield Client(http, mount)


def _of_its_twins(mount: MountPoint) -> Path | None:
    """The socket of a mount that is seen at several places (a bind mount)."""
    from torrentfs.daemon.control.place import find_socket

    for other in mount_table():
        if other.device == mount.device and other.path != mount.path:
            path = find_socket(other.path, daemon_of(other))
            if path is not None:
                return path
    return None


def _owner_of(mount: MountPoint) -> int | None:
    number = mount.source.partition(":")[2]
    try:
        return os.stat(f"/proc/{number}").st_uid if number.isdecimal() else None
    except OSError:
        return None


@contextmanager
def client_for(mountpoint: Path | None) -> Iterator[Client]:
    """A client of the mount that is meant."""
    with connect(the_mount(mountpoint)) as client:
        yield client


@contextmanager
def torrent_of(text: str, mountpoint: Path | None) -> Iterator[tuple[Client, Any]]:
    """A client and the torrent that `text` means: a path inside a mount, a name, an info-hash."""
    place = place_of(text) if mountpoint is None else None
    if place is not None and place.path:
        with connect(place.mount) as client:
            try:
                found = client.torrent(place.text)
            except ConfigError:
                found = client.torrent(text)  # a name, said in a directory of the mount
            yield client, found
        return
    with client_for(mountpoint) as client:
        yield client, client.torrent(text)


@contextmanager
def client_at(path: str, mountpoint: Path | None = None) -> Iterator[tuple[Client, str]]:
    """A client of the mount that `path` is in, and the path in it; not the mount as a whole.

    With `mountpoint` a relative path may be one of that mount as well. Or all of a torrent, by its
    info-hash: the text is that.
    """
    if _INFO_HASH.fullmatch(path) and not os.path.lexists(path):
        with client_for(mountpoint) as client:
            yield client, path.lower()
        return
    place = place_of(path)
    if mountpoint is not None:
        mount = the_mount(mountpoint)
        if (place is None or place.mount != mount) and not path.startswith(("/", "~")):
            place = Place(mount, tuple(part for part in path.split("/") if part not in ("", ".")))
        if place is None or place.mount != mount:
            raise ConfigError(f"{path} is not in {mount.path}")
    if place is None:
        raise ConfigError(f"{path} is not in a mount of torrentfs")
    if not place.path:
        raise ConfigError(f"{path} is the whole mount: name a torrent or a file of it")
    with connect(place.mount) as client:
        yield client, place.text


def in_url(text: str) -> str:
    """`text` as one part of an address."""
    return quote(text, safe="")


def complete_torrent(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of torrents for the shell; none when that cannot be known at once."""
    try:
        with connect(the_mount(ctx.params.get("mountpoint")), timeout=0.5) as client:
            torrents = client.get("/torrents")["torrents"]
    except Exception:  # a shell that completes shows no errors
        return []
    return [t["name"] for t in torrents if t["name"].startswith(incomplete)]


def torrent_argument(**settings: Any) -> Callable[[Any], Any]:
    """`TORRENT`: an info-hash, its first digits, a name, or a path in a mount."""
    many = settings.get("nargs") == -1
    return click.argument(
        "torrents" if many else "torrent",
        metavar="TORRENT..." if many else "TORRENT",
        shell_complete=complete_torrent,
        required=True,
        **settings,
    )
