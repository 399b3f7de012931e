"""The files of the page."""

from __future__ import annotations

import re
from pathlib import Path

from fastapi import FastAPI

from tests.daemon.control.fakes import client_of, fake_mount
from torrentfs.daemon.control.guard import Guard
from torrentfs.daemon.control.static import load_assets, make_router


def page(tmp_path: Path) -> FastAPI:
    (tmp_path / "page" / "icons").mkdir(parents=True)
    (tmp_path / "secret.js").write_text("no")
    (tmp_path / "page" / "index.html").write_text("<!doctype html><title>ä</title>")
    (tmp_path / "page" / "app.js").write_text("1")
    (tmp_path / "page" / "icons" / "x.svg").write_text("<svg/>")
    (tmp_path / "page" / ".hidden").write_text("no")
    app = FastAPI()
    app.include_router(make_router(load_assets(tmp_path / "page")))
    app.add_middleware(Guard)
    return app


async def test_the_page_and_its_files(tmp_path: Path) -> None:
    async with client_of(page(tmp_path)) as client:
        reply = await client.get("/")
        assert reply.text == "<!doctype html><title>ä</title>"
        assert reply.headers["content-type"] == "text/html; charset=utf-8"
        assert "script-src 'self'" in reply.headers["content-security-policy"]
        again = await client.get("/", headers={"if-none-match": reply.headers["etag"]})
        assert again.status_code == 304
        reply = await client.get("/page/app.js")
        assert reply.headers["content-type"] == "text/javascript; charset=utf-8"
        assert (await client.get("/page/icons/x.svg")).status_code == 200
        for path in ("/page/../secret.js", "/page/%2e%2e/secret.js", "/page/.hidden", "/page/"):
            assert (await client.get(path)).status_code == 404


def test_no_page_no_files(tmp_path: Path) -> None:
    assert load_assets(tmp_path / "nothing") == {}


async def test_the_real_page_asks_for_nothing_that_is_not_there() -> None:
    """Each file that a file of the page names is served, and none is of another site."""
    async with client_of(fake_mount().app) as client:
        waiting, seen = ["/"], set[str]()
        while waiting:
            path = waiting.pop()
            reply = await client.get(path)
            assert reply.status_code == 200, path
            seen.add(path)
            named = re.findall(r"""(?:href|src)="(/page/[^"]+)"|from '\./([^']+)'""", reply.text)
            found = {one or f"/page/{other}" for one, other in named}
            waiting += sorted(found - seen - set(waiting))
            assert not re.search(r"""(src|href)=["']?(https?:)?//""", reply.text)
    assert seen >= {"/", "/page/main.js", "/page/style.css", "/page/player.js", "/page/icon.svg"}
    assert seen == {"/"} | {f"/page/{name}" for name in load_assets() if name != "index.html"}


def test_the_real_page_keeps_its_policy() -> None:
    """No script or style in the document, and no text of a stranger as anything but text."""
    for name, asset in load_assets().items():
        text = asset.data.decode()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
        if name.endswith(".html"):
            assert not re.search(r"<script(?![^>]* src=)|<style| style=| on\w+=", text)
