"""`/files/...`: the mount over HTTP, for players and for systems without FUSE.

A path is answered with its bytes (`Range`, `If-Range`, `HEAD`, `ETag`), a directory with a small
page or, by `Accept`, with JSON. Reads go the way of the kernel's: the same slots, deadlines and
read-ahead, and what a client does not take is not read ahead of. When a client goes, what it asked
for is withdrawn. The first bytes are read before the head of an answer is sent, so that a torrent
that cannot be read is a 503 with words; a read that fails later breaks the connection, for an
answer that ends early and well would be taken for the file.

What is in a torrent is a stranger's. A browser shows pictures, films, music and plain text here,
in a sandbox where nothing runs; everything else it saves.
"""

import html
import logging
from email.utils import formatdate
from itertools import islice
from mimetypes import MimeTypes
from stat import S_ISDIR, S_ISLNK
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

import trio
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from torrentfs.daemon.control.contract import Subject, Volume
from torrentfs.daemon.control.describe import clean, url_of
from torrentfs.daemon.control.errors import responses
from torrentfs.daemon.control.leaving import Receive, Scope, Send, end_with
from torrentfs.daemon.control.ranges import Unsatisfiable, is_known, may_resume, parse_range
from torrentfs.errors import DataUnavailable

log = logging.getLogger(__name__)

FIRST = 64 * 1024
"""Bytes of the first read: a player looks at the head of a file first."""
CHUNK = 256 * 1024
MOST_LISTED = 100_000
AT_ONCE = 1000
"""Entries of a directory that are put into words without a thread (5 us each)."""
SANDBOX = "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; sandbox"
_TYPES = MimeTypes()  # its own table, not what this machine's files say
_MORE_TYPES = {
    ".mkv": "video/x-matroska", ".m2ts": "video/mp2t", ".ts": "video/mp2t", ".webm": "video/webm",
    ".flac": "audio/flac", ".m4a": "audio/mp4", ".m4b": "audio/mp4", ".opus": "audio/ogg",
    ".ogg": "audio/ogg", ".oga": "audio/ogg", ".ogv": "video/ogg", ".m4v": "video/mp4",
    ".srt": "text/plain", ".ass": "text/plain", ".nfo": "text/plain", ".vtt": "text/vtt",
    ".md": "text/plain", ".js": "text/javascript", ".webp": "image/webp", ".avif": "image/avif",
    ".parquet": "application/vnd.apache.parquet", ".epub": "application/epub+zip",
}  # fmt: skip
_SHOWN = ("video/", "audio/", "image/")
_BYTES = "application/octet-stream"


def type_of(name: str) -> str:
    """The media type that a name's ending says."""
    dot = name.rfind(".")
    ending = name[dot:].lower() if dot > 0 else ""
    return _MORE_TYPES.get(ending) or _TYPES.guess_type(f"x{ending}")[0] or _BYTES


def disposition_of(name: str, kind: str) -> str:
    """`inline` for what may be looked at in a browser, else `attachment`; with the name."""
    shown = kind == "text/plain" or (kind.startswith(_SHOWN) and kind != "image/svg+xml")
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in name)
    encoded = quote(name.encode("utf-8", "surrogateescape"), safe="")
    way = "inline" if shown else "attachment"
    return f"{way}; filename=\"{plain}\"; filename*=UTF-8''{encoded}"


class Listed(NamedTuple):
    """An entry of a directory; `size` in bytes."""

    name: str
    is_directory: bool
    size: int


