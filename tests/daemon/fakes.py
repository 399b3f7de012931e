"""Parts of a mount without engine or FUSE: they write down what happens, in order."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

import trio

from torrentfs.daemon.config import MountConfig
from torrentfs.daemon.report import Mounted, MountStatus
from torrentfs.daemon.service import Parts
from torrentfs.daemon.sources import parse_source
from torrentfs.errors import MetadataTimeout
from torrentfs.metainfo.advice import Advice

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

MAGNET = "magnet:?xt=urn:btih:" + "a" * 40 + "&dn=film&tr=udp://t:1&x.pe=10.0.0.1:1&so=1"
STATUS = MountStatus(1, 100, 0, 0, 0, 0, 0)


class Exited(BaseException):
    """Instead of the end of the test process."""


class FakeTorrent:
    def __init__(self, metainfo: Any, events: list[str], settings: dict[str, Any]) -> None:
        self.metainfo = metainfo
        self.added = settings.get("added", 0.0)
        self.select = tuple(settings.get("select", ()))
        self.state = "asleep"
        self._events = events

    def fail_reads(self, reason: str) -> None:
        self._events.append("fail_reads")

    def hurry_reads(self, reason: str, seconds: float) -> None:
        self._events.append(f"hurry_reads {seconds:g}")


class FakeCache:
    async def metadata(self, hashes: Any) -> None:
        """It knows nothing."""

    async def dates(self, torrents: Sequence[Any]) -> list[None]:
        return [None] * len(torrents)


class FakeSession:
    """Answers magnets after `delay` seconds."""

    port = 6881
    trouble = ""
    client: Any = None
    dht: Any = None
    cache: Any = FakeCache()

    def __init__(self, events: list[str], delay: float) -> None:
        self._events = events
        self._delay = delay
        self.added: list[dict[str, Any]] = []
        self.resolved: list[Any] = []

    async def resolve(
        self, magnet: Any, *, timeout: float, on_progress: Callable[[str], None] | None = None
    ) -> Any:
        self.resolved.append(magnet)
        assert on_progress is not None
        on_progress("asking 3 peers")
        with trio.move_on_after(timeout):
            await trio.sleep(self._delay)
            return SimpleNamespace(
                name=magnet.name or "nameless",
                hashes=magnet.hashes,
                files=(),
                to_torrent=lambda: b"",
                has_v1=True,
                private=False,
                advice=Advice(),
            )
        raise MetadataTimeout(f"nobody has {magnet.hashes}")

    async def add(self, metainfo: Any, **settings: Any) -> FakeTorrent:
        self.added.append(settings)
        return FakeTorrent(metainfo, self._events, settings)

    async def shelve(self, metainfo: Any, **settings: Any) -> FakeTorrent:
        return await self.add(metainfo, **settings)

    async def shelve_many(self, shelvings: Sequence[Any]) -> list[FakeTorrent]:
        names = ("trackers", "web_seeds", "peers", "select", "eager")
        return [
            await self.add(each.metainfo, **{name: getattr(each, name) for name in names})
            for each in shelvings
        ]

    async def forget(self, key: str) -> None:
        self._events.append("forget")


class FakeControl:
    """Answers nobody."""

    def __init__(self, events: list[str]) -> None:
        self._events = events

    async def serve_mount(self, library: Any, session: Any, mount: Any) -> None:
        self._events.append("answer")
        try:
            await trio.sleep_forever()
        finally:
            self._events.append("answer no more")


class Fakes:
    """All parts, and what happened to them."""

    def __init__(
        self,
        *,
        delay: float = 1.0,
        closing: float = 0.0,
        unmount: trio.Event | None = None,
        mount_error: Exception | None = None,
        place_error: Exception | None = None,
        control_error: Exception | None = None,
    ) -> None:
        self.events: list[str] = []
        self.control: list[str] = []
        self._control_error = control_error
        self.session = FakeSession(self.events, delay)
        self._closing = closing
        self._unmount = unmount if unmount is not None else trio.Event()
        self._mount_error = mount_error
        self._place_error = place_error

    def parts(self) -> Parts:
        return Parts(
            open_session=self._open_session,
            check_mountpoint=self._check_mountpoint,
            open_control=self._open_control,
            serve_mount=self._serve_mount,
            detach=lambda path: self.events.append(f"detach {path}"),
            status=lambda _session: STATUS,
            exit=self._exit,
        )

    @asynccontextmanager
    async def _open_session(self, config: MountConfig) -> AsyncIterator[FakeSession]:
        self.events.append("open session")
        try:
            yield self.session
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(self._closing)
            self.events.append("close session")

    @contextmanager
    def _open_control(self, config: MountConfig, place: str) -> Iterator[FakeControl]:
        if self._control_error:
            raise self._control_error
        self.control.append(f"listen for {place}")
        try:
            yield FakeControl(self.control)
        finally:
            self.control.append("listen no more")

    async def _check_mountpoint(self, config: MountConfig) -> str:
        await trio.lowlevel.checkpoint()
        if self._place_error:
            raise self._place_error
        return str(config.mountpoint)

    async def _serve_mount(
        self,
        config: MountConfig,
        shown: Sequence[Any],
        folder_times: Any,
        *,
        task_status: trio.TaskStatus[Any],
    ) -> None:
        if self._mount_error:
            raise self._mount_error
        names = {one.volume.metainfo.hashes.key: one.volume.metainfo.name for one in shown}
        self.events.append("mount " + ",".join(names.values()))
        tree = SimpleNamespace(
            path_of_key=lambda key: (names[key],),
            name_of_key=lambda key: names[key],
            is_empty=lambda key: False,
            folder_times=folder_times,
        )
        try:
            task_status.started(SimpleNamespace(tree=tree))
            await self._unmount.wait()
        finally:
            self.events.append("unmount")

    def _exit(self, code: int) -> NoReturn:
        self.events.append(f"exit {code}")
        raise Exited


class Notes:
    """A `Report` that writes down what it is told."""

    def __init__(self, on_ready: Callable[[], None] = lambda: None) -> None:
        self.progress: list[str] = []
        self.mounted: Mounted | None = None
        self.seen: list[MountStatus] = []
        self._then = on_ready

    def on_progress(self, text: str) -> None:
        self.progress.append(text)

    def on_ready(self, mounted: Mounted) -> None:
        self.mounted = mounted
        self._then()

    async def follow(self, status: Callable[[], MountStatus]) -> None:
        self.seen.append(status())
        await trio.sleep_forever()


def config(*sources: str, **settings: Any) -> MountConfig:
    """A configuration to mount `sources` (or one magnet) on /m."""
    parsed = tuple(parse_source(text) for text in sources or (MAGNET,))
    return MountConfig(sources=parsed, mountpoint=Path("/m"), **settings)


__all__ = ["MAGNET", "Exited", "Fakes", "Notes", "config"]
