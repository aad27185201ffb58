"""`shiftplane get` and `shiftplane describe`: show routes."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import click

from xds_server.cli.client import Api, output_option, server_option
from xds_server.cli.out import console, print_data

__all__ = ["describe", "get"]


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--watch",
    "-w",
    is_flag=True,
    help="Watch for changes until Ctrl-C. In a pipe, print one line per change.",
)
@server_option
@output_option
def get(names: tuple[str, ...], server: str, output: str, *, watch: bool) -> None:
    """List all routes, or the named ones.

    Example: shiftplane get -o json
    """
    api = Api(server)

    def fetch() -> list[dict[str, Any]]:
        return [api.get(f"/v1/routes/{quote(name)}") for name in names] or list(
            api.get("/v1/routes")["routes"]
        )

    views = fetch()
    if watch:
        from xds_server.cli.watch import watch_table

        watch_table(fetch, output)
        return
    if output != "table":
        print_data({"routes": views}, output)
        return
    if not views:
        click.echo("no routes; apply one with: shiftplane apply route.yaml", err=True)
        return
    from xds_server.cli.render import routes_table

    console().print(routes_table(views))


@click.command()
@click.argument("name")
@click.option("--spec", is_flag=True, help="Print the accepted spec instead.")
@server_option
@output_option
def describe(name: str, server: str, output: str, *, spec: bool) -> None:
    """Show weights, steps, convergence, analysis, pairs, outcomes of requests, costs and events of a route.

    Example: shiftplane describe chat
    """
    api = Api(server)
    if spec:
        click.echo(api.text(f"/v1/routes/{quote(name)}/spec"), nl=False)
        return
    view = api.get(f"/v1/routes/{quote(name)}")
    if output != "table":
        print_data(view, output)
        return
    from xds_server.cli.render import route_panel

    console().print(route_panel(view, time.time(), events=20))
