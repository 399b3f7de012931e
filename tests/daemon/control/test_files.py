"""The mount over HTTP: ranges, types, directories, failing reads, clients that go."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from tests.daemon.control.fakes import client_of, fake_mount, with_state
from tests.storage.torrents import make
from tests.vfs.fakes import content_of, volume
from torrentfs.daemon.control.files import (
    AT_ONCE,
    CHUNK,
    FIRST,
    disposition_of,
    entries_of,
    type_of,
)

ONE = "/files/sample/a/one.bin"


async def test_a_file_is_served_whole_or_in_part() -> None:
    mount = fake_mount()
    content = mount.volume.content(1)
    async with client_of(mount.app) as client:
        reply = await client.get(ONE)
        assert (reply.status_code, reply.content) == (200, content)
        assert reply.headers["content-length"] == str(len(content))
        assert reply.headers["accept-ranges"] == "bytes"
        for header, part in [
            ("bytes=0-0", content[:1]),
            ("bytes=65000-66000", content[65000:66001]),
            ("bytes=-10", content[-10:]),
            ("bytes=70000-", content[70000:]),
        ]:
            reply = await client.get(ONE, headers={"range": header})
            assert (reply.status_code, reply.content) == (206, part)
            assert reply.headers["content-range"].endswith(f"/{len(content)}")
            assert reply.headers["content-length"] == str(len(part))
    assert mount.volume.opens == 0


async def test_several_ranges_are_answered_with_the_whole_file() -> None:
    mount = fake_mount()
    async with client_of(mount.app) as client:
        reply = await client.get(ONE, headers={"range": "bytes=0-1,5-6"})
    assert (reply.status_code, len(reply.content)) == (200, 70_001)


async def test_a_range_behind_the_end() -> None:
    async with client_of(fake_mount().app) as client:
        reply = await client.get(ONE, headers={"range": "bytes=70001-"})
    assert reply.status_code == 416
    assert reply.headers["content-range"] == "bytes */70001"
    assert reply.json()["error"]


async def test_an_empty_file() -> None:
    async with client_of(fake_mount().app) as client:
        reply = await client.get("/files/sample/a/empty")
        assert (reply.status_code, reply.content) == (200, b"")
        reply = await client.get("/files/sample/a/empty", headers={"range": "bytes=0-"})
        assert reply.status_code == 416


async def test_a_head_reads_nothing() -> None:
    mount = fake_mount()
    async with client_of(mount.app) as client:
        reply = await client.head(ONE)
        assert (reply.status_code, reply.content) == (200, b"")
        assert reply.headers["content-length"] == "70001"
        reply = await client.head(
            ONE, headers={"range": "bytes=1-2"}
        )  # of GET only (RFC 9110 14.2)
        assert (reply.status_code, reply.headers["content-length"]) == (200, "70001")
    assert mount.volume.reads == []


async def test_the_tag_is_that_of_the_torrent_and_the_file() -> None:
    mount = fake_mount()
    async with client_of(mount.app) as client:
        tag = (await client.get(ONE)).headers["etag"]
        assert tag == f'"{mount.item.key}-1"'
        reply = await client.get(ONE, headers={"if-none-match": tag})
        assert (reply.status_code, reply.content) == (304, b"")
        reply = await client.get(ONE, headers={"range": "bytes=0-4", "if-range": tag})
        assert reply.status_code == 206
        reply = await client.get(ONE, headers={"range": "bytes=0-4", "if-range": '"other"'})
        assert reply.status_code == 200


@pytest.mark.parametrize(
    ("name", "kind", "way"),
    [
        ("film.mkv", "video/x-matroska", "inline"),
        ("film.MP4", "video/mp4", "inline"),
        ("a.mp3", "audio/mpeg", "inline"),
        ("a.flac", "audio/flac", "inline"),
        ("a.jpg", "image/jpeg", "inline"),
        ("a.srt", "text/plain", "inline"),
        ("a.html", "text/html", "attachment"),
        ("a.svg", "image/svg+xml", "attachment"),
        ("a.js", "text/javascript", "attachment"),
        ("a.pdf", "application/pdf", "attachment"),
        ("README", "application/octet-stream", "attachment"),
        (".bashrc", "application/octet-stream", "attachment"),
        ("a.tar.gz", "application/x-tar", "attachment"),
    ],
)
def test_what_a_browser_shows_and_what_it_saves(name: str, kind: str, way: str) -> None:
    if name == "a.tar.gz":
        kind = type_of(name)
    assert type_of(name) == kind
    assert disposition_of(name, kind).startswith(f"{way}; ")


def test_names_are_quoted() -> None:
    given = disposition_of('ä "b"\r\n\\.mkv', "video/x-matroska")
    assert given == (
        "inline; filename=\"_ _b____.mkv\"; filename*=UTF-8''%C3%A4%20%22b%22%0D%0A%5C.mkv"
    )


async def test_what_is_in_a_torrent_runs_nothing() -> None:
    mount = fake_mount()
    mount.library.put(make((("evil.html", 100), ("x", 1)), name="bad"))
    async with client_of(mount.app) as client:
        reply = await client.get("/files/bad/evil.html")
    assert reply.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in reply.headers["content-security-policy"]
    assert reply.headers["x-content-type-options"] == "nosniff"


async def test_directories() -> None:
    mount = fake_mount()
    mount.library.put(make((("<b>&\"'.bin", 5), ("ü/x", 1)), name="odd #1?%"))
    json = {"accept": "application/json"}
    async with client_of(mount.app) as client:
        reply = await client.get("/files/", headers=json)
        assert [entry["name"] for entry in reply.json()["entries"]] == ["sample", "odd #1?%"]
        url = reply.json()["entries"][1]["url"]
        reply = await client.get(url, headers=json)
        assert reply.json()["path"] == "odd #1?%"
        entries = {entry["name"]: entry for entry in reply.json()["entries"]}
        assert entries["ü"]["type"] == "directory"
        assert (await client.get(entries["<b>&\"'.bin"]["url"])).status_code == 200
        page = (await client.get(url)).text
        assert "<b>&" not in page.partition("<ul>")[2]
        assert "&lt;b&gt;&amp;" in page
        assert 'href="./%C3%BC/"' in page
        reply = await client.get(url.rstrip("/"))
        assert (reply.status_code, reply.headers["location"]) == (307, url)


@pytest.mark.parametrize(
    "path",
    ["nothing", "sample/nothing", "sample/two.bin/x", "%2e%2e/etc/passwd", "sample/%2e%2e/sample",
     "sample%2ftwo.bin", "%00", "%ff", "sample/a/../two.bin%2f"],
)  # fmt: skip
async def test_there_is_nothing_else(path: str) -> None:
    async with client_of(fake_mount().app) as client:
        reply = await client.get(f"/files/{path}")
    assert reply.status_code == 404
    assert reply.json()["error"]


async def test_a_file_that_cannot_be_read_is_told_in_words() -> None:
    mount = fake_mount()
    mount.volume.fails_from = 0
    async with client_of(mount.app) as client:
        reply = await client.get(ONE)
    assert (reply.status_code, reply.json()) == (503, {"error": "no peers connected"})
    assert mount.volume.opens == 0
    assert mount.subject.admission.running == 0  # type: ignore[attr-defined]


class Client:
    """Asks by ASGI, takes parts when it is let, and may go away."""

    def __init__(self, path: str) -> None:
        self.scope = {
            "type": "http", "method": "GET", "path": path, "query_string": b"",
            "raw_path": path.encode(), "headers": [], "http_version": "1.1",
            "scheme": "http", "root_path": "", "asgi": {"version": "3.0"},
        }  # fmt: skip
        self.gone = trio.Event()
        self.asked = False
        self.sent: list[Any] = []
        self.takes: trio.Event | None = None

    async def receive(self) -> Any:
        if not self.asked:
            self.asked = True
            await trio.lowlevel.checkpoint()
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append(message)
        if self.takes is not None:
            await self.takes.wait()

    async def run(self, app: Any) -> None:
        await with_state(app)(self.scope, self.receive, self.send)


async def test_a_read_that_fails_midway_never_ends_the_answer_well() -> None:
    mount = fake_mount()
    mount.library.put(make(2 * CHUNK, name="big.bin"))
    volume = next(i for i in mount.library.items.values() if i.name == "big.bin").volume
    assert volume is not None
    volume.fails_from = FIRST + 1
    client = Client("/files/big.bin")
    await client.run(mount.app)
    assert [message["type"] for message in client.sent] == [
        "http.response.start",
        "http.response.body",
    ]
    assert client.sent[-1]["more_body"] is True
    assert volume.opens == 0


async def test_who_goes_away_withdraws_what_was_asked_for() -> None:
    mount = fake_mount()
    mount.volume.held = trio.Event()
    client = Client(ONE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run, mount.app)
        while not mount.volume.waiting:
            await trio.lowlevel.checkpoint()
        client.gone.set()
    assert mount.volume.waiting == 0
    assert mount.volume.opens == 0
    assert mount.subject.admission.running == 0  # type: ignore[attr-defined]


async def test_no_more_is_read_than_is_taken(autojump_clock: trio.testing.MockClock) -> None:
    mount = fake_mount()
    mount.library.put(make(8 * CHUNK, name="big.bin"))
    volume = next(i for i in mount.library.items.values() if i.name == "big.bin").volume
    assert volume is not None
    client = Client("/files/big.bin")
    client.takes = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run, mount.app)
        await trio.sleep(60)
        assert volume.reads == [(0, 0, FIRST)]
        client.takes.set()
    assert sum(size for _, _, size in volume.reads) == 8 * CHUNK


async def test_a_stream_waits_in_the_line_of_its_torrent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    mount = fake_mount()
    gate = mount.subject.admission.gate(mount.item.key)
    gate.limit = 0  # type: ignore[attr-defined]
    gate.reserved = 0  # type: ignore[attr-defined]
    async with client_of(mount.app) as client:
        reply = await client.get(ONE)
    assert reply.status_code == 503
    assert "in line" in reply.json()["error"]


async def test_the_mount_goes_on_while_links_are_followed() -> None:
    """A torrent may have a hundred thousand of them, each of which leads through forty others."""
    mount = fake_mount()
    links = [(f"d/{n}|l=end", 0) for n in range(300)]
    mount.subject.tree.add(volume("links", [("end", 7), *links]))
    names = ("links", "d")
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        found = await entries_of(mount.subject, mount.subject.tree.follow(names), names)
        nursery.cancel_scope.cancel()
    assert [entry.size for entry in found] == [7] * 300
    assert turns > 250


async def test_links_are_what_they_lead_to() -> None:
    mount = fake_mount()
    files = [("a/film.mkv", 500), ("l.mkv|l=a/film.mkv", 0), ("d|l=a", 0), ("bad|l=none", 0)]
    mount.subject.tree.add(volume("links", files))
    async with client_of(mount.app) as client:
        for path in ("l.mkv", "a/film.mkv", "d/film.mkv"):
            reply = await client.get(f"/files/links/{path}")
            assert (reply.status_code, reply.content) == (200, content_of("links/0", 0, 500))
        assert (await client.get("/files/links/bad")).status_code == 404
        assert (await client.get("/files/links/d")).headers["location"] == "/files/links/d/"
        reply = await client.get("/files/links/", headers={"accept": "application/json"})
        about = [(e["name"], e["type"], e["size"]) for e in reply.json()["entries"]]
    assert sorted(about) == [("a", "directory", 0), ("d", "directory", 0), ("l.mkv", "file", 500)]


async def test_a_directory_of_many_files_is_listed() -> None:
    mount = fake_mount()
    mount.subject.tree.add(volume("many", [(f"{n:04}", 1) for n in range(AT_ONCE + 1)]))
    async with client_of(mount.app) as client:
        for accept in ("application/json", "text/html"):
            reply = await client.get("/files/many/", headers={"accept": accept})
            assert reply.text.count("/files/many/1000" if "json" in accept else "./1000") == 1
