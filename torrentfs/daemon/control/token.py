"""The token of `--http`: made at the first use, kept in a file that only its user may read."""

from __future__ import annotations

import os
import re
import secrets
import stat
from typing import TYPE_CHECKING

from torrentfs.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_TOKEN = re.compile(r"[A-Za-z0-9_-]{20,200}")


def read_or_make_token(path: Path) -> str:
    """The token in the file `path`, which is made (0600) if there is none.

    Raises `ConfigError` when the file cannot be used, or may be read by others.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.path.lexists(path):
            return _read(path)
        token = secrets.token_urlsafe(32)
        made = path.with_name(f".{path.name}.{os.getpid()}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            with open(os.open(made, flags, 0o600), "w", encoding="ascii") as file:
                file.write(token + "\n")
            os.link(made, path)  # whole or not at all: another mount may start just now
        except FileExistsError:
            return _read(path)
        finally:
            made.unlink(missing_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"cannot use the token file {path} (--http): {reason}") from error
    return token


def _read(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with open(descriptor, encoding="ascii", errors="replace") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_mode & 0o077:
            raise ConfigError(f"others may read the token file {path}: chmod 600 it, or remove it")
        token = file.read(1000).strip()
    if not _TOKEN.fullmatch(token):
        raise ConfigError(
            f"{path} holds no token (20 or more letters, digits, - and _): remove it, and a new "
            "one is made"
        )
    return token
