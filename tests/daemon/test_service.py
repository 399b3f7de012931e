"""The life of a mount, told by parts that only take notes."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import trio

from tests.daemon.fakes import Exited, Fakes, Notes, config
from torrentfs.daemon.outcome import Interrupted
from torrentfs.daemon.service import GRACE, run_mount
from torrentfs.engine.config import SessionConfig
from torrentfs.errors import ConfigError, InvalidTorrent, MetadataTimeout, MountError
from torrentfs.vfs.mountpoint import LET_GO, LET_GO_SECONDS


async def test_an_unmount_from_outside_ends_it(autojump_clock: object) -> None:
    unmount = trio.Event()
    fakes, notes = Fakes(unmount=unmount), Notes(unmount.set)
    await run_mount(config(), notes, fakes.parts())
    assert fakes.events == ["open session", "mount film", "unmount", "close session"]
    assert notes.progress == [
        "looking for the metadata of film",
        "film: asking 3 peers",
        "mounting",
    ]
    assert str(notes.mounted) == "mounted film on /m"
    assert notes.mounted is not None
    assert notes.mounted.port == 6881


async def test_what_the_user_and_the_magnet_know_is_joined(autojump_clock: object) -> None:
    unmount = trio.Event()
    fakes = Fakes(unmount=unmount)
    told = config(peers=(("10.0.0.2", 2),), trackers=("http://u/",), web_seeds=("http://w/",))
    await run_mount(told, Notes(unmount.set), fakes.parts())
    expected = {
        "trackers": ("udp://t:1", "http://u/"),
        "web_seeds": ("http://w/",),
        "peers": (("10.0.0.2", 2), ("10.0.0.1", 1)),
        "select": (range(1, 2),),
        "eager": True,
    }
    assert fakes.session.added == [expected]
    (magnet,) = fakes.session.resolved
    assert (magnet.trackers, magnet.peers) == (expected["trackers"], expected["peers"])


async def test_sources_are_resolved_together_and_added_in_order(autojump_clock: object) -> None:
    unmount = trio.Event()
    fakes = Fakes(unmount=unmount, delay=40)
    links = [f"magnet:?xt=urn:btih:{digit * 40}&dn={digit}" for digit in "bcb"]
    started = trio.current_time()
    await run_mount(config(*links), Notes(unmount.set), fakes.parts())
    assert trio.current_time() - started == 40
    assert "mount b,c" in fakes.events  # the one given twice is shown once


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_fails_reads_then_unmounts_then_stops(
    autojump_clock: object, signum: signal.Signals
) -> None:
    fakes, notes = Fakes(closing=2), Notes(lambda: signal.raise_signal(signum))
    await run_mount(config(), notes, fakes.parts())
    assert fakes.events[2:] == ["fail_reads", "unmount", "close session"]


@pytest.mark.expect_log("leaving without waiting")
async def test_a_second_signal_leaves_at_once(autojump_clock: object) -> None:
    fakes = Fakes(closing=3)

    def stop() -> None:
        signal.raise_signal(signal.SIGTERM)

    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def again() -> None:
            await trio.sleep(2)  # mounted after 1 s; closing until 4 s
            signal.raise_signal(signal.SIGTERM)

        with pytest.raises(Exited):
            await run_mount(config(), Notes(stop), fakes.parts())
    assert "detach /m" in fakes.events
    assert "exit 143" in fakes.events


async def test_sighup_is_for_terminals(autojump_clock: object) -> None:
    def hang_up() -> None:
        signal.raise_signal(signal.SIGHUP)

    fakes = Fakes()
    with trio.move_on_after(100) as scope:
        await run_mount(config(), Notes(hang_up), fakes.parts())
    assert scope.cancelled_caught
    fakes = Fakes()
    await run_mount(config(foreground=True), Notes(hang_up), fakes.parts())
    assert fakes.events[2:] == ["fail_reads", "unmount", "close session"]


async def test_who_wants_to_unmount_is_helped_and_the_mount_goes_on(autojump_clock: object) -> None:
    unmount = trio.Event()
    fakes = Fakes(unmount=unmount)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def ask() -> None:
            await trio.sleep(20)
            signal.raise_signal(LET_GO)
            await trio.sleep(20)
            assert fakes.events[2:] == [f"hurry_reads {LET_GO_SECONDS:g}"]
            unmount.set()

        await run_mount(config(), Notes(), fakes.parts())
    assert fakes.events[3:] == ["unmount", "close session"]


async def test_interrupted_before_it_is_mounted(autojump_clock: object) -> None:
    fakes = Fakes(delay=50)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def interrupt() -> None:
            await trio.sleep(20)
            signal.raise_signal(signal.SIGINT)

        with pytest.raises(Interrupted, match="SIGINT; nothing is mounted"):
            await run_mount(config(), Notes(), fakes.parts())
    assert fakes.events == ["open session", "close session"]


async def test_every_failure_is_one_declared_error(autojump_clock: object, tmp_path: Path) -> None:
    bad = tmp_path / "bad.torrent"
    bad.write_bytes(b"bad")
    missing = tmp_path / "missing.torrent"
    missing.symlink_to("nowhere")
    with pytest.raises(MetadataTimeout, match="nobody has"):
        await run_mount(config(metadata_timeout=9.0), Notes(), Fakes(delay=10).parts())
    with pytest.raises(MountError, match="busy"):
        await run_mount(config(), Notes(), Fakes(mount_error=MountError("busy")).parts())
    with pytest.raises(InvalidTorrent, match=r"bad\.torrent"):
        await run_mount(config(str(bad)), Notes(), Fakes().parts())
    with pytest.raises(ConfigError, match="cannot read"):
        await run_mount(config(str(missing)), Notes(), Fakes().parts())


async def test_a_bad_mount_point_is_told_before_anybody_waits(autojump_clock: object) -> None:
    fakes = Fakes(place_error=MountError("not empty"))
    with pytest.raises(MountError, match="not empty"):
        await run_mount(config(), Notes(), fakes.parts())
    assert fakes.events == []


@pytest.mark.expect_log("shutdown took longer")
async def test_a_shutdown_that_hangs_is_cut_short(autojump_clock: object) -> None:
    fakes = Fakes(closing=1000)
    started = trio.current_time()

    def stop() -> None:
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Exited):
        await run_mount(config(), Notes(stop), fakes.parts())
    assert "exit 143" in fakes.events
    assert trio.current_time() - started >= 1 + GRACE


async def test_a_cache_in_the_mount_point(autojump_clock: object) -> None:
    fakes = Fakes()
    session = SessionConfig(cache_dir=Path("/m/cache"))
    with pytest.raises(ConfigError, match="the cache must not be in the mount point: /m/cache"):
        await run_mount(config(session=session), Notes(), fakes.parts())
    with pytest.raises(ConfigError, match="the library must not be in the mount point: /m/s"):
        await run_mount(config(state_dir=Path("/m/s")), Notes(), fakes.parts())
    assert fakes.events == []  # it would have made the mount point not empty


async def test_what_is_wrong_with_the_cache_is_told(autojump_clock: object) -> None:
    unmount = trio.Event()
    fakes, notes = Fakes(unmount=unmount), Notes(unmount.set)
    fakes.session.trouble = "nothing is kept"
    await run_mount(config(), notes, fakes.parts())
    assert notes.mounted is not None
    assert notes.mounted.warning == "nothing is kept"


async def test_commands_are_answered_while_there_is_a_mount(autojump_clock: object) -> None:
    unmount = trio.Event()
    fakes, notes = Fakes(unmount=unmount), Notes()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_mount, config(), notes, fakes.parts())
        await trio.sleep(5)
        assert fakes.control == ["listen for /m", "answer"]
        unmount.set()
    assert fakes.control[2:] == ["answer no more", "listen no more"]


async def test_an_address_that_is_taken_is_told_before_anything_is_done(
    autojump_clock: object,
) -> None:
    fakes = Fakes(control_error=ConfigError("cannot listen: it is in use"))
    with pytest.raises(ConfigError, match="in use"):
        await run_mount(config(), Notes(), fakes.parts())
    assert fakes.events == []
