"""What people do at the page: add, watch, play, ask why, remove; by mouse and by keyboard."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.page.opened import examine, opened, served
from tests.swarm.browser import Browser, browser, write_video
from tests.swarm.payload import write_file
from tests.swarm.ports import free_port
from tests.swarm.seeder import seed
from tests.swarm.torrents import make_torrent

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

KIB = 1024
MIB = 1024 * KIB
PROGRESS = "() => document.querySelector('main progress').value"
VIDEO = """() => {
  const video = document.querySelector('video')
  const { currentTime, readyState, seeking, duration, error } = video
  return [currentTime, readyState, seeking, duration, error?.code ?? 0]
}"""
EMPTY = "text=There is no torrent in this mount yet"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """A program that reads a file from its start to its end, or to its first error."""

    def read() -> None:
        try:
            with path.open("rb", buffering=0) as file:
                while file.read(128 * KIB):
                    pass
        except OSError:
            pass

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        thread.join(60)
        assert not thread.is_alive()


def until(fact: Callable[[], object], timeout: float = 15.0) -> None:
    deadline = time.monotonic() + timeout
    while not fact():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


def row(name: str) -> str:
    return f"li.torrent:has-text({name!r})"


def test_add_by_paste_watch_play_remove(tmp_path: Path, chromium: Browser) -> None:
    """A film of 60 s comes at 3 MB/s at most, and is looked at here and there."""
    film = write_video(tmp_path / "payload" / "A film" / "film.mp4", 60, rate="3M")
    write_file(film.parent / "notes.txt", 1, 10 * KIB)
    write_file(film.parent / "data.bin", 2, 8 * MIB)
    made = make_torrent(film.parent, tmp_path / "t.torrent", piece_length=64 * KIB)
    with (
        seed(made.torrent, film.parent, tmp_path, upload_limit=MIB) as seeder,
        served(tmp_path, "--allow-local") as here,
        opened(chromium, here) as tab,
    ):
        tab.wait(EMPTY)
        examine(tab, tmp_path, "empty")
        tab.paste(made.magnet(**{"x.pe": seeder.address}))
        tab.wait("text=/^Added /")
        tab.wait(row("A film"))
        until(lambda: os.listdir(here.mount.path) == ["A film"])
        tab.wait(f"{row('A film')} >> text=/MiB$/")
        examine(tab, tmp_path, "list")

        tab.click("role=link[name='A film']")
        tab.wait("role=heading[name='A film'][level=1]")
        assert tab.evaluate("() => document.activeElement.tagName") == "H1"
        with reading(here.mount / "A film" / "data.bin"):
            first = tab.wait_value(PROGRESS, lambda value: value > 0)
            second = tab.wait_value(PROGRESS, lambda value: value > first)
            tab.wait("text=/read at \\d/")
            assert "read at" in tab.locate("canvas", "getAttribute", "aria-label")
            tab.wait("td:has-text('libtorrent')")
            tab.wait("[role=img][aria-label='Received from: TCP 100 %']")
            tab.screenshot(tmp_path / "reading.png")
            tab.wait_value(PROGRESS, lambda value: value > second)
        tab.wait("text=/^film.mp4$/")
        examine(tab, tmp_path, "detail")

        tab.click("role=button[name='Play film.mp4']")
        tab.wait("dialog video")
        tab.wait_value(VIDEO, lambda video: video[0] > 0.5 and round(video[3]) == 60, 40)
        tab.evaluate("() => { document.querySelector('video').currentTime = 50 }")
        tab.wait_value(VIDEO, lambda video: video[0] > 51 and not video[2] and not video[4], 40)
        examine(tab, tmp_path, "player")
        tab.press("Escape")
        tab.wait_gone("dialog")
        assert tab.evaluate("() => document.activeElement.ariaLabel") == "Play film.mp4"

        tab.click("role=button[name='Pin notes.txt']")
        tab.wait("role=button[name='Unpin notes.txt']")
        assert [pin["path"] for pin in here.ask("/pins")["pins"]] == ["A film/notes.txt"]
        tab.wait("dd >> text=/^1 part, here$/")
        tab.click("role=button[name='Drop from cache']")
        tab.wait("text=/^Freed \\d/")
        assert (here.mount / "A film" / "notes.txt").stat().st_size == 10 * KIB
        tab.click("role=button[name='Unpin notes.txt']")
        tab.wait("role=button[name='Pin notes.txt']")

        tab.click("role=button[name='Pause A film']")
        tab.wait(".state[data-state=paused]")
        tab.click("role=button[name='Resume A film']")
        tab.wait_gone(".state[data-state=paused]")

        tab.click("text=Remove…")
        tab.wait("dialog >> text=Remove this torrent?")
        examine(tab, tmp_path, "remove")
        tab.press("Escape")
        tab.wait_gone("dialog")
        assert os.listdir(here.mount.path) == ["A film"]
        tab.click("text=Remove…")
        tab.click("dialog >> text=Delete what is cached")
        tab.click("dialog >> role=button[name='Remove']")
        tab.wait("role=heading[name='This torrent is not in the mount']")
        until(lambda: os.listdir(here.mount.path) == [])
        tab.click("text=All torrents")
        tab.wait(EMPTY)


def test_why_a_read_waits_is_shown(tmp_path: Path, chromium: Browser) -> None:
    """Of a torrent that was dropped on the page, whose tracker is not there."""
    file = write_file(tmp_path / "payload" / "nobody.bin", 1, MIB)
    announce = f"http://127.0.0.1:{free_port()}/announce"
    made = make_torrent(file, tmp_path / "t.torrent", piece_length=64 * KIB, trackers=[[announce]])
    with (
        served(tmp_path, "--read-timeout", "40") as here,
        opened(chromium, here) as tab,
    ):
        tab.drop("nobody.torrent", made.data)
        tab.wait(row("nobody.bin"))
        tab.click("role=link[name='nobody.bin']")
        tab.wait("text=No read waits.")
        with reading(here.mount / "nobody.bin"):
            tab.wait(".reads li .why")
            assert "no peers" in tab.text(".reads li .why")
            assert {tab.text(".reads li .why")} == {
                read["why"] for read in here.ask("/reads")["reads"]
            }
            assert tab.text(".reads li strong").startswith("nobody.bin at ")
            examine(tab, tmp_path, "why")
            tab.click("text=Remove…")
            tab.click("dialog >> role=button[name='Remove']")
            tab.wait("role=heading[name='This torrent is not in the mount']")


def test_the_player_says_why_it_waits(tmp_path: Path, chromium: Browser) -> None:
    file = write_file(tmp_path / "payload" / "dead.mp4", 1, MIB)
    announce = f"http://127.0.0.1:{free_port()}/announce"
    made = make_torrent(file, tmp_path / "t.torrent", piece_length=64 * KIB, trackers=[[announce]])
    with (
        served(tmp_path, "--read-timeout", "40", sources=[made.torrent]) as here,
        opened(chromium, here) as tab,
    ):
        tab.click("role=link[name='dead.mp4']")
        tab.click("role=button[name='Play dead.mp4']")
        tab.wait("dialog >> text=It waits: ")
        tab.click("dialog >> role=button[name='Close']")


def test_a_page_that_nobody_sees_does_not_follow(tmp_path: Path, chromium: Browser) -> None:
    file = write_file(tmp_path / "payload" / "data.bin", 1, MIB)
    made = make_torrent(file, tmp_path / "t.torrent")
    see = """hidden => {
        const later = window.setTimeout
        window.setTimeout = (work, time) => later(work, time / 100)
        Object.defineProperty(document, 'hidden', { value: hidden, configurable: true })
        document.dispatchEvent(new Event('visibilitychange'))
        window.setTimeout = later
    }"""
    closes = """() => {
        window.closed_ = 0
        const close = EventSource.prototype.close
        EventSource.prototype.close = function () { window.closed_++; close.call(this) }
    }"""
    with served(tmp_path) as here, opened(chromium, here) as tab:
        tab.evaluate(closes)
        tab.evaluate(f"() => ({see})(true)")
        tab.wait_value("() => window.closed_", bool)
        (tmp_path / "watch" / "data.torrent").write_bytes(made.data)
        until(lambda: len(here.ask("/torrents")["torrents"]) == 1)
        tab.evaluate(f"() => ({see})(false)")
        tab.wait(row("data.bin"))


HOSTILE = '<img src=x onerror="window.hit=1"><script>window.hit=1<'


def test_hostile_names_stay_text(tmp_path: Path, chromium: Browser) -> None:
    """Markup in names is shown as it is, and nothing turns text around."""
    turned = f"{HOSTILE}\u202egpj.exe"
    folder = tmp_path / "payload" / turned
    write_file(folder / f"{HOSTILE}.mp4", 1, 100 * KIB)
    made = make_torrent(folder, tmp_path / "t.torrent", piece_length=64 * KIB)
    with served(tmp_path, sources=[made.torrent]) as here, opened(chromium, here) as tab:
        shown = turned.replace("\u202e", "_")  # as in the mount
        tab.wait("li.torrent")
        assert tab.text("li.torrent h2") == shown
        tab.click("li.torrent a")
        tab.wait("text=Play")
        assert tab.text("h1") == shown
        assert tab.text("tbody th") == f"{HOSTILE}.mp4"
        tab.click("text=Play")
        tab.wait("dialog")
        assert tab.text("dialog h2") == f"{HOSTILE}.mp4"
        examine(tab, tmp_path, "hostile")
        tab.press("Escape")
        tab.click("text=Remove…")
        assert tab.text("dialog bdi") == shown
        hit = "() => [document.querySelectorAll('main img, dialog img').length, window.hit ?? 0]"
        assert tab.evaluate(hit) == [0, 0]


def test_by_keyboard(tmp_path: Path, chromium: Browser) -> None:
    """What cannot be added is told; limits; nobody is caught in a dialog."""
    file = write_file(tmp_path / "payload" / "data.bin", 1, MIB)
    made = make_torrent(file, tmp_path / "t.torrent")
    focus = "() => document.activeElement.id || document.activeElement.textContent"
    with (
        served(tmp_path, sources=[made.torrent]) as here,
        opened(chromium, here) as tab,
    ):
        seen = []
        tab.wait(row("data.bin"))
        for _ in range(10):
            tab.press("Tab")
            seen.append(tab.evaluate(focus))
        assert seen[0] == "Skip to the torrents"
        assert seen[3:] == ["source", "folder", "Add", "picker", "data.bin", "Pause", "Remove"]
        tab.evaluate("() => document.getElementById('source').focus()")
        tab.fill("#source", "magnet:?xt=urn:btih:nonsense")
        tab.press("Enter")
        tab.wait("role=alert")
        assert "Not added magnet:?xt=urn:btih:nonsense: " in tab.text("role=alert")
        examine(tab, tmp_path, "error")
        tab.click("role=button[name='Dismiss']")
        tab.wait_gone("role=alert")

        tab.locate("role=button[name='Remove data.bin']", "focus")
        tab.press("Enter")
        tab.wait("dialog")
        assert tab.evaluate(focus) == "Cancel"
        tab.press("Enter")
        tab.wait_gone("dialog")
        assert tab.evaluate(focus) == "Remove"

        tab.locate("role=link[name=/limits/]", "focus")
        tab.press("Enter")
        tab.wait("role=heading[name='The mount']")
        tab.fill("role=spinbutton[name=/Download/]", "2.5")
        tab.press("Enter")
        tab.wait("text=Limits are set")
        assert here.ask("/settings")["download_limit"] == 2.5 * MIB
        examine(tab, tmp_path, "mount")


def test_a_lost_connection_is_told_and_comes_again(tmp_path: Path, chromium: Browser) -> None:
    file = write_file(tmp_path / "payload" / "data.bin", 1, MIB)
    made = make_torrent(file, tmp_path / "t.torrent")
    port = free_port()
    lost = "text=The connection to the mount is lost"
    with (
        served(tmp_path, sources=[made.torrent], port=port) as here,
        chromium.visit(here.address) as tab,
    ):
        tab.wait(row("data.bin"))
        here.mount.end()
        tab.wait(lost)
        examine(tab, tmp_path, "lost")
        with served(tmp_path, sources=[made.torrent], port=port):
            tab.wait_gone(lost, 40)
            tab.wait(row("data.bin"))


def test_nothing_is_served_to_strangers(tmp_path: Path) -> None:
    with served(tmp_path) as here:
        right = {"authorization": f"Bearer {here.token}"}
        for path in ("/", "/page/main.js", "/page/style.css", "/api/v1/events", "/files/"):

            def ask(path: str = path, **headers: str) -> int:
                return httpx.get(here.url + path, headers=headers, timeout=20).status_code

            assert ask() == 401
            assert ask(authorization="Bearer wrong") == 401
            assert ask(**right, host="rebound.example") == 421
            assert ask(**right, origin="http://evil.example") == 403
        assert httpx.get(f"{here.url}/?token=wrong", timeout=20).status_code == 401
