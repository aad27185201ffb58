"""`shiftplane demo`: run a complete rollout on this machine against a real Envoy."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["demo"]


@click.command()
@click.option("--keep", is_flag=True, help="Keep all processes running after the end, until Ctrl-C.")
@click.option(
    "--backends",
    type=click.Choice(["simulated", "vllm"]),
    default="simulated",
    show_default=True,
    help="Simulated model servers, or two real vLLM servers on the CPU (`make demo-vllm` prepares them).",
)
@click.option(
    "--users",
    type=click.IntRange(100),
    default=5_000,
    show_default=True,
    help="Number of users in the sample that measures the split.",
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".shiftplane/demo"),
    show_default=True,
    help="Folder for logs, stores and specs. Its contents are deleted first.",
)
@click.pass_context
def demo(ctx: click.Context, users: int, folder: Path, backends: str, *, keep: bool) -> None:
    """Run a complete rollout against a real Envoy in about a minute.

    Starts two Envoys, two model servers, the collector and the control plane on loopback, and stops them at
    the end. The last line of the output is a JSON object.

    Example: shiftplane demo --keep
    """
    try:
        from demo.story import Options, play
    except ModuleNotFoundError as error:
        raise click.ClickException(
            "the demo requires the source tree: clone the project and run `make demo`"
        ) from error
    vllm = Path(".vllm") if backends == "vllm" else None
    ctx.exit(play(Options(folder=folder, users=users, keep=keep, vllm=vllm)))
