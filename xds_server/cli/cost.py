"""`shiftplane cost`: what each model of a route took and cost, by day."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from xds_server.cli.client import Api, output_option, server_option
from xds_server.cli.out import print_data

__all__ = ["cost"]


@click.command()
@click.argument("route")
@click.option("--days", type=click.IntRange(1, 400), default=7, show_default=True, help="The newest days.")
@server_option
@output_option
def cost(route: str, days: int, server: str, output: str) -> None:
    """Say what users and copies of ROUTE took and cost, by day and backend (days are UTC).

    Example: shiftplane cost chat --days 30 -o json
    """
    found: list[dict[str, Any]] = Api(server).get(f"/v1/routes/{quote(route)}/costs")["days"]
    newest = sorted({item["day"] for item in found})[-days:]
    shown = [item for item in found if item["day"] in newest]
    if output != "table":
        print_data({"route": route, "days": shown}, output)
        return
    if not shown:
        click.echo("nothing was counted yet")
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
        "ESTIMATED",
        "COST",
        "EACH",
    ):
        table.add_column(name, justify="left" if name in {"DAY", "BACKEND"} else "right")
    for item in shown:
        priced = item["cost"] is not None
        table.add_row(
            item["day"],
            item["variant"] + ("" if item["role"] == "primary" else f" ({item['role']})"),
            f"{item['requests']:,}",
            f"{item['failed']:,}",
            f"{item['prompt_tokens']:,}",
            f"{item['completion_tokens']:,}",
            f"{item['estimated_tokens']:,}",
            f"{item['cost']:,.4f} {item['currency']}" if priced else "-",
            f"{item['per_request']:.6f}" if priced and item["per_request"] is not None else "-",
        )
    console().print(table)
    budget = Api(server).get(f"/v1/routes/{quote(route)}").get("shadow_budget")
    if budget is not None:
        spent = "not known yet" if budget["spent"] is None else f"{budget['spent']:,.0f}"
        click.echo(f"copies may cost {budget['limit']:,.0f} tokens a second; lately {spent}")