class Stream(Response):
    """The bytes `span` of a file, read as they are taken."""

    def __init__(
        self,
        subject: Subject,
        volume: Volume,
        file: int,
        span: range,
        status: int,
        headers: dict[str, str],
    ) -> None:
        super().__init__(status_code=status, headers=headers)
        self._subject = subject
        self._volume = volume
        self._file = file
        self._span = span

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; `HTTPException` while that can still be told."""
        trouble: DataUnavailable | None = None
        self._volume.on_open(self._file)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(end_with, receive, nursery.cancel_scope)
                trouble = await self._answer(send)
                nursery.cancel_scope.cancel()
        finally:
            self._volume.on_release(self._file)
        if trouble is not None:  # outside of the nursery, which would wrap it
            raise HTTPException(503, str(trouble))

    async def _answer(self, send: Send) -> DataUnavailable | None:
        place, stop = self._span.start, self._span.stop
        start = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        size = FIRST
        while place < stop:
            length = min(size, stop - place)
            try:
                data = await self._read(place, length)
            except DataUnavailable as error:
                if place == self._span.start:
                    return error
                name = self._volume.metainfo.name
                log.info("/files: broke off %s at %d: %s", name, place, error)
                return None  # less than was announced: the server breaks the connection
            if place == self._span.start:
                await send(start)
            place += length
            more = place < stop
            await send({"type": "http.response.body", "body": data, "more_body": more})
            size = CHUNK
        if not self._span:
            await send(start)
            await send({"type": "http.response.body", "body": b""})
        return None

    async def _read(self, offset: int, length: int) -> bytes | bytearray | memoryview:
        gate = self._subject.admission.gate(self._volume.metainfo.hashes.key)
        if not gate.enter_nowait():
            with trio.move_on_after(self._subject.line_timeout) as scope:
                entered = await gate.enter()
            if scope.cancelled_caught:
                raise DataUnavailable("too long in line behind other reads of this torrent")
            if not entered:
                raise DataUnavailable("torrentfs is shutting down")
        try:
            data = await self._volume.read(self._file, offset, length)
        finally:
            gate.leave()
        if len(data) != length:
            raise DataUnavailable(f"the torrent gave {len(data)} bytes of {length}: a bug")
        return data


def make_router(subject: Subject) -> APIRouter:
    """The routes, for one mount."""
    router = APIRouter(tags=["files"])

    @router.head("/files/{path:path}", include_in_schema=False)
    @router.get(
        "/files/{path:path}",
        response_class=Response,
        responses={
            **responses(404, 416, 503),
            200: {"description": "The file, or the list of a directory", "content": {"*/*": {}}},
            206: {"description": "A range of the file", "content": {"*/*": {}}},
            304: {"description": "The client has it (If-None-Match)"},
            307: {"description": "A directory: ask with a / at the end"},
        },
    )
    async def read_file(request: Request, path: str) -> Response:
        """A file of the mount, or a directory: a page, or JSON for `Accept: application/json`."""
        names = names_of(request.scope)
        try:
            inode = subject.tree.follow(names)
            found = subject.tree.volume(inode)
            about = subject.tree.attributes(inode)
        except (FileNotFoundError, NotADirectoryError):
            raise HTTPException(404, "there is nothing at this path of the mount") from None
        if found is None or found[1] is None:
            if not request.scope["path"].endswith("/"):
                return Response(status_code=307, headers={"location": url_of(names) + "/"})
            accept = request.headers.get("accept", "")
            entries = await entries_of(subject, inode, names)
            if len(entries) <= AT_ONCE:
                return list_directory(names, entries, accept)
            return await trio.to_thread.run_sync(list_directory, names, entries, accept)
        volume, file = found
        try:
            _, _, size = subject.tree.file(inode)
        except IsADirectoryError:  # not reached: it has a number
            raise HTTPException(404, "there is nothing at this path of the mount") from None
        return answer_file(request, subject, volume, file, size, names[-1], about.time_ns)

    return router


def names_of(scope: Scope) -> tuple[str, ...]:
    """The names below `/files/`, as bytes that are no UTF-8 keep their place in names."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogateescape")
    parts = raw.partition(b"?")[0].removeprefix(b"/files/").split(b"/")
    names = tuple(unquote_to_bytes(part).decode("utf-8", "surrogateescape") for part in parts)
    names = tuple(name for name in names if name)
    if any(name in (".", "..") or "/" in name or "\0" in name for name in names):
        raise HTTPException(404, "there is nothing at this path of the mount")
    return names


def answer_file(
    request: Request,
    subject: Subject,
    volume: Volume,
    file: int,
    size: int,
    name: str,
    time_ns: int,
) -> Response:
    """What a request for a file is answered with."""
    etag = f'"{volume.metainfo.hashes.key}-{file}"'
    modified = time_ns // 1_000_000_000
    kind = type_of(name)
    headers = {
        "etag": etag,
        "last-modified": formatdate(modified, usegmt=True),
        "accept-ranges": "bytes",
        "cache-control": "private, no-cache",
        "content-security-policy": SANDBOX,
    }
    asked = request.headers
    if is_known(asked.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    status, span = 200, range(size)
    if request.method == "GET" and may_resume(asked.get("if-range"), etag, modified):
        try:
            part = parse_range(asked.get("range"), size)
        except Unsatisfiable:
            text = "the range begins behind the end of the file"
            raise HTTPException(416, text, {"content-range": f"bytes */{size}"}) from None
        if part is not None:
            status, span = 206, part
            headers["content-range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
    headers["content-type"] = kind + ("; charset=utf-8" if kind.startswith("text/") else "")
    headers["content-disposition"] = disposition_of(name, kind)
    headers["content-length"] = str(len(span))
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return Stream(subject, volume, file, span, status, headers)


async def entries_of(subject: Subject, inode: int, names: tuple[str, ...]) -> list[Listed]:
    """What is in a directory, in the order of the mount; a link is what it leads to."""
    tree = subject.tree
    found: list[Listed] = []
    for raw, about, _ in list(islice(tree.listing(inode).entries(2), MOST_LISTED)):
        name = raw.decode("utf-8", "surrogateescape")
        if S_ISLNK(about.mode):
            # each may lead through forty others and take half a millisecond: the mount goes on
            await trio.lowlevel.checkpoint()
            try:
                about = tree.attributes(tree.follow((*names, name)))
            except (FileNotFoundError, NotADirectoryError):
                continue
        found.append(Listed(name, S_ISDIR(about.mode), about.size))
    return found


def list_directory(names: tuple[str, ...], entries: list[Listed], accept: str) -> Response:
    """The page of a directory, or its JSON; directories have a `/`."""
    if "application/json" in accept:
        return JSONResponse(
            {
                "path": clean("/".join(names)),
                "entries": [
                    {
                        "name": clean(name),
                        "type": "directory" if is_directory else "file",
                        "size": size,
                        "url": url_of((*names, name)) + ("/" if is_directory else ""),
                    }
                    for name, is_directory, size in entries
                ],
            }
        )
    return HTMLResponse(_page(names, entries), headers={"content-security-policy": SANDBOX})


def _page(names: tuple[str, ...], entries: list[Listed]) -> str:
    title = html.escape(clean("/" + "/".join(names)))
    lines = ['<li><a href="../">..</a>'] if names else []
    ordered = sorted(entries, key=lambda entry: (not entry.is_directory, entry.name))
    for name, is_directory, size in ordered:
        mark = "/" if is_directory else ""
        link = quote(name.encode("utf-8", "surrogateescape"), safe="") + mark
        shown = "" if is_directory else f" <small>{size}</small>"
        lines.append(f'<li><a href="./{link}">{html.escape(clean(name))}{mark}</a>{shown}')
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{title}</title><h1>{title}</h1><ul>\n" + "\n".join(lines) + "\n</ul></html>\n"
    )
