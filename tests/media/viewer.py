"""Somebody who watches a film while a media server is busy."""

from __future__ import annotations

import threading
import time
from pathlib import Path

FILM_RATE = 1_000_000
"""Bytes a second of a film of 8 Mbit/s."""
START_BUFFER = 1.0
"""Seconds that the player has in hand before it starts, and at most while it plays."""


class Viewer:
    """Plays a file at its rate, as a player with a small buffer does, and notes its stalls."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._play)
        self.stalls: list[tuple[int, float]] = []
        self.played = 0

    def _play(self) -> None:
        chunk = 64 * 1024
        with open(self._path, "rb", buffering=0) as file:
            ready = int(START_BUFFER * FILM_RATE)
            while self.played < ready:
                self.played += len(file.read(chunk))
            started = time.monotonic() - self.played / FILM_RATE + START_BUFFER
            while not self._over.is_set():
                # the player reads on as soon as its buffer has room
                room_at = started + self.played / FILM_RATE - START_BUFFER
                time.sleep(max(0.0, room_at - time.monotonic()))
                data = file.read(chunk)
                late = time.monotonic() - (started + self.played / FILM_RATE)
                if late > 0:
                    self.stalls.append((self.played, late))
                    started += late
                if not data:
                    return
                self.played += len(data)

    def __enter__(self) -> Viewer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join(30)
