"""`torrentfs completion SHELL`: the script that teaches a shell to complete our options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command(short_help="Print a shell completion script.")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script for SHELL. To install it:

    \b
        bash   torrentfs completion bash > ~/.local/share/bash-completion/completions/torrentfs
        zsh    torrentfs completion zsh > a directory of $fpath, in a file named _torrentfs
        fish   torrentfs completion fish > ~/.config/fish/completions/torrentfs.fish
    """
    from torrentfs.cli.main import cli

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}")
    # click's bash source() asks the bash on this machine for its version: not needed to print
    script = found(cli, {}, "torrentfs", "_TORRENTFS_COMPLETE")
    click.echo(script.source_template % script.source_vars())
