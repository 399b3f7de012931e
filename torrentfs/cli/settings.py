"""The options about fetching, given by name and value: keyword arguments of `torrentfs.open`.

They go through the very parser of the command line, so that a name, a value, a variable, the
config file and a mistake mean the same to `torrentfs mount` and to a notebook. A user who has put
a proxy or an interface into the config file has it held everywhere.

    flag of the command line    setting
    --cache-size 20G            cache_size="20G", or bytes
    --peer A --peer B           peer=[A, B], or one alone
    --no-dht                    dht=False, or no_dht=True as in the config file
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from torrentfs.cli.fetching import fetch_options, session_config
from torrentfs.cli.options import ENVVAR_PREFIX, PATH, MountCommand
from torrentfs.daemon.config import Beside, OpenConfig
from torrentfs.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping


class ReadingCommand(MountCommand):
    """A command that reads the config file of `mount`, in which more may be set than it has.

    `reads` are the options that it takes from there; None takes all that it has. A name may mean
    something else here than there.
    """

    def __init__(self, *args: Any, reads: Collection[str] | None = None, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.reads = reads

    def read_config(self, ctx: click.Context, given: object) -> dict[str, Any]:
        """Of the file, what this command takes."""
        table = super().read_config(ctx, given)
        return {
            name: value for name, value in table.items() if self.reads is None or name in self.reads
        }

    def config_options(self) -> dict[str, click.Option]:
        """Those of `mount`."""
        from torrentfs.cli.mount import mount

        assert isinstance(mount, MountCommand)
        return mount.config_options()


config_option = click.option(
    "--config",
    type=PATH,
    expose_value=False,
    help="Read options from this file.  [default: ~/.config/torrentfs/config.toml]",
)


@click.command(cls=ReadingCommand, add_help_option=False)
@fetch_options
@config_option
@click.option("-o", "mount_options", multiple=True, expose_value=False)
def _settings(**options: Any) -> None:
    """Never run: a table of names, and their parser."""


def open_config(options: Mapping[str, Any]) -> OpenConfig:
    """The options as click gives them, as one frozen and absolute value; ConfigError."""
    return OpenConfig(
        session=session_config(dict(options)),
        beside=Beside(options["tracker"], options["web_seed"], options["peer"]),
        metadata_timeout=options["metadata_timeout"],
    )


def parse_settings(settings: Mapping[str, Any]) -> OpenConfig:
    """Settings by name, as one frozen and absolute value; ConfigError names the one at fault."""
    args = [word for name, value in settings.items() for word in _words(name, value)]
    try:
        context = _settings.make_context("torrentfs", args, auto_envvar_prefix=ENVVAR_PREFIX)
    except click.ClickException as error:
        raise ConfigError(" ".join(error.format_message().split())) from error
    return open_config(context.params)


def names() -> list[str]:
    """What may be set, as the table above spells it."""
    found = [str(param.name).removeprefix("no_") for param in _settings.params]
    return sorted(set(found) - {"mount_options"})


def _words(name: str, value: object) -> Iterator[str]:
    """`-o name=value` for each value; nothing for None, which is "not given"."""
    known = {param.name for param in _settings.params} - {"mount_options"}
    if name not in known and f"no_{name}" in known:
        if not isinstance(value, bool) and value is not None:
            raise ConfigError(f"{name}: {value!r} is neither True nor False")
        name, value = f"no_{name}", None if value is None else not value
    if name not in known:
        raise ConfigError(f"there is no setting {name!r}: use one of {', '.join(names())}")
    if value is None:
        return
    if name == "config":
        yield f"--config={_text(value)}"
        return
    for each in _each(value):
        text = _text(each).replace("\\", "\\\\").replace(",", "\\,")
        yield f"-o{name}={text}"


def _each(value: object) -> Iterator[object]:
    if not isinstance(value, list | tuple | set | frozenset):
        yield value
    elif isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], int):
        yield value  # an address
    else:
        yield from value


def _text(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case (str() as host, int() as port):
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        case os.PathLike():
            return str(os.fspath(value))
        case _:
            return str(value)
