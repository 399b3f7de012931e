"""`--refresh KIND=URL`: media servers are told what came and went, so that they need not look.

Media servers do not hear of changes in a FUSE file system, and a scan of everything is slow. Each
has a way to be told of a path:

* Jellyfin: `POST /Library/Media/Updated` with the paths; the token is an API key.
* Plex: `GET /library/sections/ID/refresh?path=`, for the sections that hold the path; the token is
  an `X-Plex-Token`.
* Kodi: `VideoLibrary.Scan` of its JSON-RPC; the token is `user:password` of its web server.

A server may see the mount elsewhere (in a container): `KIND=URL#/path/there`. A token comes from
a file (`--refresh-token KIND=FILE`) or a variable (`TORRENTFS_JELLYFIN_TOKEN`), never from the
command line, which every user of the machine can read; it goes to that server alone. A server that
does not answer is told again until it does, with what has changed meanwhile; all of that is one
line of log.

These requests are no part of torrents: they go neither through `--proxy`, whose `localhost` is
another one and who would read the token, nor from `--bind-interface`, from which this machine and
its network are mostly out of reach. The user named that server, and nobody else is asked.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, get_args
from urllib.parse import quote, urlsplit, urlunsplit

import trio

from torrentfs.errors import ConfigError, TransportError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from torrentfs.daemon.announcing import Batch, Batches
    from torrentfs.daemon.library import Library
    from torrentfs.transports.http import HttpReply

log = logging.getLogger(__name__)

Kind = Literal["jellyfin", "plex", "kodi"]
KINDS: tuple[Kind, ...] = get_args(Kind)

TIMEOUT = 20.0
"""Seconds for one request."""
PAUSES = (30.0, 120.0, 600.0, 1800.0, 3600.0)
"""Seconds until a server that did not answer is asked again; the last one again and again.

A change that comes meanwhile is told at once, but not before the first of them is over."""
MAX_TOKEN = 4096
MAX_REPLY = 4 << 20
MOST_PATHS = 100
"""Paths told one by one; of more, the folder that all of them are in."""


@dataclass(frozen=True, slots=True)
class MediaServer:
    """Where a media server is, and where it sees the mount."""

    kind: Kind
    url: str
    path: str
    token: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.kind} at {urlsplit(self.url).netloc.rpartition('@')[2]}"


class Client(Protocol):
    """What is needed of the HTTP client (transports.http)."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        max_bytes: int,
        timeout: float,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> HttpReply: ...


class RefreshError(Exception):
    """A server answered, but not well."""


def parse_refresh(text: str) -> tuple[Kind, str, str]:
    """`KIND=URL[#PATH]` to (kind, URL, where that server sees the mount, or ""); ConfigError."""
    kind, equals, url = text.partition("=")
    if not equals or kind.lower() not in KINDS:
        raise ConfigError(f"{text!r} is not KIND=URL, where KIND is {', '.join(KINDS)}")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{text!r}: that is no http or https URL")
    path = parts.fragment
    if path and not path.startswith("/"):
        raise ConfigError(f"{text!r}: the path behind # must begin with /")
    bare = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
    return cast("Kind", kind.lower()), bare, path.rstrip("/")


def parse_token_file(text: str) -> tuple[Kind, str]:
    """`KIND=FILE`; ConfigError."""
    kind, equals, path = text.partition("=")
    if not equals or kind.lower() not in KINDS or not path:
        raise ConfigError(f"{text!r} is not KIND=FILE, where KIND is {', '.join(KINDS)}")
    return cast("Kind", kind.lower()), path


def media_servers(
    wanted: Iterable[tuple[Kind, str, str]],
    token_files: Mapping[Kind, Path],
    environment: Mapping[str, str],
    mountpoint: Path,
) -> tuple[MediaServer, ...]:
    """The servers to tell, with their tokens; ConfigError when a token cannot be read."""
    servers = []
    for kind, url, path in wanted:
        token = environment.get(f"TORRENTFS_{kind.upper()}_TOKEN", "").strip()
        if kind in token_files:
            token = _read_token(token_files[kind])
        if not token and kind != "kodi":
            raise ConfigError(
                f"--refresh {kind} needs a token: --refresh-token {kind}=FILE, "
                f"or the variable TORRENTFS_{kind.upper()}_TOKEN"
            )
        servers.append(MediaServer(kind, url, path or str(mountpoint), token))
    return tuple(servers)


