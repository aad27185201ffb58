"""`shiftplane completion`: print a shell completion script."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    Example: shiftplane completion bash > ~/.local/share/bash-completion/completions/shiftplane
    """
    from xds_server.cli import main

    kind = get_completion_class(shell)
    if kind is None:
        raise click.ClickException(f"no completion script for {shell}")
    click.echo(kind(main, {}, "shiftplane", "_SHIFTPLANE_COMPLETE").source())
