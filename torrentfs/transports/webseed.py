"""Web seeds: a torrent's bytes from HTTP servers (BEP 19 "getright", BEP 17 "hoffman").

`WebSeed.fetch(start, length)` takes a range of piece space, as the scheduler thinks, and gives
exactly its bytes in order. A BEP 19 server has *files*, so the range is cut at file borders and
each run is one request with `Range: bytes=a-b`; padding files (BEP 47) are zeros that nobody is
asked for, the gaps of an aligned (v2) torrent hold no bytes and are left out. A BEP 17 server has
a script that knows the torrent and takes one piece at a time.

What servers do wrong, and what becomes of it:

* they ignore `Range` (200, whole body): read forward when that is at most `MAX_SKIP` bytes;
  beyond it this file can only be read near its start from here;
* a file is missing (404, 410) or has another size: its pieces are lost *here*, the rest goes on;
* 429, 503 and their Retry-After: nobody asks this seed before the time is over;
* a body is shorter than asked, or the connection breaks: asked again from the place reached, a
  few times, each time only if there was progress (or the connection was an old, kept one);
* stalls, wrong Content-Range, compressed bodies, loops of redirects, garbage: one error in words;
* wrong bytes: not seen here. The caller hashes pieces and decides.

Every failure is a `WebSeedError`. `permanent`: this seed is of no use for anything, ever.
`missing`: pieces that it will never have; `has(piece)` remembers them, and asking for one again
fails at once without a request. `retry_after`: seconds that the server asked us to wait.

Where a file's URL redirected to is kept and asked directly, until that fails.
"""

from __future__ import annotations

import logging
import re
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import trio

from torrentfs.errors import TransportError
from torrentfs.transports.http import HttpError, seconds_until
from torrentfs.transports.reach import of_web_seed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.transports.http import HttpClient, HttpStream

log = logging.getLogger(__name__)

MAX_SKIP = 4 * 1024 * 1024
"""Bytes read and thrown away to reach an offset at a server that ignores Range."""
MAX_RETRY_AFTER = 3600.0
"""Longest pause in seconds that a server can ask for."""
REFUSED_RETRY = 600.0
"""Seconds before a server that refuses us (401, 403, ...) is asked again: links get renewed."""
MAX_RESUMES = 4
"""Times that one run of a file is asked again after its body ended early."""
MAX_REDIRECTS_KEPT = 4096

_ZEROS = memoryview(bytes(256 * 1024))
_CONTENT_RANGE = re.compile(r"bytes\s+(\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")

Flavour = Literal["getright", "hoffman"]

if TYPE_CHECKING:
    Chunks = AsyncGenerator[bytes | memoryview, None]


class WebSeedError(TransportError):
    """A web seed cannot give a range; `str()` is why. The module says what the fields mean."""

    def __init__(
        self,
        reason: str,
        *,
        retry_after: float | None = None,
        permanent: bool = False,
        missing: range = range(0),
    ) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.permanent = permanent
        self.missing = missing


class _Interrupted(Exception):
    """A body ended early or its connection broke; asking for the rest may help."""


@dataclass(frozen=True, slots=True)
class WebSeedStatistics:
    """`received` counts body bytes given out, `requests` answers begun, `pause` is in seconds."""

    url: str
    flavour: Flavour
    requests: int
    received: int
    missing_files: int
    pause: float
    last_error: str | None


