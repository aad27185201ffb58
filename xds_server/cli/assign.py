"""`shiftplane assign`: which variant a user gets, worked out as the proxies do it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from xds_server.cli.client import Api, Exit, output_option, server_option
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
    help="What is known of the user; repeatable. NAME=- reads one value per line of standard input.",
)
@click.option("--path", default=None, help="The path of the request; by default one that the route takes.")
@click.option(
    "--spec", "file", default=None, metavar="FILE", help="Take the route from this file; no server."
)
@click.option(
    "--weight",
    type=click.FloatRange(0, _FULL),
    default=0.0,
    show_default=True,
    help="With --spec: the candidate's weight in percent.",
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
    """Say which variant and prompt version a user of route NAME gets, and by which of its routes.

    Asks the control plane where the rollout stands, or with --spec takes a fresh one at --weight.
    Example: shiftplane assign chat -a user.id=ada -a org.id=acme
    """
    traffic = _running(ctx, server, name) if file is None else _from_file(ctx, file, name, weight)
    found = list(_assignments(traffic, attributes, path))
    if output != "table":
        print_data({"route": name, "assignments": found}, output)
        return
    for item in found:
        slot = "" if item["slot"] is None else f" (slot {item['slot']:,} of 10,000)"
        prompt = f", prompt {item['prompt']}" if item["prompt"] else ""
        who = " ".join(f"{key}={value}" for key, value in item["attributes"].items()) or "anybody"
        served = item["variant"] or f"depends on {item['why']}"
        click.echo(f"{who}: {served}{slot} by {item['by']}{prompt}")


def _assignments(traffic: RouteTraffic, given: tuple[str, ...], path: str | None) -> Iterator[dict[str, Any]]:
    from xds_server.plan import assign_request, header_of, route_table

    route = traffic.route
    known = dict(_pair(text) for text in given)
    for attribute in known:
        if attribute not in route.spec.attributes:
            listed = ", ".join(route.spec.attributes) or "it has none"
            raise click.UsageError(f"route {route.metadata.name} has no attribute {attribute!r}: {listed}")
    table = route_table(traffic)
    where = path or route.spec.match.path.exact or route.spec.match.path.prefix or "/"
    for attributes in _users(known):
        headers = {header_of(route, attribute): value for attribute, value in attributes.items()}
        found = assign_request(table, where, headers)
        if found is None:
            raise click.UsageError(f"route {route.metadata.name} does not take requests for {where}")
        yield {
            "attributes": attributes,
            "variant": found.variant,
            "slot": found.slot,
            "by": found.route,
            "prompt": found.prompt,
            "why": found.why,
        }


def _users(known: dict[str, str]) -> Iterator[dict[str, str]]:
    many = [attribute for attribute, value in known.items() if value == "-"]
    if len(many) > 1:
        raise click.UsageError("one attribute only can come from standard input")
    if not many:
        yield known
        return
    for line in sys.stdin:
        if value := line.rstrip("\r\n"):
            yield {**known, many[0]: value}


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--attribute {text!r}: NAME=VALUE is allowed, such as user.id=ada")
    return name, value


def _from_file(ctx: click.Context, file: str, name: str, weight: float) -> RouteTraffic:
    from xds_server.plan import RouteTraffic

    loaded = read_specs([file])
    if report(problems_of(loaded), err=True):
        ctx.exit(Exit.REFUSED)
    return RouteTraffic.with_weight(
        _named([route for one in loaded for route in one.routes], name, file), round(100 * weight)
    )


def _running(ctx: click.Context, server: str, name: str) -> RouteTraffic:
    """Return what the control plane's rollout says; its spec is read as `lint` would read it."""
    from xds_server.plan import RouteTraffic
    from xds_server.rollout import Segment, Split
    from xds_server.spec import load

    api = Api(server)
    view = api.get(f"/v1/routes/{quote(name)}")
    loaded = load(api.text(f"/v1/routes/{quote(name)}/spec"), file=f"{server} {name}")
    if not loaded.ok:
        report(loaded.problems, err=True)
        ctx.exit(Exit.REFUSED)
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


def _named(routes: list[ModelRoute], name: str, where: str) -> ModelRoute:
    for route in routes:
        if route.metadata.name == name:
            return route
    raise click.UsageError(f"there is no route {name!r} in {where}")
