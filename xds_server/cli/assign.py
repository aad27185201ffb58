"""`shiftplane assign`: show which variant serves a user, computed as the proxies compute it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click
from click.core import ParameterSource

from xds_server.cli.client import Api, Exit, output_option, server_option
from xds_server.cli.files import stdin_lines
from xds_server.cli.out import print_data
from xds_server.cli.specs import problems_of, read_specs, report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.plan import RouteTraffic
    from xds_server.spec import ModelRoute

__all__ = ["assign"]

_FULL = 100.0


@click.command()
@click.argument("name")
@click.option(
    "--attribute",
    "-a",
    "attributes",
    multiple=True,
    metavar="NAME=VALUE",
    help="Attribute of the user. Repeatable. With NAME=-, each line of standard input is the value of one "
    "user.",
)
@click.option("--path", default=None, help="Path of the request. Default: a path that the route matches.")
@click.option(
    "--spec",
    "file",
    default=None,
    metavar="FILE",
    help="Read the route from this file instead of the server.",
)
@click.option(
    "--weight",
    type=click.FloatRange(0, _FULL),
    default=0.0,
    show_default=True,
    help="Weight of the candidate in percent. Requires --spec.",
)
@output_option
@server_option
@click.pass_context
def assign(  # noqa: PLR0913, PLR0917 - one per option
    ctx: click.Context,
    name: str,
    attributes: tuple[str, ...],
    path: str | None,
    file: str | None,
    weight: float,
    output: str,
    server: str,
) -> None:
    """Show the variant and prompt version of a user of route NAME, and the rule that selects them.

    Uses the current weights on the control plane. With --spec, the candidate has the weight given by
    --weight.

    Example: shiftplane assign chat -a user.id=ada -a org.id=acme
    """
    if file is None and ctx.get_parameter_source("weight") is not ParameterSource.DEFAULT:
        raise click.UsageError("--weight requires --spec; without --spec, the current weights are used")
    traffic = _running(ctx, server, name) if file is None else _from_file(ctx, file, name, weight)
    assignments = list(_assignments(traffic, attributes, path))
    if output != "table":
        print_data({"route": name, "assignments": assignments}, output)
        return
    for item in assignments:
        slot = "" if item["slot"] is None else f" (slot {item['slot']:,} of 10,000)"
        prompt = f", prompt {item['prompt']}" if item["prompt"] else ""
        user = " ".join(f"{key}={value}" for key, value in item["attributes"].items()) or "all users"
        served = (
            f"{item['variant']}{slot} by {item['by']}"
            if item["variant"]
            else f"the variant depends on {item['why']} (Envoy route {item['by']})"
        )
        click.echo(f"{user}: {served}{prompt}")


def _assignments(traffic: RouteTraffic, given: tuple[str, ...], path: str | None) -> Iterator[dict[str, Any]]:
    from xds_server.plan import assign_request, header_of, route_table

    route = traffic.route
    pairs = dict(_pair(text) for text in given)
    for attribute in pairs:
        if attribute not in route.spec.attributes:
            listed = ", ".join(route.spec.attributes) or "none"
            raise click.UsageError(
                f"route {route.metadata.name} has no attribute {attribute!r}; defined attributes: {listed}"
            )
    table = route_table(traffic)
    requested = path or route.spec.match.path.exact or route.spec.match.path.prefix or "/"
    for attributes in _users(pairs):
        headers = {header_of(route, attribute): value for attribute, value in attributes.items()}
        assignment = assign_request(table, requested, headers)
        if assignment is None:
            raise click.UsageError(
                f"route {route.metadata.name} does not match requests for path {requested!r}; "
                "select a path that it matches with --path"
            )
        yield {
            "attributes": attributes,
            "variant": assignment.variant,
            "slot": assignment.slot,
            "by": assignment.route,
            "prompt": assignment.prompt,
            "why": assignment.why,
        }


def _users(pairs: dict[str, str]) -> Iterator[dict[str, str]]:
    from_stdin = [attribute for attribute, value in pairs.items() if value == "-"]
    if len(from_stdin) > 1:
        raise click.UsageError("only one --attribute can be read from standard input (NAME=-)")
    if not from_stdin:
        yield pairs
        return
    for value in stdin_lines():
        if value:
            yield {**pairs, from_stdin[0]: value}


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--attribute {text!r}: expected NAME=VALUE such as user.id=ada")
    return name, value


def _from_file(ctx: click.Context, file: str, name: str, weight: float) -> RouteTraffic:
    from xds_server.plan import RouteTraffic

    loaded = read_specs([file])
    if report(problems_of(loaded), err=True):
        ctx.exit(Exit.FAILED)
    return RouteTraffic.with_weight(
        _named([route for one in loaded for route in one.routes], name, file), round(100 * weight)
    )


def _running(ctx: click.Context, server: str, name: str) -> RouteTraffic:
    """Return the current traffic of a route from the control plane."""
    from xds_server.plan import RouteTraffic
    from xds_server.rollout import Segment, Split
    from xds_server.spec import load

    api = Api(server)
    view = api.get(f"/v1/routes/{quote(name)}")
    loaded = load(api.text(f"/v1/routes/{quote(name)}/spec"), file=f"{server} {name}")
    if not loaded.ok:
        report(loaded.problems, err=True)
        ctx.exit(Exit.FAILED)
    return RouteTraffic(
        route=_named(list(loaded.routes), name, server),
        splits=tuple(
            Split(name=split, segments=tuple(Segment(variant=v, slots=n) for v, n in segments))
            for split, segments in view["splits"].items()
        ),
        mirror=round(100 * view["mirror_percent"]),
        killed=view["kill"] is not None,
        dead=frozenset(view["dead"]),
    )


def _named(routes: list[ModelRoute], name: str, source: str) -> ModelRoute:
    for route in routes:
        if route.metadata.name == name:
            return route
    listed = ", ".join(route.metadata.name for route in routes) or "none"
    raise click.UsageError(f"no route {name!r} in {source}; defined routes: {listed}")
