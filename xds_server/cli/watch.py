"""`shiftplane watch`: show a rollout live; in a pipe, one line per change."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from xds_server.cli.client import Api, Exit, Unreachable, server_option
from xds_server.cli.out import console, percent, time_text
from xds_server.cli.status import ENDED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["watch", "watch_table"]


@click.command()
@click.argument("name")
@click.option(
    "--until-done",
    is_flag=True,
    help="Exit when the rollout ends: code 0 if healthy, 1 if rolled back, degraded or killed.",
)
@click.option("--once", is_flag=True, help="Print the current state once and exit.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 60),
    default=0.5,
    show_default=True,
    help="Time between updates, in seconds.",
)
@server_option
@click.pass_context
def watch(
    ctx: click.Context, name: str, interval: float, server: str, *, until_done: bool, once: bool
) -> None:
    """Watch the weights, steps, convergence, pairs and recent events of a rollout.

    Ctrl-C ends the command and does not affect the rollout.

    Example: shiftplane watch chat --until-done
    """
    api, path = Api(server), f"/v1/routes/{quote(name)}"
    first = api.get(path)  # Fails at once if the route or server is unknown.
    if once:
        from xds_server.cli.render import route_panel

        console().print(route_panel(first, time.time()))
        return
    try:
        last = (_watch_live if sys.stdout.isatty() else _watch_lines)(
            _poll(api, path, interval), until_done=until_done
        )
    except KeyboardInterrupt:
        return
    if until_done and last is not None:
        ctx.exit(ENDED.get(last["phase"], Exit.FAILED))


def watch_table(fetch: Callable[[], list[dict[str, Any]]], output: str) -> None:
    """Update the list of routes until Ctrl-C; in a pipe, or as JSON or YAML, print one line per change."""
    try:
        if sys.stdout.isatty() and output == "table":
            _watch_table_live(fetch)
        else:
            _watch_table_lines(fetch, output)
    except KeyboardInterrupt:
        return


def _watch_table_live(fetch: Callable[[], list[dict[str, Any]]]) -> None:
    from rich.live import Live

    from xds_server.cli.render import routes_table

    with Live(console=console(), refresh_per_second=4) as live:
        for views in _poll_table(fetch):
            live.update(routes_table(views))


def _watch_table_lines(fetch: Callable[[], list[dict[str, Any]]], output: str) -> None:
    printed: dict[str, str] = {}
    for views in _poll_table(fetch):
        for view in views:
            line = json.dumps(view) if output == "json" else f"{view['name']} {_line(view)}"
            if printed.get(view["name"]) != line:
                printed[view["name"]] = line
                click.echo(line)


def _poll_table(fetch: Callable[[], list[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
    while True:
        try:
            yield fetch()
        except Unreachable:
            click.echo("control plane unreachable; proxies keep their configuration", err=True)
        time.sleep(1.0)


def _poll(api: Api, path: str, interval: float) -> Iterator[dict[str, Any] | None]:
    """Yield the view of a route repeatedly; None while the control plane is unreachable."""
    while True:
        try:
            yield api.get(path)
        except Unreachable:
            yield None
        time.sleep(interval)


def _watch_live(views: Iterator[dict[str, Any] | None], *, until_done: bool) -> dict[str, Any] | None:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from xds_server.cli.render import route_panel

    view: dict[str, Any] | None = None
    with Live(console=console(), refresh_per_second=8, transient=False) as live:
        for newest in views:
            view = newest or view
            if view is None:
                continue
            panel = route_panel(view, time.time())
            warning = "control plane unreachable; proxies keep their configuration"
            lost = Text(warning, style="bold yellow")
            live.update(panel if newest else Group(panel, lost))
            if until_done and newest and view["phase"] in ENDED:
                break
    return view


def _watch_lines(views: Iterator[dict[str, Any] | None], *, until_done: bool) -> dict[str, Any] | None:
    printed, seq, lost = "", 0, False
    for view in views:
        if view is None:
            if not lost:
                click.echo("control plane unreachable", err=True)
            lost = True
            continue
        lost = False
        for event in view["events"]:
            if event["seq"] > seq:
                seq = event["seq"]
                click.echo(f"{time_text(event['at'], time.time())} {event['kind']}: {event['message']}")
        line = _line(view)
        if line != printed:
            printed = line
            click.echo(line)
        if until_done and view["phase"] in ENDED:
            return view
    return None


def _line(view: dict[str, Any]) -> str:
    weights = " ".join(
        f"{name}={percent(weight).replace(' ', '')}" for name, weight in view["weights"].items()
    )
    convergence = view["convergence"]
    return f"{view['phase']} {weights} proxies={convergence['acked']}/{convergence['connected']}"
