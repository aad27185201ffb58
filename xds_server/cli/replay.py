"""`shiftplane replay`: run an analysis on recorded evidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from xds_server.cli.client import output_option, server_option
from xds_server.cli.files import read_text
from xds_server.cli.out import print_data

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.analysis.verdicts import AnalyzedBlock, ReplayedRun

__all__ = ["replay"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("spec", type=_FILE)
@click.option("--route", default=None, help="Name of the route in SPEC. Default: the first route.")
@click.option(
    "--blocks",
    type=_FILE,
    default=None,
    help="File of recorded evidence blocks (JSON lines). Default: the blocks that the server has stored for "
    "the route.",
)
@click.option(
    "--save",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="File to which the evidence blocks are also written.",
)
@click.option("--run", type=int, default=None, help="Number of the run to analyze. Default: all stored runs.")
@output_option
@server_option
def replay(  # noqa: PLR0913, PLR0917 - one parameter per option
    spec: Path,
    route: str | None,
    blocks: Path | None,
    save: Path | None,
    run: int | None,
    output: str,
    server: str,
) -> None:
    """Run the analysis of SPEC on recorded evidence blocks, and show whether and when it would roll back.

    Example: shiftplane replay chat.yaml --run 3
    """
    from xds_server.analysis.verdicts import Arms, policy_from_spec
    from xds_server.analysis.verdicts import replay as replay_runs
    from xds_server.rollout import program
    from xds_server.spec import load

    loaded = load(read_text(spec), file=str(spec))
    if not loaded.ok:
        raise click.ClickException("\n".join(str(problem) for problem in loaded.problems))
    found = next((r for r in loaded.routes if route in {None, r.metadata.name}), None)
    if found is None:
        defined = ", ".join(r.metadata.name for r in loaded.routes)
        raise click.ClickException(f"{spec} has no route {route!r}; defined routes: {defined}")
    name, route_spec = found.metadata.name, found.spec
    candidates = program(found).variants
    if not candidates:
        raise click.ClickException(f"{spec}: route {name!r} has no candidate; replay requires one")
    text = read_text(blocks) if blocks is not None else _fetch(server, name)
    if save is not None:
        save.write_text(text, encoding="utf-8")
    arms = Arms(route=name, control=route_spec.stable, candidates=candidates)
    runs = replay_runs(policy_from_spec(route_spec), _read(text), arms, run=run)
    if output != "table":
        print_data({"route": name, "runs": [_document(one) for one in runs]}, output)
        return
    if not runs:
        click.echo("there are no evidence blocks" + (f" of run {run}" if run is not None else ""))
    for one in runs:
        _print(one)


def _fetch(server: str, name: str) -> str:
    from xds_server.cli.client import Api

    return Api(server).text(f"/v1/routes/{quote(name)}/blocks")


def _read(text: str) -> Iterator[AnalyzedBlock]:
    import json

    from xds_server.analysis.verdicts import analyzed_block_from_json

    for number, line in enumerate(text.splitlines(), start=1):
        try:
            yield analyzed_block_from_json(json.loads(line))
        except ValueError as error:
            reason = "it is not valid JSON" if isinstance(error, json.JSONDecodeError) else error
            raise click.ClickException(f"line {number} is not a valid evidence block: {reason}") from error


def _document(one: ReplayedRun) -> dict[str, Any]:
    return {
        "run": one.run,
        "blocks": one.blocks,
        "outcome": one.outcome.value,
        "missing": list(one.missing),
        "decisions": [
            {"after": round(d.after, 3), "at": d.at, "finding": d.finding.value, "words": d.message}
            for d in one.decisions
        ],
    }


def _print(one: ReplayedRun) -> None:
    click.echo(f"run {one.run}, {one.blocks} blocks: {one.outcome.value}")
    for decision in one.decisions:
        click.echo(f"  {decision.after:8.0f} s  {decision.finding.value:<13} {decision.message}")
    for what in one.missing:
        click.echo(f"  not recorded: {what}")
    if not one.decisions:
        click.echo("  the candidate received no requests in this run")
