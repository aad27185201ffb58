"""`shiftplane cost`: requests, tokens and costs of a route by day."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from xds_server.cli.client import Api, output_option, server_option
from xds_server.cli.out import print_data

__all__ = ["cost"]


@click.command()
@click.argument("route")
@click.option(
    "--days",
    type=click.IntRange(1, 400),
    default=7,
    show_default=True,
    help="Number of days to show: the most recent days with requests.",
)
@server_option
@output_option
def cost(route: str, days: int, server: str, output: str) -> None:
    """Show requests, tokens and costs of ROUTE by day (UTC) and backend, copies included.

    Example: shiftplane cost chat --days 30 -o json
    """
    items: list[dict[str, Any]] = Api(server).get(f"/v1/routes/{quote(route)}/costs")["days"]
    newest = sorted({item["day"] for item in items})[-days:]
    shown = [item for item in items if item["day"] in newest]
    if output != "table":
        print_data({"route": route, "days": shown}, output)
        return
    if not shown:
        click.echo(f"no requests of route {route} have been stored yet (counts are stored every 30 s)")
        return
    from rich.table import Table

    from xds_server.cli.out import console

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (
        "DAY",
        "BACKEND",
        "REQUESTS",
        "FAILED",
        "TOKENS IN",
        "TOKENS OUT",
        "ESTIMATED TOKENS",
        "COST",
        "COST PER REQUEST",
    ):
        table.add_column(name, justify="left" if name in {"DAY", "BACKEND"} else "right")
    for item in shown:
        priced, about = item["cost"] is not None, "~" if item["estimated_tokens"] else ""
        table.add_row(
            item["day"],
            item["variant"] + ("" if item["role"] == "primary" else f" ({item['role']})"),
            f"{item['requests']:,}",
            f"{item['failed']:,}",
            f"{item['prompt_tokens']:,}",
            f"{item['completion_tokens']:,}",
            f"{about}{item['estimated_tokens']:,}",
            f"{about}{item['cost']:,.4f} {item['currency']}" if priced else "-",
            f"{about}{item['per_request']:.6f}" if priced and item["per_request"] is not None else "-",
        )
    console().print(table)
    if any(item["estimated_tokens"] for item in shown):
        click.echo("~ estimated, or a cost that includes estimated tokens")
    budget = Api(server).get(f"/v1/routes/{quote(route)}").get("shadow_budget")
    if budget is not None:
        spent = "unknown" if budget["spent"] is None else f"{budget['spent']:,.0f} tokens/s"
        click.echo(f"shadow budget: {budget['limit']:,.0f} tokens/s; current rate of copies: {spent}")