def _read_token(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            token = file.read(MAX_TOKEN + 1).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise ConfigError(f"cannot read the token in {path}: {reason.lower()}") from None
    if not token or len(token) > MAX_TOKEN or not token.isprintable():
        raise ConfigError(f"{path} holds no token: one line of text is wanted")
    return token


async def refresh(server: MediaServer, library: Library, batches: Batches) -> None:
    """Tell `server` what comes and goes, over connections of its own, until cancelled."""
    from torrentfs.transports.http import HttpClient

    async with HttpClient() as client:
        await keep_fresh(server, client, library, batches)


async def keep_fresh(
    server: MediaServer, client: Client, library: Library, batches: Batches
) -> None:
    """The same, asking by `client`."""
    while True:
        batch = await batches.next()
        attempt = 0
        while True:
            try:
                await tell(server, client, batch, library)
                break
            except (TransportError, RefreshError) as error:
                log.log(
                    logging.INFO if attempt else logging.WARNING,
                    "%s was not told of changes: %s; told again later",
                    server,
                    error,
                )
            pause = PAUSES[min(attempt, len(PAUSES) - 1)]
            attempt += 1
            batch = await _wait(batch, batches, pause)
        if attempt:
            log.info("%s was told of changes at last", server)


async def _wait(batch: Batch, batches: Batches, pause: float) -> Batch:
    """Some time later: the batch, and what came meanwhile."""
    soonest = trio.current_time() + PAUSES[0]
    with trio.move_on_after(pause):
        batch = batch.joined(await batches.next())
        await trio.sleep_until(soonest)
    return batch


async def tell(server: MediaServer, client: Client, batch: Batch, library: Library) -> None:
    """Tell `server` of one batch. `TransportError` and `RefreshError` when that fails."""
    ask = _Ask(server, client)
    if server.kind == "jellyfin":
        await _tell_jellyfin(ask, batch)
        return
    single = {
        item.key
        for item in library.items.values()
        if item.metainfo is not None and item.metainfo.is_single_file
    }
    folders = [there(server, path) for path in places(batch, single)]
    if server.kind == "plex":
        await _tell_plex(ask, folders)
    else:
        await _tell_kodi(ask, folders)


def there(server: MediaServer, path: Sequence[str]) -> str:
    """A path of the mount as the server sees it."""
    return posixpath.join(server.path, *path)


def places(batch: Batch, single: set[str]) -> list[tuple[str, ...]]:
    """The directories to scan: one that came, or the one that something came to or went from."""
    if batch.is_everything or len(batch.changes) > MOST_PATHS:
        return [batch.place()]
    found: dict[tuple[str, ...], None] = {}
    for change in batch.changes:
        path = change.path or ()
        is_directory = change.kind == "added" and change.key not in single
        found[path if is_directory else path[:-1]] = None
    return list(found)


class _Ask:
    """Requests to one server."""

    def __init__(self, server: MediaServer, client: Client) -> None:
        self._server = server
        self._client = client

    async def __call__(
        self, method: str, target: str, headers: Mapping[str, str], body: Any = None
    ) -> bytes:
        """One request; the body of a good answer."""
        told = {"Accept": "application/json", **headers}
        data = b""
        if body is not None:
            data = json.dumps(body).encode()
            told["Content-Type"] = "application/json"
        reply = await self._client.request(
            method,
            self._server.url + target,
            max_bytes=MAX_REPLY,
            timeout=TIMEOUT,
            headers=told,
            body=data,
        )
        if reply.status in (401, 403):
            raise RefreshError(f"it refuses the token ({reply.status})")
        if not 200 <= reply.status < 300:
            raise RefreshError(f"it answered {reply.status}")
        return reply.body

    @property
    def token(self) -> str:
        return self._server.token


async def _tell_jellyfin(ask: _Ask, batch: Batch) -> None:
    words = {"added": "Created", "removed": "Deleted", "changed": "Modified"}
    updates = [
        {"Path": there(ask._server, change.path or ()), "UpdateType": words[change.kind]}
        for change in batch.changes
    ]
    if batch.is_everything or len(updates) > MOST_PATHS:
        updates = [{"Path": there(ask._server, batch.place()), "UpdateType": "Modified"}]
    headers = {"Authorization": f'MediaBrowser Token="{ask.token}"'}
    await ask("POST", "/Library/Media/Updated", headers, {"Updates": updates})


async def _tell_plex(ask: _Ask, folders: Sequence[str]) -> None:
    headers = {"X-Plex-Token": ask.token}
    sections = _sections(await ask("GET", "/library/sections", headers))
    for folder in folders:
        holders = [number for number, place in sections if _is_in(folder, place)]
        if not holders:  # a library that lies below it
            holders = [number for number, place in sections if _is_in(place, folder)]
        for number in dict.fromkeys(holders):
            target = (
                f"/library/sections/{quote(number, safe='')}/refresh?path={quote(_text(folder))}"
            )
            await ask("GET", target, headers)
        if not holders:
            log.info("no library of %s holds %s", ask._server, folder)


def _sections(data: bytes) -> list[tuple[str, str]]:
    """(number, directory) of each library of a Plex server."""
    try:
        listed = json.loads(data)["MediaContainer"].get("Directory", [])
        return [
            (str(section["key"]), str(place["path"]))
            for section in listed
            for place in section.get("Location", [])
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RefreshError("its list of libraries cannot be read") from None


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


async def _tell_kodi(ask: _Ask, folders: Sequence[str]) -> None:
    headers = {}
    if ask.token:
        headers["Authorization"] = f"Basic {base64.b64encode(ask.token.encode()).decode()}"
    for folder in folders:
        wanted = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "VideoLibrary.Scan",
            "params": {"directory": folder.rstrip("/") + "/", "showdialogs": False},
        }
        data = await ask("POST", "/jsonrpc", headers, wanted)
        try:
            error = json.loads(data).get("error")
        except (ValueError, AttributeError, RecursionError):
            raise RefreshError("its answer is no JSON-RPC") from None
        if error is not None:
            words = error.get("message", error) if isinstance(error, dict) else error
            raise RefreshError(f"it says: {str(words)[:200]}")


def _text(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "replace")
