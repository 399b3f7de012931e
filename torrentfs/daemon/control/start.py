"""The control server of a mount, from its sockets to its end.

The sockets are opened before there is a mount, so that a port that is taken is told while there is
somebody to tell; who connects before there is something to ask waits in the kernel's queue. The
Unix socket is a convenience that must not cost the mount: without it there is a warning.

The application is made at the first connection (see `server`).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torrentfs.daemon.control.access import Endpoint
from torrentfs.daemon.control.contract import Subject
from torrentfs.daemon.control.place import (
    UnixSocket,
    listen_tcp,
    runtime_directory,
    socket_name,
    state_directory,
)
from torrentfs.daemon.control.server import ControlServer, Listening
from torrentfs.daemon.control.token import read_or_make_token
from torrentfs.daemon.quantities import format_host_port
from torrentfs.errors import ConfigError

if TYPE_CHECKING:
    import trio

    from torrentfs.daemon.control.config import ControlConfig

log = logging.getLogger(__name__)

TOKEN_FILE = "http-token"


class Control:
    """The listening sockets of one mount; a context manager that closes them."""

    def __init__(self, config: ControlConfig, mountpoint: str, state: Path | None = None) -> None:
        """`mountpoint` without symlinks; `state`: the directory for the token.

        Raises `ConfigError` when `--http` cannot be had.
        """
        self.listening: list[Listening] = []
        self.http = ""
        self._unix: UnixSocket | None = None
        if config.http is not None:
            self._open_tcp(config, state or state_directory())
        try:
            self._unix = UnixSocket(runtime_directory() / socket_name(mountpoint))
        except ConfigError as error:
            log.warning("commands cannot reach this mount: %s", error)
        else:
            self.listening.append(Listening(self._unix.listener, Endpoint()))

    def _open_tcp(self, config: ControlConfig, state: Path) -> None:
        assert config.http is not None
        host, port = config.http
        token_file = state / TOKEN_FILE
        token = read_or_make_token(token_file)
        listener = listen_tcp(host, port)
        port = listener.getsockname()[1]
        self.listening.append(Listening(listener, Endpoint(token, port, host, config.names)))
        self.http = f"http://{format_host_port(host, port)}/ (its token is in {token_file})"
        log.info("listening on %s", self.http)

    async def serve_mount(self, library: Any, session: Any, mount: Any) -> None:
        """Answer for a mount (daemon.library, engine.session, vfs.mount) until cancelled."""
        operations = mount.operations
        subject = Subject(
            mountpoint=Path(mount.path),
            library=library,
            session=session,
            tree=mount.tree,
            admission=operations.admission,
            first_bytes=operations.first_bytes,
            http=self.http,
            line_timeout=operations.options.line_timeout,
        )
        await self.serve(subject)

    async def serve(
        self, subject: Subject, task_status: trio.TaskStatus[None] | None = None
    ) -> None:
        """Answer until cancelled."""

        def make_app() -> Any:
            from torrentfs.daemon.control.app import make_app  # at the first connection

            return make_app(subject)

        server = ControlServer(make_app, self.listening)
        if task_status is None:
            await server.serve()
        else:
            await server.serve(task_status)

    def close(self) -> None:
        """Stop listening."""
        for listening in self.listening:
            listening.socket.close()
        if self._unix is not None:
            self._unix.close()

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
