"""Where an option of `mount` gets its value, first one wins:

    flag > -o > TORRENTFS_* variable > config file > default

click gives flag, variable (`auto_envvar_prefix`), file (`default_map`) and default in that
order. `-o name=value` slips in between by being rewritten to `--name=value` in front of the
command line: it beats the variable, and a flag behind it wins. A repeatable option (`--peer`)
given by flag and by `-o` has both values; by any lower source only when neither is given.

`-o` also takes what mount(8), fstab and users of other FUSE programs say: words that are already
true here (`ro`, `nosuid`, `nodev`, ...) or meant for other programs (`_netdev`, `x-*`) are
accepted and change nothing; `rw` is refused, as nothing here can be written. A comma or backslash
inside a value is written `\\,` and `\\\\`, as libfuse has it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torrentfs.daemon.config import default_config_file, read_config_file
from torrentfs.daemon.quantities import (
    parse_duration,
    parse_host_port,
    parse_rate,
    parse_size,
    parse_umask,
    parse_url,
)
from torrentfs.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENVVAR_PREFIX = "TORRENTFS"

ACCEPTED_WORDS = frozenset(
    {"ro", "nosuid", "nodev", "noatime", "nodiratime", "relatime", "default_permissions"}
    | {"defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail"}
    | {"_netdev", "async", "sync"}
)
"""Words of `-o` that ask for what a read-only torrent mount does anyway, or address mount(8)."""

_SHOWN = 60
"""Characters of an unknown word that an error message repeats."""

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


if TYPE_CHECKING:
    _ParamType = click.ParamType[object]
else:  # older releases of click have no type parameter here
    _ParamType = click.ParamType


class Parsed(_ParamType):
    """A click type made of one of the parsers of `daemon.quantities`."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """A default or a value converted before is passed through; text and numbers are parsed."""
        if isinstance(value, tuple) or value is None:
            return value
        if isinstance(value, bool):
            self.fail(f"{value!r} is not a {self.name}", param, ctx)
        try:
            return self._parse(str(value))
        except ConfigError as exc:
            self.fail(str(exc), param, ctx)


SIZE = Parsed("size", parse_size)
RATE = Parsed("rate", parse_rate)
DURATION = Parsed("duration", parse_duration)
HOST_PORT = Parsed("host:port", parse_host_port)
UMASK = Parsed("umask", parse_umask)
TRACKER = Parsed("url", lambda text: parse_url(text, ("http", "https", "udp", "ws", "wss")))
WEB_SEED = Parsed("url", lambda text: parse_url(text, ("http", "https")))


class PathType(click.Path):
    """A path; an empty one, which would be the current directory, is a slip in a script."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click's."""
        if value == "":
            self.fail("a path must not be empty", param, ctx)
        return super().convert(value, param, ctx)


class WholeNumber(click.IntRange):
    """An integer, called so that everybody knows what is meant."""

    name = "whole number"


PATH = PathType()


