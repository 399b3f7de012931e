"""The kit's tab at a page of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.swarm.browser import browser

pytestmark = pytest.mark.real

PAGE = """<!doctype html><html lang="en"><title>x</title><main><h1>x</h1>
<img src="data:,"><input aria-label="name" id="name"><p id="said"></p>
<script>
const said = text => { document.getElementById('said').textContent = text }
document.addEventListener('paste', event => said('pasted ' + event.clipboardData.getData('text')))
document.addEventListener('dragover', event => event.preventDefault())
document.addEventListener('drop', async event => {
  event.preventDefault()
  said(event.dataTransfer.files[0].name + ' ' + await event.dataTransfer.files[0].text())
})
console.error('from the page')
</script></main></html>"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "index.html").write_text(PAGE)
    handler = partial(Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def test_it_is_used_as_a_person_does(tmp_path: Path, url: str) -> None:
    with browser(tmp_path) as chromium, chromium.visit(url, width=400, dark=True) as tab:
        assert tab.status == 200
        tab.paste("some text")
        tab.wait("text=pasted some text")
        tab.drop("a.txt", b"content")
        tab.wait("text=a.txt content")
        tab.fill("#name", "one")
        tab.press("Backspace")
        assert tab.locate("#name", "inputValue") == "on"
        dark = "() => [innerWidth, matchMedia('(prefers-color-scheme: dark)').matches]"
        assert tab.evaluate(dark) == [400, True]
        tab.look(width=500)
        assert tab.evaluate(dark) == [500, False]
        assert tab.screenshot(tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
        assert "image-alt" in {fault["id"] for fault in tab.audit()}
        assert any("from the page" in line for line in tab.said())
