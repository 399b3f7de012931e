"""Every error of the API is `{"error": words}`; which status says whose fault it is.

Used by the routes as `responses`, so that the OpenAPI document lists what may come.
"""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from torrentfs.daemon.control.contract import Item, Library
from torrentfs.daemon.control.describe import clean
from torrentfs.daemon.control.models import ErrorBody
from torrentfs.errors import (
    ConfigError,
    DataUnavailable,
    InvalidTorrent,
    MetadataTimeout,
    StorageError,
    TorrentFSError,
    TransportError,
)

log = logging.getLogger(__name__)

WORDS = {
    400: "What was sent makes no sense",
    401: "No token, or a wrong one (TCP only)",
    403: "Asked by another site (TCP only)",
    404: "There is no such torrent, path or page",
    405: "Not with this method",
    406: "Not in this form",
    408: "The body of the request did not come",
    409: "Not as things are now",
    413: "The body of the request is too large",
    415: "A body of this type is not taken",
    416: "The range begins behind the end of the file",
    421: "Asked for another host (TCP only)",
    422: "A field is missing or wrong",
    500: "A bug in torrentfs; its log says more",
    502: "Somebody else's server failed",
    503: "Not now: too busy, or what is asked for cannot be had",
    504: "It did not come in time",
}
EVERYWHERE = (400, 401, 403, 405, 408, 413, 421, 422, 500)


def responses(*more: int) -> dict[int | str, dict[str, Any]]:
    """What a route may answer beside its result."""
    codes = sorted({*EVERYWHERE, *more})
    return {code: {"model": ErrorBody, "description": WORDS[code]} for code in codes}


def find(library: Library, text: str) -> Item:
    """The torrent that `text` names, or 404."""
    try:
        return library.find(text)
    except ConfigError as error:
        raise HTTPException(404, str(error)) from None


def locate(library: Library, path: str) -> tuple[Item, int | None]:
    """The torrent, and the number of the file in it, at a path of the mount, or 404."""
    parts = tuple(part for part in path.split("/") if part)
    try:
        return library.locate(parts)
    except ConfigError as error:
        raise HTTPException(404, str(error)) from None


def answer(status: int, words: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error as it is sent."""
    line = " ".join(clean(words).split())
    return JSONResponse({"error": line}, status, headers)


def status_of(error: TorrentFSError) -> int:
    """Whose fault a declared error is."""
    match error:
        case MetadataTimeout():
            return 504
        case ConfigError() | InvalidTorrent():
            return 400
        case TransportError():
            return 502
        case DataUnavailable() | StorageError():
            return 503
        case _:
            return 500


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    words = error.detail if isinstance(error.detail, str) else str(error.detail)
    return answer(error.status_code, words, dict(error.headers or {}))


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    return answer(422, f"{place}: {first['msg']}" if place else str(first["msg"]))


async def _on_declared(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TorrentFSError)
    status = status_of(error)
    if status == 500:
        log.error("%s %s: %s", request.method, request.url.path, error)
    return answer(status, str(error))


async def _on_bug(request: Request, error: Exception) -> JSONResponse:
    return answer(500, f"a bug in torrentfs ({type(error).__name__}): its log says more")


def install(app: FastAPI) -> None:
    """Have `app` answer so."""
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(TorrentFSError, _on_declared)
    app.add_exception_handler(Exception, _on_bug)
