"""Who may read now: slots that keep one stuck torrent from taking everything.

A read that waits for the network costs a task, a demand in its torrent's scheduler and a slot
of the kernel. `Admission` bounds them: at most `per_torrent` reads of one torrent and about
`total` of all run at a time; further reads wait in their own torrent's line, first come first
served, and hold nothing of another's.

`total` alone would let enough dead torrents starve the healthy ones, so each torrent has
`reserved` slots that it gets even when `total` is used up. When slots are short, those that come
free go round the torrents that wait.

Entering a free slot is one method call without a checkpoint, for that is every read of a mount
in good health. A slot is handed over directly to the task that is woken for it, so nobody can
slip in between.
"""

from __future__ import annotations

from collections import deque

import trio


class Gate:
    """One torrent's slots and the line before them; made by `Admission.gate`."""

    __slots__ = ("_admission", "_admitted", "_line", "closed", "limit", "reserved", "running")

    def __init__(self, admission: Admission, limit: int, reserved: int) -> None:
        self._admission = admission
        self._line = trio.lowlevel.ParkingLot()
        self._admitted: set[trio.lowlevel.Task] = set()  # woken with a slot, not yet running
        self.limit = limit
        self.reserved = reserved
        self.running = 0
        self.closed = False
        """The torrent was removed: nobody gets in any more."""

    @property
    def waiting(self) -> int:
        """Reads in line."""
        return len(self._line)

    def has_room(self) -> bool:
        """Whether one more read of this torrent may run."""
        return self.running < self.reserved or (
            self.running < self.limit and self._admission.running < self._admission.total
        )

    def enter_nowait(self) -> bool:
        """Take a slot if one is free and nobody is in line for it."""
        if self._line or self.closed or self._admission.closed or not self.has_room():
            return False
        self.running += 1
        self._admission.running += 1
        return True

    async def enter(self) -> bool:
        """Wait in line for a slot. False: gate or admission was closed, and no slot is held."""
        if self.closed or self._admission.closed:
            return False
        if self.enter_nowait():
            return True
        self._admission.queue(self)
        await self._line.park()
        task = trio.lowlevel.current_task()
        if task in self._admitted:
            self._admitted.discard(task)
            return True
        return False

    def leave(self) -> None:
        """Give back a slot."""
        self.running -= 1
        self._admission.on_left()

    def admit_one(self) -> None:
        """Give a slot to the first in line; there is one, and there is room."""
        self.running += 1
        self._admission.running += 1
        self._admitted.update(self._line.unpark())

    def dismiss(self) -> None:
        """Wake all in line without a slot."""
        self._line.unpark_all()


class Admission:
    """The slots of a mount."""

    def __init__(self, *, per_torrent: int = 512, total: int = 4096, reserved: int = 16) -> None:
        self.per_torrent = per_torrent
        self.total = total
        self.reserved = min(reserved, per_torrent)
        self.running = 0
        self.closed = False
        self._gates: dict[str, Gate] = {}
        self._turns: deque[Gate] = deque()  # gates with somebody in line, next turn first
        self._idle = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<Admission {self.running} running, {self.waiting} waiting>"

    @property
    def waiting(self) -> int:
        """Reads in line, of all torrents."""
        return sum(gate.waiting for gate in self._gates.values())

    def gate(self, key: str) -> Gate:
        """The gate of the torrent named `key`, the same one each time."""
        gate = self._gates.get(key)
        if gate is None:
            gate = self._gates[key] = Gate(self, self.per_torrent, self.reserved)
        return gate

    def drop(self, key: str) -> None:
        """Close the gate of a torrent that was removed; if it comes again it gets another."""
        gate = self._gates.pop(key, None)
        if gate is not None:
            gate.closed = True
            gate.dismiss()

    def queue(self, gate: Gate) -> None:
        """Somebody is about to stand in `gate`'s line."""
        if gate not in self._turns:
            self._turns.append(gate)

    def hand_out(self) -> None:
        """Give free slots to those in line, one torrent after the other."""
        turns = self._turns
        skipped = 0
        while turns and skipped < len(turns):
            gate = turns.popleft()
            if not gate.waiting:
                continue
            turns.append(gate)
            if gate.has_room():
                gate.admit_one()
                skipped = 0
            else:
                skipped += 1

    def on_left(self) -> None:
        """A read gave back its slot."""
        self.running -= 1
        self.hand_out()
        if not self.running:
            self._idle.unpark_all()

    async def wait_idle(self) -> None:
        """Wait until no read runs."""
        while self.running:
            await self._idle.park()

    def close(self) -> None:
        """Let nobody in any more and send away those in line."""
        self.closed = True
        for gate in self._gates.values():
            gate.dismiss()
        self._turns.clear()
