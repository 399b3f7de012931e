"""The `torrentfs` command: subcommands found when they are called, errors told in one line.

A command's module is imported only when it runs (or helps), because start-up time counts; what
is heavy (trio, httpx, rich, pyfuse3) is imported inside the command that needs it.

Every way to end has one exit code (see `daemon.outcome`). click's own usage errors are 1, not
its usual 2, which here means that mounting failed. A traceback is for developers: shown with
`TORRENTFS_DEBUG=1`, or by `mount -vv`.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

import click

from torrentfs import __version__
from torrentfs.cli.output import complain
from torrentfs.daemon.outcome import BAD_INPUT, exit_code, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

COMMANDS = {
    "mount": "torrentfs.cli.mount:mount",
    "umount": "torrentfs.cli.umount:umount",
    "add": "torrentfs.cli.torrents:add",
    "remove": "torrentfs.cli.torrents:remove",
    "list": "torrentfs.cli.torrents:list_torrents",
    "status": "torrentfs.cli.status:status",
    "files": "torrentfs.cli.details:files",
    "peers": "torrentfs.cli.details:peers",
    "trackers": "torrentfs.cli.details:trackers",
    "pause": "torrentfs.cli.torrents:pause",
    "resume": "torrentfs.cli.torrents:resume",
    "set": "torrentfs.cli.limits:set_limits",
    "why": "torrentfs.cli.demand:why",
    "pin": "torrentfs.cli.demand:pin",
    "unpin": "torrentfs.cli.demand:unpin",
    "pins": "torrentfs.cli.demand:pins",
    "prefetch": "torrentfs.cli.demand:prefetch",
    "evict": "torrentfs.cli.demand:evict",
    "cache": "torrentfs.cli.cache:cache",
    "share": "torrentfs.cli.share:share",
    "shares": "torrentfs.cli.shares:shares",
    "create": "torrentfs.cli.create:create",
    "cat": "torrentfs.cli.cat:cat",
    "inspect": "torrentfs.cli.inspect:inspect",
    "doctor": "torrentfs.cli.doctor:doctor",
    "completion": "torrentfs.cli.completion:completion",
}
"""Subcommands in the order of `--help`, and where each is."""


class LazyGroup(click.Group):
    """A group that imports a subcommand when it is asked for, and maps every error to its code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one."""
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """As click's, with our exit codes and messages in `standalone_mode`."""
        extra |= {"prog_name": prog_name, "complete_var": complete_var}
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **extra)
        sys.exit(self._run(args, extra))

    def _run(self, args: Sequence[str] | None, extra: dict[str, Any]) -> int:
        try:
            result = super().main(args, standalone_mode=False, **extra)
        except click.ClickException as exc:
            complain(_usage_line(exc))
            return BAD_INPUT
        except click.exceptions.Abort:
            complain("interrupted")
            return 130
        except BrokenPipeError:
            _silence_stdout()
            return BAD_INPUT
        except Exception as exc:
            if os.environ.get("TORRENTFS_DEBUG") or logging.getLogger().isEnabledFor(logging.DEBUG):
                traceback.print_exc()
            complain(one_line(exc))
            return exit_code(exc)
        return result if isinstance(result, int) else 0


def _usage_line(error: click.ClickException) -> str:
    """The message, where it came from, and where help is: one line."""
    if isinstance(error, click.BadParameter) and error.ctx is not None and error.param is not None:
        name = error.param.name or ""
        if error.ctx.get_parameter_source(name) is click.core.ParameterSource.ENVIRONMENT:
            prefix = error.ctx.auto_envvar_prefix
            error.param_hint = f"the variable {prefix}_{name.upper()}"
    text = " ".join(error.format_message().split())
    if isinstance(error, click.UsageError) and error.ctx is not None and "--help" not in text:
        text = f"{text.removesuffix('.')} (see {error.ctx.command_path} --help)"
    return text


def _silence_stdout() -> None:
    """The reader of our output went away (`| head`): nothing more can be said there."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
)
@click.version_option(__version__, "-V", "--version", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Mount torrents as a directory: files appear at once, and each read fetches just the
    pieces that it needs.

    \b
        torrentfs mount ubuntu.torrent ~/mnt
        torrentfs mount 'magnet:?xt=urn:btih:...' ~/mnt
        torrentfs umount ~/mnt
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(BAD_INPUT)


def main() -> NoReturn:
    """The console script."""
    try:
        cli.main(prog_name="torrentfs")
    finally:
        # What is done is done: a Ctrl-C during the interpreter's end would tell the shell that a
        # mount which is there was not made. (An ignored signal stays so until the very end.)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise AssertionError("click's main does not return")
