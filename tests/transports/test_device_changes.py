"""When devices change: the kernel tells, or one looks now and then."""

from __future__ import annotations

import os

import pytest
import trio
from trio.testing import MockClock

from tests.swarm.network import inside, two_ways
from torrentfs.transports import device_changes
from torrentfs.transports.device_changes import LOOK, DeviceChanges


async def quiet(changes: DeviceChanges) -> bool:
    """Whether nothing is told for a second."""
    with trio.move_on_after(1) as scope:
        await changes.wait()
    return scope.cancelled_caught


@pytest.mark.real
@pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")
async def test_a_change_is_told_and_quiet_is_not() -> None:
    with two_ways() as net, inside(net.host.namespace), DeviceChanges() as changes:
        assert "told" in repr(changes)
        with trio.fail_after(20):
            while not await quiet(changes):  # the links come up
                pass
            net.vpn_renumbered(2, 77)
            await changes.wait()
            while not await quiet(changes):
                pass


async def test_where_nobody_may_listen_it_is_time_to_look_now_and_then(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    def refuse() -> None:
        raise PermissionError(1, "x")

    monkeypatch.setattr(device_changes, "_open", refuse)
    with DeviceChanges() as changes:
        began = trio.current_time()
        await changes.wait()
        assert trio.current_time() - began == pytest.approx(LOOK)
        assert "looked for" in repr(changes)