class WebSeed:
    """One URL of a torrent's `url-list` ("getright") or `httpseeds` ("hoffman").

    Several `fetch` may run at once, each on its own connection.
    """

    def __init__(
        self, url: str, metainfo: Metainfo, client: HttpClient, flavour: Flavour = "getright"
    ) -> None:
        self.url = url
        self.flavour: Flavour = flavour
        self._metainfo = metainfo
        self._client = client
        self._places: dict[int, str] = {}  # file -> where its URL redirected to
        self._missing: dict[int, str] = {}  # file -> why it will never come from here
        self._rangeless: set[int] = set()  # files whose server ignored Range
        self._not_before = float("-inf")
        self._dead: str | None = None
        self._requests = 0
        self._received = 0
        self._last_error: str | None = None

    async def fetch(self, start: int, length: int) -> Chunks:
        """The bytes of `[start, start + length)` of piece space, in order, in chunks of any size.

        A chunk is valid for good (it is not reused). Raises `WebSeedError`; the chunks given
        before it are good to use. Wrap it in `contextlib.aclosing` when it may be left early.
        """
        try:
            self._check_usable()
            runs = self._fetch_files if self.flavour == "getright" else self._fetch_pieces
            async with aclosing(runs(start, length)) as chunks:
                async for chunk in chunks:
                    self._received += len(chunk)
                    yield chunk
        except WebSeedError as error:
            self._on_error(error)
            raise
        except HttpError as error:
            failed = WebSeedError(str(error), permanent=error.permanent)
            self._on_error(failed)
            raise failed from error

    def has(self, piece: int) -> bool:
        """False once it is known that this seed cannot give all of `piece`."""
        if self._dead is not None:
            return False
        if not self._missing and not self._rangeless:
            return True
        geometry = self._metainfo.geometry
        start = piece * geometry.piece_length
        for file, offset, _ in geometry.files_in(start, geometry.piece_size(piece)):
            if file in self._missing or (file in self._rangeless and offset > MAX_SKIP):
                return False
        return True

    def statistics(self) -> WebSeedStatistics:
        """Counters and the last failure in words."""
        return WebSeedStatistics(
            url=self.url,
            flavour=self.flavour,
            requests=self._requests,
            received=self._received,
            missing_files=len(self._missing),
            pause=max(0.0, self._not_before - trio.current_time()),
            last_error=self._last_error,
        )

    def __repr__(self) -> str:
        state = self._dead or (f"{len(self._missing)} files missing" if self._missing else "ok")
        return f"<WebSeed {self.url} {state}>"

    # -- what went wrong ------------------------------------------------------------------------

    def _check_usable(self) -> None:
        if self._dead is not None:
            raise WebSeedError(self._dead, permanent=True)
        pause = self._not_before - trio.current_time()
        if pause > 0:
            raise WebSeedError("the server asked for a pause", retry_after=pause)

    def _on_error(self, error: WebSeedError) -> None:
        self._last_error = str(error)
        if error.permanent:
            self._dead = str(error)
        if error.retry_after is not None:
            until = trio.current_time() + error.retry_after
            self._not_before = max(self._not_before, until)
        log.debug("web seed %s: %s", self.url, error)

    def _lose_file(self, file: int, reason: str) -> WebSeedError:
        """This file will never come from here; the error when all have gone is a permanent one."""
        self._missing[file] = reason
        self._places.pop(file, None)
        files = self._metainfo.files
        wanted = sum(1 for f in files if f.length and not f.pad) if len(files) < 64 else len(files)
        return WebSeedError(
            f"{self._name(file)}: {reason}",
            permanent=len(self._missing) >= wanted,
            missing=self._metainfo.geometry.pieces_of_file(file),
        )

    def _lose_ranges(self, file: int) -> WebSeedError:
        """The server gives this file only from its start."""
        self._rangeless.add(file)
        geometry = self._metainfo.geometry
        first = (geometry.file_starts[file] + MAX_SKIP) // geometry.piece_length + 1
        return WebSeedError(
            f"{self._name(file)}: the server ignores Range",
            missing=range(first, max(first, geometry.pieces_of_file(file).stop)),
        )

    def _name(self, file: int) -> str:
        return "/".join((self._metainfo.name, *self._metainfo.files[file].path))

    # -- BEP 19 -----------------------------------------------------------------------------------

    async def _fetch_files(self, start: int, length: int) -> Chunks:
        for file, offset, size in self._metainfo.geometry.files_in(start, length):
            if self._metainfo.files[file].pad:
                for at in range(0, size, len(_ZEROS)):
                    await trio.lowlevel.checkpoint()
                    yield _ZEROS[: size - at]
                continue
            async with aclosing(self._fetch_run(file, offset, size)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def _fetch_run(self, file: int, offset: int, size: int) -> Chunks:
        """`size` bytes at `offset` of one file, asking again where an answer ended early."""
        done, answers, barren = 0, 0, 0
        while done < size:
            before = done
            try:
                async with aclosing(self._ask_file(file, offset + done, size - done)) as chunks:
                    async for chunk in chunks:
                        done += len(chunk)
                        yield chunk
                reason = "the answer is shorter than asked"
            except _Interrupted as error:
                reason = str(error)
            answers += 1
            barren = barren + 1 if done == before else 0
            if done < size and (barren > 1 or answers > MAX_RESUMES):
                raise WebSeedError(f"{reason} after {done} of {size} bytes")

    async def _ask_file(self, file: int, offset: int, size: int) -> Chunks:
        """One request, and one more when the place it had redirected to is no good any more."""
        if file in self._missing:
            raise self._lose_file(file, self._missing[file])
        if file in self._rangeless and offset > MAX_SKIP:
            raise self._lose_ranges(file)
        headers = {"Range": f"bytes={offset}-{offset + size - 1}"}
        kept = self._places.get(file)
        given = False
        for url in filter(None, (kept, self.file_url(file))):
            self._requests += 1
            try:
                async with self._client.stream(url, headers=headers, rule=of_web_seed) as reply:
                    if url == kept and reply.status not in (200, 206):
                        self._places.pop(file, None)  # such links expire: start from ours again
                        continue
                    self._remember(file, url, reply.url)
                    skip = self._check_answer(reply, file, offset)
                    async with aclosing(_cut(reply, skip, size)) as chunks:
                        async for chunk in chunks:
                            given = True
                            yield chunk
                    return
            except HttpError as error:
                if url == kept:
                    self._places.pop(file, None)
                    if not given:
                        continue
                if error.broken:
                    raise _Interrupted(str(error)) from error
                raise

    def _remember(self, file: int, asked: str, final: str) -> None:
        if final != asked and len(self._places) < MAX_REDIRECTS_KEPT:
            self._places[file] = final

    def _check_answer(self, reply: HttpStream, file: int, offset: int) -> int:
        """How many bytes of the body come before `offset`; the error if it is of no use."""
        length = self._metainfo.files[file].length
        if reply.status not in (200, 206):
            raise self._refusal(reply, file)
        _check_encoding(reply)
        if reply.status == 206:
            first, _, total = _content_range(reply)
            if total is not None and total != length:
                raise self._lose_file(file, f"has {total} bytes there, not {length}")
            if first is not None and first != offset:
                raise WebSeedError(f"asked for byte {offset} and got {first} (Content-Range)")
            return 0
        total = _content_length(reply)
        if total is not None and total != length:
            raise self._lose_file(file, f"has {total} bytes there, not {length}")
        if offset > MAX_SKIP:
            raise self._lose_ranges(file)
        return offset

    def _refusal(self, reply: HttpStream, file: int) -> WebSeedError:
        status = reply.status
        if status in (404, 410):
            return self._lose_file(file, _words(status))
        if status == 416:
            _, _, total = _content_range(reply)
            known = "" if total is None else f", it has {total} bytes there"
            return self._lose_file(file, _words(status) + known)
        return _busy_or_refused(reply)

    def file_url(self, file: int) -> str:
        """The URL of one file (BEP 19): raw names, each escaped, below the seed's URL."""
        metainfo = self._metainfo
        if metainfo.is_single_file:
            return self.url + _escape(metainfo.raw_name) if self.url.endswith("/") else self.url
        base = self.url if self.url.endswith("/") else self.url + "/"
        names = (metainfo.raw_name, *metainfo.files[file].raw_path)
        return base + "/".join(map(_escape, names))

    # -- BEP 17 -----------------------------------------------------------------------------------

    async def _fetch_pieces(self, start: int, length: int) -> Chunks:
        geometry = self._metainfo.geometry
        for file, offset, size in geometry.files_in(start, length):
            if self._metainfo.files[file].pad:
                for at in range(0, size, len(_ZEROS)):
                    await trio.lowlevel.checkpoint()
                    yield _ZEROS[: size - at]
                continue
            for piece, begin, wanted in geometry.file_spans(file, offset, size):
                async with aclosing(self._ask_piece(piece, begin, wanted)) as chunks:
                    async for chunk in chunks:
                        yield chunk

    async def _ask_piece(self, piece: int, begin: int, size: int) -> Chunks:
        url = self.piece_url(piece, begin, size)
        self._requests += 1
        got = 0
        async with self._client.stream(url, rule=of_web_seed) as reply:
            if reply.status == 503:
                raise await _hoffman_pause(reply)
            if reply.status in (404, 410):
                raise WebSeedError(_words(reply.status), permanent=True)
            if reply.status not in (200, 206):
                raise _busy_or_refused(reply)
            _check_encoding(reply)
            total = _content_length(reply)
            if total is not None and total != size:
                raise WebSeedError(f"asked for {size} bytes of piece {piece} and got {total}")
            async with aclosing(_cut(reply, 0, size)) as chunks:
                async for chunk in chunks:
                    got += len(chunk)
                    yield chunk
        if got < size:
            raise WebSeedError(f"the answer is shorter than asked: {got} of {size} bytes")

    def piece_url(self, piece: int, begin: int, size: int) -> str:
        """The URL of one range of a piece (BEP 17)."""
        mark = "&" if "?" in self.url else "?"
        info_hash = quote(self._metainfo.hashes.wire[0], safe="")
        last = begin + size - 1
        return f"{self.url}{mark}info_hash={info_hash}&piece={piece}&ranges={begin}-{last}"


def _escape(name: bytes) -> str:
    """A raw path component for a URL; "." and ".." too, which a client would resolve away."""
    return quote(name, safe="") if name.strip(b".") else name.decode().replace(".", "%2E")


async def _cut(reply: HttpStream, skip: int, size: int) -> Chunks:
    """`size` bytes of the body behind the first `skip`; fewer if it ends before.

    A body that ends there is read to its end, for a connection is kept only if all was taken
    from it: a new one costs a round trip, and two more with TLS.
    """
    ends_there = _content_length(reply) == skip + size
    async with aclosing(reply.chunks()) as chunks:
        async for chunk in chunks:
            if skip >= len(chunk):
                skip -= len(chunk)
                continue
            if skip or len(chunk) > size + skip:
                part = memoryview(chunk)[skip : skip + size]
                skip = 0
                size -= len(part)
                yield part
            else:
                size -= len(chunk)
                yield chunk
            if not size and not ends_there:
                return


def _content_length(reply: HttpStream) -> int | None:
    text = reply.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _content_range(reply: HttpStream) -> tuple[int | None, int | None, int | None]:
    """First byte, last byte and total of a Content-Range; None where it does not tell."""
    text = reply.headers.get("content-range", "").strip()
    match = _CONTENT_RANGE.fullmatch(text)
    if match:
        total = None if match[3] == "*" else int(match[3])
        return int(match[1]), int(match[2]), total
    unsatisfied = re.fullmatch(r"bytes\s+\*/(\d{1,19})", text)  # comes with 416
    return None, None, int(unsatisfied[1]) if unsatisfied else None


def _check_encoding(reply: HttpStream) -> None:
    if reply.headers.get("content-encoding", "identity").lower() not in ("identity", ""):
        raise WebSeedError("the server compresses its answers", retry_after=REFUSED_RETRY)


def _busy_or_refused(reply: HttpStream) -> WebSeedError:
    """The error for a status that says nothing about one file."""
    wait = seconds_until(reply.headers.get("retry-after"), cap=MAX_RETRY_AFTER)
    if wait is None and 300 <= reply.status < 500 and reply.status not in (408, 425, 429):
        wait = REFUSED_RETRY
    return WebSeedError(_words(reply.status), retry_after=wait)


async def _hoffman_pause(reply: HttpStream) -> WebSeedError:
    """BEP 17: the body of a 503 is the number of seconds to wait."""
    body = b""
    async with aclosing(reply.chunks()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > 64:
                break
    text = body[:64].decode("ascii", "replace").strip()
    wait = seconds_until(text if text.isdigit() else None, cap=MAX_RETRY_AFTER)
    if wait is None:
        wait = seconds_until(reply.headers.get("retry-after"), cap=MAX_RETRY_AFTER)
    return WebSeedError(_words(reply.status), retry_after=wait)


def _words(status: int) -> str:
    try:
        return f"HTTP {status} {HTTPStatus(status).phrase.lower()}"
    except ValueError:
        return f"HTTP {status}"
