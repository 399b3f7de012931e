"""A thread that runs the engine for threads that do not run trio, one for the whole process.

`Portal.of_process()` starts it at the first use. `call` has a function run there and waits for the
answer; who is interrupted (Ctrl-C) takes his wish back. `open` opens a torrent: all that are opened
with the same `SessionConfig` share one session, which lives until the last of them is closed.

* **Exit.** The thread is a daemon and is stopped by `atexit`, which waits `GRACE` seconds at most:
  a program never hangs for it. What was not written by then is fetched again another time.
* **Fork.** Threads do not survive a fork. The child has a portal of its own when it first uses one;
  what it has from its parent is left alone (not even closed: it is the parent's, too), except for
  the locks of the cache, and says so when it is used (`Lease.check`).
* **Errors** are those of the function; an exception group becomes the one that tells most.
"""

from __future__ import annotations

import atexit
import functools
import logging
import os
import threading
from collections import Counter
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import trio

from torrentfs.daemon.opening import find_to_read
from torrentfs.daemon.outcome import cause_of
from torrentfs.storage.locks import FileLock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from torrentfs.daemon.config import OpenConfig
    from torrentfs.daemon.opening import Opened
    from torrentfs.daemon.sources import DataSource, Source
    from torrentfs.engine.config import SessionConfig
    from torrentfs.engine.session import Session

T = TypeVar("T")

log = logging.getLogger(__name__)

GRACE = 4.0
"""Seconds that the end of the program waits for sessions to stop; `stopped` to trackers has 2."""

ENDED = "torrentfs has stopped in this process"


class Portal:
    """The thread, and what it was asked for."""

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _current: ClassVar[Portal | None] = None
    _inherited: ClassVar[list[Portal]] = []
    """Of processes before a fork: kept, so that nothing of them is ever finalized here."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery
        self._hosts: dict[SessionConfig, _Host] = {}
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="torrentfs", daemon=True)
        self._thread.start()
        self._started.wait()

    @classmethod
    def of_process(cls) -> Portal:
        """The one of this process, started if need be."""
        with cls._lock:
            if cls._current is None:
                _watch_forks()
                cls._current = cls()
                atexit.register(cls._current.stop)
            return cls._current

    @classmethod
    def after_fork(cls) -> None:
        """We are a child: nothing that was here runs any more."""
        cls._lock = threading.Lock()  # somebody may have held it
        if cls._current is not None:
            atexit.unregister(cls._current.stop)
            cls._inherited.append(cls._current)
            cls._current = None
            FileLock.let_go_after_fork()

    def _run(self) -> None:
        try:
            trio.run(self._main)
        finally:
            self._started.set()

    async def _main(self) -> None:
        async with trio.open_nursery() as self._nursery:
            self._token = trio.lowlevel.current_trio_token()
            self._started.set()
            await trio.sleep_forever()

    def stop(self) -> None:
        """End all of it, and wait for that within bounds."""
        if self.pid != os.getpid():
            return
        if self.post(lambda: self._nursery.cancel_scope.cancel()):
            self._thread.join(GRACE)

    # -- asking ---------------------------------------------------------------------------------

    def post(self, function: Callable[[], object]) -> bool:
        """Have `function` called there soon; False if nothing is called there any more."""
        if self._token is None:
            return False
        try:
            self._token.run_sync_soon(function)
        except trio.RunFinishedError:
            return False
        return True

    def submit(self, function: Callable[..., Awaitable[T]], *args: Any) -> Future[T]:
        """Have `function(*args)` run there; cancelling the future cancels it."""
        future: Future[T] = Future()
        self._start(future, function, args)
        return future

    def _start(
        self, future: Future[T], function: Callable[..., Awaitable[T]], args: tuple[Any, ...]
    ) -> None:
        def start() -> None:
            self._nursery.start_soon(self._answer, future, function, args)

        if not self.post(start):
            future.set_exception(RuntimeError(ENDED))

    def call(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run it there, and wait for the answer."""
        if threading.current_thread() is self._thread:
            raise RuntimeError("torrentfs's own thread must not wait for itself")
        future: Future[T] = Future()
        try:  # an interrupt may come at any place in here
            self._start(future, function, args)
            return future.result()
        except CancelledError:
            raise RuntimeError(ENDED) from None
        except BaseException:
            future.cancel()
            raise

    async def _answer(
        self, future: Future[T], function: Callable[..., Awaitable[T]], args: tuple[Any, ...]
    ) -> None:
        with trio.CancelScope() as scope:
            future.add_done_callback(
                lambda done: self.post(scope.cancel) if done.cancelled() else None
            )
            try:
                result = await function(*args)
            except Exception as error:
                _settle(future.set_exception, cause_of(error))
            except BaseException:  # cancelled: by who asked, or since this is the end
                future.cancel()
                raise
            else:
                _settle(future.set_result, result)

    # -- sessions -------------------------------------------------------------------------------

    def open(self, source: Source | DataSource, config: OpenConfig) -> Lease:
        """Open a torrent in the session of its settings; the errors are those of `find`."""
        return self.call(self.open_there, source, config)

    async def open_there(self, source: Source | DataSource, config: OpenConfig) -> Lease:
        """As `open`, for who is in the thread."""
        host = await self._enter(config.session)
        try:
            assert host.session is not None
            found = await find_to_read(host.session, source, config)
            async with host.turn:
                opened = await found.open(host.session)
                host.users[opened.key] += 1
        except BaseException:
            self._leave(host)
            raise
        return Lease(self, host, opened)

    async def close_there(self, host: _Host, key: str) -> None:
        """One user of a torrent less; returns when what that ends has ended."""
        async with host.turn:
            host.users[key] -= 1
            if not host.users[key]:
                del host.users[key]
                if host.entered > 1 and host.session is not None:  # else it goes with its session
                    await host.session.forget(key)
        self._leave(host)
        if host.leaving.is_set():
            await host.gone.wait()

    async def _enter(self, config: SessionConfig) -> _Host:
        while True:
            host = self._hosts.get(config)
            if host is None:
                host = self._hosts[config] = _Host(config)
                self._nursery.start_soon(self._serve, host)
            elif host.leaving.is_set():
                # the same port, the same trees of the cache: one after the other
                await host.gone.wait()
                continue
            host.entered += 1
            try:
                await host.ready.wait()
            except BaseException:
                self._leave(host)
                raise
            if host.error is not None:
                self._leave(host)
                raise host.error
            return host

    def _leave(self, host: _Host) -> None:
        host.entered -= 1
        if not host.entered:
            host.leaving.set()

    async def _serve(self, host: _Host) -> None:
        # imported where it is used: who only asks for names and settings needs no engine
        from torrentfs.engine.session import open_session

        try:
            async with open_session(host.config) as host.session:
                host.ready.set()
                await host.leaving.wait()
        except Exception as error:
            host.error = cause_of(error)
            if host.ready.is_set():
                log.error("a session has ended: %s", host.error)
        finally:
            host.leaving.set()
            host.ready.set()
            host.gone.set()
            if self._hosts.get(host.config) is host:
                del self._hosts[host.config]

    def __repr__(self) -> str:
        return f"<Portal of process {self.pid}, {len(self._hosts)} sessions>"


