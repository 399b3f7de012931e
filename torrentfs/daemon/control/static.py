"""The page at `/`: the files of `page/` beside this module, and nothing else.

The names are fixed when the application is made, so no request can lead outside.
"""

import hashlib
from importlib import resources
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from torrentfs.daemon.control.files import type_of
from torrentfs.daemon.control.ranges import is_known

INDEX = "index.html"
MAX_ASSETS = 200
_TYPES = {
    ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".mjs": "text/javascript",
    ".svg": "image/svg+xml", ".webmanifest": "application/manifest+json", ".json":
    "application/json",
}  # fmt: skip


class Asset:
    """A file of the page, as it is sent."""

    def __init__(self, name: str, data: bytes) -> None:
        ending = name[name.rfind(".") :]
        kind = _TYPES.get(ending) or type_of(name)
        self.type = kind + ("; charset=utf-8" if kind.startswith("text/") else "")
        self.data = data
        self.etag = f'"{hashlib.blake2b(data, digest_size=12).hexdigest()}"'


def load_assets(root: Traversable | None = None) -> dict[str, Asset]:
    """The files of the page by their path below it; none where there is no page."""
    root = resources.files(__package__).joinpath("page") if root is None else root
    found: dict[str, Asset] = {}
    waiting = [("", root)] if root.is_dir() else []
    while waiting:
        prefix, place = waiting.pop()
        for entry in sorted(place.iterdir(), key=lambda entry: entry.name):
            name = prefix + entry.name
            if entry.name.startswith((".", "_")):
                continue
            if entry.is_dir():
                waiting.append((name + "/", entry))
            elif len(found) < MAX_ASSETS:
                found[name] = Asset(name, entry.read_bytes())
    return found


def make_router(assets: dict[str, Asset]) -> APIRouter:
    """The routes of these files."""
    router = APIRouter(include_in_schema=False)

    def answer(request: Request, name: str) -> Response:
        asset = assets.get(name)
        if asset is None:
            page = "the page is not installed: see /api/v1/openapi.json"
            raise HTTPException(404, page if name == INDEX else f"there is no {name[:100]!r}")
        headers = {"etag": asset.etag, "cache-control": "no-cache", "content-type": asset.type}
        if is_known(request.headers.get("if-none-match"), asset.etag):
            return Response(status_code=304, headers=headers)
        return Response(asset.data, headers=headers)

    @router.api_route("/", methods=["GET", "HEAD"])
    async def show_page(request: Request) -> Response:
        return answer(request, INDEX)

    @router.api_route("/page/{name:path}", methods=["GET", "HEAD"])
    async def show_asset(request: Request, name: str) -> Response:
        return answer(request, name)

    return router
