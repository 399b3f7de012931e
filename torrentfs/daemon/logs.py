"""Where log lines go: a file in the background, the terminal in the foreground.

A file the user named is reopened when it is moved away (logrotate); the default file, which
nobody rotates, is kept under `MAX_LOG_BYTES` with one older copy beside it. Verbosity: 0 says
what a user acts on, 1 what torrentfs does, 2 what every library does.

`json` (`--log-format`) writes one object a line, for programs: `time` (RFC 3339, UTC), `level`,
`logger`, `message`, and `traceback` where there is one.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from torrentfs.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

MAX_LOG_BYTES = 4 * 1024 * 1024
LogFormat = Literal["text", "json"]
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


class JsonFormatter(logging.Formatter):
    """One JSON object a line; ASCII, so that it survives any locale and log collector."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        moment = datetime.fromtimestamp(record.created, UTC)
        entry = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def start_logging(handler: logging.Handler, verbosity: int, log_format: LogFormat = "text") -> None:
    """Send everything to `handler`, at the level that `verbosity` asks for."""
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
    elif handler.formatter is None:
        handler.setFormatter(logging.Formatter(_FORMAT))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if verbosity >= 2 else logging.WARNING)
    logging.getLogger("torrentfs").setLevel(logging.DEBUG if verbosity else logging.INFO)