class _Host:
    """One session, while anybody uses it."""

    def __init__(self, config: SessionConfig) -> None:
        self.config = config
        self.session: Session | None = None
        self.error: BaseException | None = None
        self.entered = 0
        self.users: Counter[str] = Counter()
        """How often each torrent is open."""
        self.turn = trio.Lock()
        """Held while a torrent comes or goes."""
        self.ready, self.leaving, self.gone = trio.Event(), trio.Event(), trio.Event()


class Lease:
    """An open torrent, and the right to have it so; given back once, by whom and when it be."""

    def __init__(self, portal: Portal, host: _Host, opened: Opened) -> None:
        self._portal = portal
        self._host = host
        self.opened = opened
        self._given_back = False

    def check(self) -> Opened:
        """The torrent; `ValueError` when it is closed, `RuntimeError` in another process."""
        if self._portal.pid != os.getpid():
            raise RuntimeError("this torrent was opened before a fork: open it again here")
        if self._given_back:
            raise ValueError("the torrent is closed")
        return self.opened

    def call(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run a function of the torrent, and wait for the answer."""
        return self._portal.call(function, *args)

    def submit(self, function: Callable[..., Awaitable[T]], *args: Any) -> Future[T]:
        """Run a function of the torrent."""
        return self._portal.submit(function, *args)

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Tell the torrent something, from wherever it be."""
        if self._portal.pid == os.getpid():
            self._portal.post(functools.partial(function, *args))

    def give_back(self) -> Future[None]:
        """Nobody uses it any more. May be called from anywhere, and more than once."""
        if self._given_back or self._portal.pid != os.getpid():
            done: Future[None] = Future()
            done.set_result(None)
            return done
        self._given_back = True
        return self._portal.submit(self._portal.close_there, self._host, self.opened.key)

    def close(self) -> None:
        """Give it back, and wait until its session has gone if nobody else uses that."""
        with suppress(RuntimeError, CancelledError, FutureTimeout):  # the end of the program
            self.give_back().result(GRACE)


def _settle(setter: Callable[[Any], None], value: object) -> None:
    """Answer, unless who asked has gone meanwhile."""
    with suppress(Exception):  # InvalidStateError
        setter(value)


@functools.cache
def _watch_forks() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=Portal.after_fork)
