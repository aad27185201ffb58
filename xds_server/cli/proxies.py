"""`shiftplane proxies`: connected proxies and their sync status."""

from __future__ import annotations

import time

import click

from xds_server.cli.client import Api, output_option, server_option
from xds_server.cli.out import console, print_data

__all__ = ["proxies"]


@click.command()
@click.option("--group", default=None, help="Show only proxies of this group.")
@server_option
@output_option
def proxies(group: str | None, server: str, output: str) -> None:
    """List connected proxies with their status: SYNCED, STALE, or NACKED with the error of the proxy.

    Example: shiftplane proxies --group chat
    """
    views = [view for view in Api(server).get("/v1/proxies")["proxies"] if group in {None, view["group"]}]
    if output != "table":
        print_data({"proxies": views}, output)
        return
    if not views:
        scope = "" if group is None else f" of group {group}"
        click.echo(
            f"no proxy{scope} is connected; create an Envoy bootstrap with: "
            f"shiftplane bootstrap --group {group or 'NAME'}",
            err=True,
        )
        return
    from xds_server.cli.render import proxies_table

    console().print(proxies_table(views, time.time()))
