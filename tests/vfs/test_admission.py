"""Slots for reads: nobody holds another's."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from torrentfs.vfs.admission import Admission, Gate


class Readers:
    """Tasks that enter a gate and stay until told to leave."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.inside: list[str] = []
        self.sent_away: list[str] = []
        self._leave: dict[str, trio.Event] = {}

    def start(self, gate: Gate, name: str) -> None:
        self._leave[name] = trio.Event()
        self.nursery.start_soon(self._read, gate, name)

    async def _read(self, gate: Gate, name: str) -> None:
        if not await gate.enter():
            self.sent_away.append(name)
            return
        self.inside.append(name)
        try:
            await self._leave[name].wait()
        finally:
            gate.leave()

    def finish(self, name: str) -> None:
        self._leave[name].set()


async def test_one_torrent_waits_in_its_own_line(nursery: trio.Nursery) -> None:
    admission = Admission(per_torrent=2, total=10, reserved=1)
    dead, healthy = admission.gate("dead"), admission.gate("healthy")
    readers = Readers(nursery)
    for number in range(5):
        readers.start(dead, f"dead{number}")
        await wait_all_tasks_blocked()
    assert readers.inside == ["dead0", "dead1"]
    assert (dead.waiting, admission.waiting, admission.running) == (3, 3, 2)
    assert healthy.enter_nowait()
    healthy.leave()
    readers.finish("dead1")
    await wait_all_tasks_blocked()
    assert readers.inside == ["dead0", "dead1", "dead2"]  # first come, first served
    nursery.cancel_scope.cancel()


async def test_dead_torrents_cannot_use_up_what_is_reserved(nursery: trio.Nursery) -> None:
    admission = Admission(per_torrent=10, total=10, reserved=2)
    for number in range(10):
        assert admission.gate(f"dead{number}").enter_nowait()
    healthy = admission.gate("healthy")
    assert healthy.enter_nowait()
    assert healthy.enter_nowait()
    assert not healthy.enter_nowait()


async def test_free_slots_go_round_the_torrents_that_wait(nursery: trio.Nursery) -> None:
    admission = Admission(per_torrent=10, total=4, reserved=0)
    holder = admission.gate("holder")
    for _ in range(4):
        assert holder.enter_nowait()
    readers = Readers(nursery)
    for name in ("a", "b"):
        for number in range(3):
            readers.start(admission.gate(name), f"{name}{number}")
            await wait_all_tasks_blocked()
    for _ in range(4):
        holder.leave()
        await wait_all_tasks_blocked()
    assert readers.inside == ["a0", "b0", "a1", "b1"]
    nursery.cancel_scope.cancel()


async def test_who_gives_up_in_line_takes_no_slot(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    admission = Admission(per_torrent=1, total=9, reserved=1)
    gate = admission.gate("t")
    assert gate.enter_nowait()
    with trio.move_on_after(5):
        await gate.enter()
        pytest.fail("there was no slot")
    readers = Readers(nursery)
    readers.start(gate, "next")
    await wait_all_tasks_blocked()
    gate.leave()
    await wait_all_tasks_blocked()
    assert readers.inside == ["next"]
    readers.finish("next")
    await wait_all_tasks_blocked()
    assert (admission.running, gate.running, admission.waiting) == (0, 0, 0)


async def test_closing_sends_all_in_line_away(nursery: trio.Nursery) -> None:
    admission = Admission(per_torrent=1)
    gate = admission.gate("t")
    assert gate.enter_nowait()
    readers = Readers(nursery)
    for name in ("one", "two"):
        readers.start(gate, name)
    await wait_all_tasks_blocked()
    admission.close()
    await wait_all_tasks_blocked()
    assert sorted(readers.sent_away) == ["one", "two"]
    gate.leave()
    assert not await gate.enter()
    assert not gate.enter_nowait()
    assert admission.running == 0


async def test_a_slot_given_just_before_closing_is_given(nursery: trio.Nursery) -> None:
    admission = Admission(per_torrent=1)
    gate = admission.gate("t")
    assert gate.enter_nowait()
    readers = Readers(nursery)
    readers.start(gate, "one")
    await wait_all_tasks_blocked()
    gate.leave()
    admission.close()
    await wait_all_tasks_blocked()
    assert readers.inside == ["one"]
    readers.finish("one")
    await wait_all_tasks_blocked()
    assert admission.running == 0


async def test_nobody_slips_past_the_line() -> None:
    admission = Admission(per_torrent=1)
    gate = admission.gate("t")
    assert gate.enter_nowait()
    async with trio.open_nursery() as nursery:
        readers = Readers(nursery)
        readers.start(gate, "waiting")
        await wait_all_tasks_blocked()
        gate.leave()
        assert not gate.enter_nowait()  # the slot is the waiting one's, though it has not run yet
        await wait_all_tasks_blocked()
        assert readers.inside == ["waiting"]
        readers.finish("waiting")


def test_repr_and_identity() -> None:
    admission = Admission()
    assert admission.gate("a") is admission.gate("a")
    assert repr(admission) == "<Admission 0 running, 0 waiting>"


async def test_waiting_until_nobody_reads(autojump_clock: object) -> None:
    admission = Admission()
    await admission.wait_idle()
    gates = [admission.gate("a"), admission.gate("b")]
    for gate in gates:
        assert gate.enter_nowait()
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(admission.wait_idle)
        for gate in gates:
            await trio.sleep(1)
            gate.leave()
    assert trio.current_time() - begun == 2
    assert admission.running == 0
