"""`shiftplane history`: the events of a route."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import click

from xds_server.cli.client import Api, output_option, server_option
from xds_server.cli.out import console, percent, print_data, time_text

__all__ = ["history"]

_limit = click.option(
    "--limit",
    "-n",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="Maximum number of events; the newest are shown.",
)


@click.command()
@click.argument("name")
@_limit
@server_option
@output_option
def history(name: str, limit: int, server: str, output: str) -> None:
    """Show the events of a route with their generation, revision, phase, weights, actor and message.

    Example: shiftplane history chat -n 20
    """
    events = Api(server).get(f"/v1/routes/{quote(name)}/events?limit={limit}")["events"]
    if output != "table":
        print_data({"events": events}, output)
        return
    columns = ("TIME", "GEN", "REV", "PHASE", "WEIGHTS", "ACTOR", "EVENT", "MESSAGE")
    _table(columns, [_event(event) for event in events])


def _event(event: dict[str, Any]) -> tuple[str, ...]:
    weights = ", ".join(f"{name} {percent(share)}" for name, share in event["weights"].items())
    return (
        time_text(event["at"], time.time()),
        str(event["generation"] or ""),
        str(event["revision"] or ""),
        event["phase"] or "",
        weights,
        event["actor"],
        event["kind"],
        event["message"],
    )


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column != columns[-1])
    for row in rows:
        table.add_row(*row)
    console().print(table)
