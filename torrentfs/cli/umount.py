"""`torrentfs umount`: as `fusermount3 -u`, with words for what stands in the way."""

from __future__ import annotations

from pathlib import Path

import click

from torrentfs.cli.output import complain
from torrentfs.errors import MountError


@click.command(
    context_settings={"auto_envvar_prefix": "TORRENTFS"}, short_help="Unmount a torrentfs."
)
@click.argument(
    "mountpoints", metavar="MOUNTPOINT...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "-z", "--lazy", is_flag=True, help="Detach at once; it ends when the last file is closed."
)
def umount(mountpoints: tuple[Path, ...], lazy: bool) -> None:
    """Unmount each MOUNTPOINT; its torrentfs process ends. fusermount3 -u works just as well.

    A mount in use is refused, and the programs that use it are named; --lazy detaches it anyway.
    One that is refused does not keep the others mounted.
    """
    from torrentfs.daemon.config import absolute
    from torrentfs.vfs.mountpoint import unmount

    refused: list[MountError] = []
    for mountpoint in mountpoints:
        try:
            unmount(absolute(mountpoint), lazy=lazy)
        except MountError as error:
            refused.append(error)
    for other in refused[:-1]:
        complain(str(other))
    if refused:
        raise refused[-1]
