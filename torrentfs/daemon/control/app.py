"""The application: routes, errors and guard put together, and its OpenAPI document."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from torrentfs import __version__
from torrentfs.daemon.control import (
    cache,
    demand,
    errors,
    events,
    files,
    metrics,
    settings,
    static,
    torrents,
)
from torrentfs.daemon.control.contract import Subject
from torrentfs.daemon.control.guard import Guard
from torrentfs.daemon.control.models import AddTorrent

API = "/api/v1"
DESCRIPTION = """A running mount of torrentfs, over its Unix socket or `--http`.

Errors are `{"error": "words"}`. Over TCP every request needs the token, as a bearer's."""


def make_app(subject: Subject) -> Any:
    """The ASGI application for one mount."""
    app = FastAPI(
        title="torrentfs",
        version=__version__,
        description=DESCRIPTION,
        openapi_url=f"{API}/openapi.json",
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,  # whatever a variable says
        },
    )
    for module in (settings, torrents, cache, demand, events):
        app.include_router(module.make_router(subject), prefix=API)
    app.include_router(files.make_router(subject))
    app.include_router(metrics.make_router(subject))
    app.include_router(static.make_router(static.load_assets()))
    errors.install(app)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    app.add_middleware(Guard)
    return app


def _document(app: FastAPI) -> dict[str, Any]:
    if not app.openapi_schema:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        schemas = document["components"]["schemas"]
        # read by its route itself, which takes a .torrent as well
        schemas["AddTorrent"] = AddTorrent.model_json_schema()
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        document["components"]["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer", "description": "Over TCP only"}
        }
        document["security"] = [{}, {"token": []}]
        app.openapi_schema = document
    return app.openapi_schema