class MountCommand(click.Command):
    """A command whose options also come from `-o` and from a config file."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Expand `-o`, read the config file into `default_map`, then parse as usual."""
        given = self._look_ahead(ctx, args)
        words = split_mount_options(given.get("mount_options") or ())
        expanded, off = self._expand(ctx, words)
        args = [*expanded, *args]
        if not ctx.resilient_parsing:
            ctx.default_map = self.read_config(ctx, self._look_ahead(ctx, args).get("config"))
        rest = super().parse_args(ctx, args)
        for name in off:
            if ctx.get_parameter_source(name) is not click.core.ParameterSource.COMMANDLINE:
                ctx.params[name] = False
        return rest

    def _look_ahead(self, ctx: click.Context, args: list[str]) -> dict[str, Any]:
        """What is on the command line, unconverted; a wrong one raises UsageError as usual."""
        opts, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        return dict(opts)

    def _option(self, name: str) -> click.Option | None:
        wanted = name.replace("_", "-")
        for param in self.params:
            if isinstance(param, click.Option) and f"--{wanted}" in param.opts:
                return param
        return None

    def _expand(
        self, ctx: click.Context, words: list[tuple[str, str | None]]
    ) -> tuple[list[str], list[str]]:
        """Long options that say what `words` say, and the names of flags set to false."""
        args: list[str] = []
        off: list[str] = []
        for name, value in words:
            option = self._option(name)
            if option is None or option.name in ("mount_options", "help"):
                _check_accepted(ctx, name)
            elif option.is_flag or option.count:
                if value is None or value.lower() in _TRUE:
                    args.append(option.opts[-1])
                elif value.lower() in _FALSE and option.name:
                    off.append(option.name)
                else:
                    raise click.UsageError(f"-o {name}: {value!r} is neither true nor false", ctx)
            elif value is None:
                raise click.UsageError(f"-o {name} needs a value: -o {name}=...", ctx)
            else:
                args.append(f"{option.opts[-1]}={value}")
        return args, off

    def config_options(self) -> dict[str, click.Option]:
        """The options that the config file may set, by name."""
        return {
            param.name: param
            for param in self.params
            if isinstance(param, click.Option)
            and param.name
            and param.name not in ("config", "mount_options")
        }

    def read_config(self, ctx: click.Context, given: object) -> dict[str, Any]:
        """What the config file sets, the one `given` or chosen by variable; ConfigError."""
        chosen = given or os.environ.get(f"{ENVVAR_PREFIX}_CONFIG")
        path = Path(str(chosen)) if chosen else default_config_file()
        if not chosen and not os.path.isfile(path):  # False, too, in a home that is closed to us
            return {}
        options = self.config_options()
        table = read_config_file(path, options)
        for name, value in table.items():
            table[name] = _checked(ctx, options[name], value, path)
        return table


def _checked(ctx: click.Context, option: click.Option, value: Any, path: Path) -> Any:
    """The value in the form click wants of a default; ConfigError names the file and key."""
    key = str(option.name).replace("_", "-")
    is_list = isinstance(value, list)
    if is_list and not option.multiple:
        raise ConfigError(f"{path}: {key} takes one value, not a list")
    if option.multiple and not is_list:
        value = [value]
    if option.is_flag and not isinstance(value, bool):
        raise ConfigError(f"{path}: {key} must be true or false")
    if isinstance(value, bool) and not option.is_flag:
        raise ConfigError(f"{path}: {key} takes a value, not true or false")
    if isinstance(value, float):
        value = str(value)  # or click would make 1 of 1.5
    try:
        option.type_cast_value(ctx, value)
    except click.BadParameter as exc:
        raise ConfigError(f"{path}: {key}: {exc.message.removesuffix('.')}") from exc
    return value


def is_accepted(name: str) -> bool:
    """Whether a word of `-o` that is no option of ours is taken all the same."""
    return name in ACCEPTED_WORDS or name.startswith(("x-", "comment"))


def _check_accepted(ctx: click.Context, name: str) -> None:
    if is_accepted(name):
        return
    if name == "rw":
        raise click.UsageError("-o rw: a torrent cannot be written to; leave it out", ctx)
    shown = name if len(name) <= _SHOWN else name[: _SHOWN - 1] + "…"
    raise click.UsageError(f"-o {shown}: no such option (see torrentfs mount --help)", ctx)


def split_mount_options(values: tuple[str, ...] | list[str]) -> list[tuple[str, str | None]]:
    """`("a=1,b", "c")` to `[("a", "1"), ("b", None), ("c", None)]`, backslash escapes undone."""
    return [word for value in values for word in _words(value)]


def parts_of(text: str) -> list[str]:
    """`"a=1,b\\,c"` to `["a=1", "b\\,c"]`: the words of one `-o` as they are written."""
    return re.findall(r"(?:\\.|[^,\\]|\\$)+", text)


def _words(text: str) -> Iterator[tuple[str, str | None]]:
    for part in parts_of(text):
        name, equals, value = part.partition("=")
        if equals and not name.strip():
            raise click.UsageError(f"-o {part}: a name is missing before the =")
        if name.strip():
            yield name.strip(), re.sub(r"\\(.)", r"\1", value) if equals else None
