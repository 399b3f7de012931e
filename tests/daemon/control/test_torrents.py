"""Torrents over the API: list, add, look at, change, remove."""

from __future__ import annotations

import pytest

from tests.daemon.control.fakes import MAGNET, client_of, fake_mount
from tests.metainfo.torrents import build
from tests.storage.torrents import make
from torrentfs.discovery.tracker import TrackerStatistics
from torrentfs.discovery.websocket_statistics import SignallingStatistics

TORRENTS = "/api/v1/torrents"


async def test_the_torrents_are_listed_in_the_order_of_adding() -> None:
    mount = fake_mount()
    mount.library.put(make(5, name="film.mkv"), added=1_600_000_000.0)
    async with client_of(mount.app) as client:
        reply = await client.get(TORRENTS)
    assert [torrent["name"] for torrent in reply.json()["torrents"]] == ["film.mkv", "sample"]
    sample = reply.json()["torrents"][1]
    assert sample["path"] == "sample"
    assert sample["url"] == "/files/sample"
    assert sample["size"] == 70_001 + 16_384 + 123_457
    assert sample["files"] == 4


async def test_a_link_is_added_at_once_and_its_metadata_is_looked_for() -> None:
    mount = fake_mount()
    body = {"source": MAGNET, "folder": "films/new", "paused": True}
    async with client_of(mount.app) as client:
        reply = await client.post(TORRENTS, json=body)
    assert reply.status_code == 201
    assert reply.json()["state"] == "metadata"
    assert reply.json()["path"] is None
    assert mount.library.calls[0][2:] == (("films", "new"), True)


async def test_a_torrent_file_is_added_as_it_is() -> None:
    mount = fake_mount()
    data = build("v1")
    async with client_of(mount.app) as client:
        reply = await client.post(
            TORRENTS,
            content=data,
            params={"folder": "a"},
            headers={"content-type": "application/x-bittorrent"},
        )
    assert reply.status_code == 201
    assert reply.json()["name"] == "törrent"
    assert mount.library.calls == [("add_torrent", len(data), ("a",))]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"source": "/etc/passwd.torrent"}, 400, "no such file"),
        ({"source": "tests/daemon/control/fakes.py"}, 400, "a path is not taken here"),
        ({"source": "magnet:?xt=nothing"}, 400, "magnet"),
        ({"source": "http://nobody.example/x.torrent"}, 400, "no such server"),
        ({"source": MAGNET, "folder": "../up"}, 400, "plain names"),
        ({"source": MAGNET, "folder": "a/\x07"}, 400, "plain names"),
        ({"source": ""}, 422, "source:"),
        ({"source": 5}, 422, "source:"),
        ({}, 422, "source:"),
        ({"source": MAGNET, "colour": "red"}, 422, "colour:"),
        ([], 422, ""),
    ],
    ids=str,
)
async def test_wrong_input_is_told_in_one_line(body: object, status: int, words: str) -> None:
    mount = fake_mount()
    async with client_of(mount.app) as client:
        reply = await client.post(TORRENTS, json=body)
    assert reply.status_code == status
    assert words in reply.json()["error"]
    assert "\n" not in reply.json()["error"]


async def test_what_is_no_torrent_is_refused() -> None:
    mount = fake_mount()
    async with client_of(mount.app) as client:
        for content, kind, status in [
            (b"not bencoded", "application/x-bittorrent", 400),
            (b"", "application/x-bittorrent", 400),
            (b"{", "application/json", 422),
            (b"x", "text/plain", 415),
        ]:
            reply = await client.post(TORRENTS, content=content, headers={"content-type": kind})
            assert (reply.status_code, bool(reply.json()["error"])) == (status, True)


async def test_pause_go_on_remove() -> None:
    mount = fake_mount()
    key = mount.item.key
    async with client_of(mount.app) as client:
        reply = await client.patch(f"{TORRENTS}/{key[:8]}", json={"paused": True})
        assert reply.json()["state"] == "paused"
        reply = await client.patch(f"{TORRENTS}/sample", json={"paused": False})
        assert reply.json()["state"] == "asleep"
        assert (await client.patch(f"{TORRENTS}/{key}", json={"paused": "no"})).status_code == 422
        reply = await client.delete(f"{TORRENTS}/{key}", params={"evict": "true"})
        assert reply.status_code == 204
        assert (await client.get(f"{TORRENTS}/{key}")).status_code == 404
    assert mount.library.calls == [("remove", key, True)]


async def test_one_is_found_by_its_name() -> None:
    mount = fake_mount()
    async with client_of(mount.app) as client:
        reply = await client.get(TORRENTS, params={"name": "sample"})
        assert [torrent["key"] for torrent in reply.json()["torrents"]] == [mount.item.key]
        reply = await client.get(TORRENTS, params={"name": "nothing"})
        assert (reply.status_code, reply.json()) == (
            404,
            {"error": "no torrent is called 'nothing'"},
        )


async def test_files_come_in_parts() -> None:
    mount = fake_mount()
    async with client_of(mount.app) as client:
        reply = await client.get(f"{TORRENTS}/sample/files", params={"offset": 1, "limit": 2})
    found = reply.json()
    assert found["total"] == 4
    assert [file["path"] for file in found["files"]] == ["sample/a/one.bin", "sample/two.bin"]
    assert found["files"][0] == {
        "index": 1,
        "path": "sample/a/one.bin",
        "url": "/files/sample/a/one.bin",
        "size": 70_001,
        "have": None,
        "pinned": False,
    }


async def test_a_torrent_that_sleeps_has_no_peers_and_no_trackers() -> None:
    mount = fake_mount()
    async with client_of(mount.app) as client:
        assert (await client.get(f"{TORRENTS}/sample/peers")).json() == {"peers": []}
        told = (await client.get(f"{TORRENTS}/sample/trackers")).json()
        assert told == {"trackers": [], "signalling": None}
        assert (await client.get("/api/v1/reads")).json() == {"reads": []}


class Tracked:
    """A torrent that is opened, and one tracker of it."""

    def __init__(self) -> None:
        self.inactive: str | None = "it is not active yet"
        self.scraped = 0
        self.swarm = self
        self.trackers = self

    async def scrape(self) -> None:
        self.scraped += 1

    def signalling(self) -> SignallingStatistics:
        return SignallingStatistics(5, 1, 0, 0, 0)

    def statistics(self) -> list[TrackerStatistics]:
        return [
            TrackerStatistics(
                "http://t/announce", 0, 1, 0, None, None, 5, 4, 1, 60.0, self.scraped * 7, 0.5
            )
        ]


async def test_trackers_are_asked_for_their_counts_only_of_who_is_active() -> None:
    mount = fake_mount()
    mount.volume.torrent = tracked = Tracked()
    async with client_of(mount.app) as client:

        async def finished(query: str) -> int:
            reply = await client.get(f"{TORRENTS}/sample/trackers{query}")
            assert reply.status_code == 200
            [tracker] = reply.json()["trackers"]
            assert reply.json()["signalling"]["answers_received"] == 1
            return int(tracker["downloaded"])

        assert await finished("?scrape=true") == 0
        tracked.inactive = None
        assert await finished("") == 0
        assert await finished("?scrape=true") == 7


async def test_the_pieces_of_a_link_are_not_known_yet() -> None:
    mount = fake_mount()
    async with client_of(mount.app) as client:
        await client.post(TORRENTS, json={"source": MAGNET})
        reply = await client.get(f"{TORRENTS}/wanted/pieces")
    assert reply.status_code == 409
