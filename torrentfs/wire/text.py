"""Words of strangers, made fit for a log line or a terminal."""

from __future__ import annotations

from torrentfs.wire import limits


def printable(raw: bytes, most: int = limits.MAX_TEXT_BYTES) -> str:
    """At most `most` bytes of `raw` as UTF-8; what a terminal could obey or misread becomes `?`."""
    text = raw[:most].decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else "?" for letter in text).strip()
