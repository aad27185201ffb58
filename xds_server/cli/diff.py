"""`shiftplane diff`: what a changed spec would change, in the spec's words and in Envoy's."""

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
@click.option("--against", default=None, metavar="FILE", help="Compare with this file; needs no server then.")
@click.option("--exit-code", is_flag=True, help="End with 1 when something would change.")
@output_option
@server_option
@click.pass_context
def diff(
    ctx: click.Context, new: str, against: str | None, output: str, server: str, *, exit_code: bool
) -> None:
    """Compare a spec with what runs, or with another file; changes nothing.

    Shows the spec as it is understood, defaults included, then which of Envoy's resources would change.
    Example: shiftplane diff chat.yaml --against chat.old.yaml
    """
    after = _read(ctx, new)
    before = _read(ctx, against) if against is not None else _running(server, after)
    specs = list(_spec_diff(before, after))
    changed = _resource_diff(before, after)
    if output != "table":
        print_data({"spec": specs, "resources": changed}, output)
    elif not specs:
        click.echo("no difference in meaning", err=True)
    else:
        for line in specs:
            colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
            click.echo(click.style(line, fg=colour))
        for name, what in changed.items():
            click.echo(f"{what}: {name}")
    if exit_code and (specs or changed):
        ctx.exit(Exit.REFUSED)


def _read(ctx: click.Context, path: str) -> list[ModelRoute]:
    loaded = read_specs([path])
    if report(problems_of(loaded), err=True):
        ctx.exit(Exit.REFUSED)
    return [route for one in loaded for route in one.routes]


def _running(server: str, wanted: list[ModelRoute]) -> list[ModelRoute]:
    from xds_server.spec import load

    api = Api(server)
    found: list[ModelRoute] = []
    for route in wanted:
        name = route.metadata.name
        try:
            text = api.text(f"/v1/routes/{quote(name)}/spec")
        except ApiError as error:
            if error.status != 404:
                raise
            continue
        found.extend(load(text, file=f"{server} {name}").routes)
    return found


def _spec_diff(before: list[ModelRoute], after: list[ModelRoute]) -> Iterator[str]:
    old = {route.metadata.name: _lines(route) for route in before}
    new = {route.metadata.name: _lines(route) for route in after}
    for name in sorted(old.keys() | new.keys()):
        yield from difflib.unified_diff(
            old.get(name, []), new.get(name, []), f"{name} (now)", f"{name} (then)", n=2, lineterm=""
        )


def _lines(route: ModelRoute) -> list[str]:
    values = route.model_dump(mode="json", by_alias=True, exclude_none=True)
    return yaml.safe_dump(values, sort_keys=False).splitlines()


def _resource_diff(before: list[ModelRoute], after: list[ModelRoute]) -> dict[str, str]:
    """Return what would happen to each resource at the first step: added, changed or removed."""
    from xds_server.cli.plan import worlds

    old, new = _flat(worlds(before, 1)), _flat(worlds(after, 1))
    found = {}
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            found[name] = "added"
        elif name not in new:
            found[name] = "removed"
        elif old[name] != new[name]:
            found[name] = "changed"
    return found


def _flat(groups: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{group} {kind} {name}": value
        for group, kinds in groups.items()
        for kind, named in kinds.items()
        for name, value in named.items()
    }
