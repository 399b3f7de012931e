"""`mount.torrentfs`: what mount(8) runs for the type `torrentfs`, by hand and for fstab.

mount(8) looks for it in /sbin, and calls it so:

    mount.torrentfs SOURCE MOUNTPOINT [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]

Several sources are one word with `|` between them, since a line of fstab has one field for it; a
word `none` stands for no source, where `-o watch=DIR` says what to show. What mount(8) does itself
(`-n`, `-N`) changes nothing here, `-f` is everything but the mount, and `-s` lets unknown options
pass.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from torrentfs.cli.output import complain
from torrentfs.daemon.outcome import BAD_INPUT, DONE

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_SOURCE = "none"
SEPARATOR = "|"

USAGE = "usage: mount.torrentfs SOURCE MOUNTPOINT [-sfnv] [-o OPTIONS]"

BINARIES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""At boot there may be no PATH, and fusermount3 has to be found."""


class WrongUsage(Exception):
    """What mount(8) never says."""


def arguments(words: Sequence[str]) -> list[str] | None:
    """The command line of `torrentfs` for that of mount(8); None if nothing is to be done."""
    places: list[str] = []
    options: list[str] = []
    verbose = fake = sloppy = False
    rest = iter(words)
    for word in rest:
        if word in ("-o", "-N", "-t"):
            value = next(rest, None)
            if value is None:
                raise WrongUsage(f"{word} needs a value")
            if word == "-o":
                options.append(value)
        elif word.startswith("-") and len(word) > 1:
            unknown = set(word[1:]) - set("sfnv")
            if unknown:
                raise WrongUsage(f"no such option: -{min(unknown)}")
            verbose = verbose or "v" in word
            fake = fake or "f" in word
            sloppy = sloppy or "s" in word
        else:
            places.append(word)
    if len(places) != 2:
        raise WrongUsage("one source and one mount point are needed")
    if fake:
        return None
    source, mountpoint = places
    made = ["mount"]
    for text in options:
        made += ["-o", _kept(text, sloppy=sloppy)]
    if verbose:
        made.append("-v")
    sources = [] if source == NO_SOURCE else list(filter(None, source.split(SEPARATOR)))
    return [*made, "--", *sources, mountpoint]


def _kept(text: str, *, sloppy: bool) -> str:
    """`text` without `rw`, which mount(8) says where nobody said `ro`; and, if `sloppy`, without
    the options that we do not have."""
    from torrentfs.cli.mount import mount
    from torrentfs.cli.options import is_accepted, parts_of

    ours = {name[2:].replace("-", "_") for param in mount.params for name in param.opts}
    kept = []
    for part in parts_of(text):
        name = part.partition("=")[0].strip()
        known = not sloppy or name.replace("-", "_") in ours or is_accepted(name)
        if known and name != "rw":
            kept.append(part)
    return ",".join(kept)


def main() -> None:
    """The console script; ends as mount(8) expects: 0 mounted, 1 wrong usage, 32 failed."""
    from torrentfs.cli.main import cli

    os.environ.setdefault("PATH", BINARIES)
    try:
        words = arguments(sys.argv[1:])
    except WrongUsage as error:
        complain(f"{error} ({USAGE})")
        sys.exit(BAD_INPUT)
    if words is None:
        sys.exit(DONE)
    try:
        cli.main(args=words, prog_name="torrentfs")
    except SystemExit as ended:
        sys.exit(ended.code if ended.code in (DONE, BAD_INPUT) else MOUNT_FAILED)


MOUNT_FAILED = 32
"""mount(8): mount failure."""
