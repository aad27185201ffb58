"""`shiftplane demo`: the whole story on this machine, against a real Envoy."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["demo"]


@click.command()
@click.option("--keep", is_flag=True, help="Leave everything running at the end, until Ctrl-C.")
@click.option(
    "--backends",
    type=click.Choice(["simulated", "vllm"]),
    default="simulated",
    show_default=True,
    help="Simulated model servers, or two real vLLM servers on the CPU (`make demo-vllm` prepares them).",
)
@click.option(
    "--users", type=click.IntRange(100), default=20_000, show_default=True, help="Size of the split sample."
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".shiftplane/demo"),
    show_default=True,
    help="Where logs, stores and specs go; emptied first.",
)
@click.pass_context
def demo(ctx: click.Context, users: int, folder: Path, backends: str, *, keep: bool) -> None:
    """Watch one model replace another behind a real Envoy, in about a minute.

    Starts two Envoys, two model servers, the collector and the control plane on loopback, and ends them all.
    The last line is one JSON object. Example: shiftplane demo --keep
    """
    try:
        from demo.story import Options, play
    except ModuleNotFoundError as error:
        raise click.ClickException(
            "the demo is part of the source tree: clone the project and type `make demo`"
        ) from error
    vllm = Path(".vllm") if backends == "vllm" else None
    ctx.exit(play(Options(folder=folder, users=users, keep=keep, vllm=vllm)))
