"""Where log lines go: a file in the background, the terminal in the foreground.

A file the user named is reopened when it is moved away (logrotate); the default file, which
nobody rotates, is kept under `MAX_LOG_BYTES` with one older copy beside it. Verbosity: 0 says
what a user acts on, 1 what torrentfs does, 2 what every library does.
"""

from __future__ import annotations

import logging
import logging.handlers
from typing import TYPE_CHECKING

from torrentfs.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

MAX_LOG_BYTES = 4 * 1024 * 1024
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def file_handler(path: Path, *, rotate: bool) -> logging.FileHandler:
    """A handler that appends to `path`, its directory made if need be; ConfigError if it can't."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if rotate:
            return logging.handlers.RotatingFileHandler(
                path, maxBytes=MAX_LOG_BYTES, backupCount=1, encoding="utf-8"
            )
        return logging.handlers.WatchedFileHandler(path, encoding="utf-8")
    except OSError as exc:
        reason = (exc.strerror or str(exc)).lower()
        raise ConfigError(f"cannot write the log file {path}: {reason}") from exc


def start_logging(handler: logging.Handler, verbosity: int) -> None:
    """Send everything to `handler`, at the level that `verbosity` asks for."""
    if handler.formatter is None:
        handler.setFormatter(logging.Formatter(_FORMAT))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if verbosity >= 2 else logging.WARNING)
    logging.getLogger("torrentfs").setLevel(logging.DEBUG if verbosity else logging.INFO)
