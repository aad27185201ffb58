"""`shiftplane diff`: compare specs and the Envoy resources that they result in."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click
import yaml

from xds_server.cli.client import Api, ApiError, Exit, output_option, server_option
from xds_server.cli.out import print_data
from xds_server.cli.specs import problems_of, read_specs, report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.spec import ModelRoute

__all__ = ["diff"]


@click.command()
@click.argument("new")
@click.option(
    "--against",
    default=None,
    metavar="FILE",
    help="File to compare with instead of the running spec. Needs no server.",
)
@click.option("--exit-code", is_flag=True, help="Exit with code 1 if there are differences.")
@output_option
@server_option
@click.pass_context
def diff(
    ctx: click.Context, new: str, against: str | None, output: str, server: str, *, exit_code: bool
) -> None:
    """Compare a spec with the running one or with another file. Nothing is applied.

    Prints the difference of the specs including defaults, then the Envoy resources that differ at the first
    step of the rollout.

    Example: shiftplane diff chat.yaml --against chat.old.yaml
    """
    after = _read(ctx, new)
    before = _read(ctx, against) if against is not None else _running(server, after)
    specs = list(_spec_diff(before, after))
    changed = _resource_diff(before, after)
    if output != "table":
        print_data({"spec": specs, "resources": changed}, output)
    elif not specs:
        click.echo("no difference", err=True)
    else:
        for line in specs:
            color = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
            click.echo(click.style(line, fg=color))
        for name, change in changed.items():
            click.echo(f"resource {change}: {name}")
    if exit_code and (specs or changed):
        ctx.exit(Exit.FAILED)


def _read(ctx: click.Context, path: str) -> list[ModelRoute]:
    loaded = read_specs([path])
    if report(problems_of(loaded), err=True):
        ctx.exit(Exit.FAILED)
    return [route for one in loaded for route in one.routes]


def _running(server: str, routes: list[ModelRoute]) -> list[ModelRoute]:
    from xds_server.spec import load

    api = Api(server)
    running: list[ModelRoute] = []
    for route in routes:
        name = route.metadata.name
        try:
            text = api.text(f"/v1/routes/{quote(name)}/spec")
        except ApiError as error:
            if error.status != 404:
                raise
            continue
        running.extend(load(text, file=f"{server} {name}").routes)
    return running


def _spec_diff(before: list[ModelRoute], after: list[ModelRoute]) -> Iterator[str]:
    old = {route.metadata.name: _lines(route) for route in before}
    new = {route.metadata.name: _lines(route) for route in after}
    for name in sorted(old.keys() | new.keys()):
        yield from difflib.unified_diff(
            old.get(name, []), new.get(name, []), f"{name} (before)", f"{name} (after)", n=2, lineterm=""
        )


def _lines(route: ModelRoute) -> list[str]:
    values = route.model_dump(mode="json", by_alias=True, exclude_none=True)
    return yaml.safe_dump(values, sort_keys=False).splitlines()


def _resource_diff(before: list[ModelRoute], after: list[ModelRoute]) -> dict[str, str]:
    """Return the resources that differ at the first step, each with added, changed or removed."""
    from xds_server.cli.plan import render_groups

    old, new = _flat(render_groups(before, 1)), _flat(render_groups(after, 1))
    changes = {}
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            changes[name] = "added"
        elif name not in new:
            changes[name] = "removed"
        elif old[name] != new[name]:
            changes[name] = "changed"
    return changes


def _flat(groups: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{group} {kind} {name}": value
        for group, kinds in groups.items()
        for kind, named in kinds.items()
        for name, value in named.items()
    }
