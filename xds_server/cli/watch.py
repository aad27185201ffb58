"""`shiftplane watch`: a rollout as it happens; in a pipe, one line per change."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from xds_server.cli.client import Api, Exit, Unreachable, server_option
from xds_server.cli.out import ago, console, percent
from xds_server.cli.status import ENDED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["watch", "watch_table"]


@click.command()
@click.argument("name")
@click.option(
    "--until-done",
    is_flag=True,
    help="End with the rollout: exit code 0 if healthy, 1 if taken back, degraded or killed.",
)
@click.option("--once", is_flag=True, help="Print one picture and end.")
@click.option("--interval", type=click.FloatRange(0.1, 60), default=0.5, show_default=True, help="Seconds.")
@server_option
@click.pass_context
def watch(
    ctx: click.Context, name: str, interval: float, server: str, *, until_done: bool, once: bool
) -> None:
    """Watch a rollout live: weights, steps and their clock, convergence, pairs, last events.

    Ctrl-C ends the watching, never the rollout. Example: shiftplane watch chat --until-done
    """
    api, path = Api(server), f"/v1/routes/{quote(name)}"
    first = api.get(path)  # An unknown route or server is said at once.
    if once:
        from xds_server.cli.render import route_panel

        console().print(route_panel(first, time.time()))
        return
    try:
        last = (_live if sys.stdout.isatty() else _lines)(_views(api, path, interval), until_done=until_done)
    except KeyboardInterrupt:
        return
    if until_done and last is not None:
        ctx.exit(ENDED.get(last["phase"], Exit.REFUSED))


def watch_table(asked: Callable[[], list[dict[str, Any]]], output: str) -> None:
    """Show the list of routes again and again; in a pipe, or as data, what is new of each route once."""
    try:
        if sys.stdout.isatty() and output == "table":
            _live_table(asked)
        else:
            _table_lines(asked, output)
    except KeyboardInterrupt:
        return


def _live_table(asked: Callable[[], list[dict[str, Any]]]) -> None:
    from rich.live import Live

    from xds_server.cli.render import routes_table

    with Live(console=console(), refresh_per_second=4) as live:
        for views in _again(asked):
            live.update(routes_table(views))


def _table_lines(asked: Callable[[], list[dict[str, Any]]], output: str) -> None:
    said: dict[str, str] = {}
    for views in _again(asked):
        for view in views:
            line = json.dumps(view) if output == "json" else f"{view['name']} {_line(view)}"
            if said.get(view["name"]) != line:
                said[view["name"]] = line
                click.echo(line)


def _again(asked: Callable[[], list[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
    while True:
        try:
            yield asked()
        except Unreachable:
            click.echo("control plane does not answer; users are served as before", err=True)
        time.sleep(1.0)


def _views(api: Api, path: str, interval: float) -> Iterator[dict[str, Any] | None]:
    """Yield the view again and again; None while the control plane does not answer."""
    while True:
        try:
            yield api.get(path)
        except Unreachable:
            yield None
        time.sleep(interval)


def _live(views: Iterator[dict[str, Any] | None], *, until_done: bool) -> dict[str, Any] | None:
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
            lost = Text("the control plane does not answer; users are served as before", style="bold yellow")
            live.update(panel if newest else Group(panel, lost))
            if until_done and newest and view["phase"] in ENDED:
                break
    return view


def _lines(views: Iterator[dict[str, Any] | None], *, until_done: bool) -> dict[str, Any] | None:
    said, seq, lost = "", 0, False
    for view in views:
        if view is None:
            if not lost:
                click.echo("control plane does not answer", err=True)
            lost = True
            continue
        lost = False
        for event in view["events"]:
            if event["seq"] > seq:
                seq = event["seq"]
                click.echo(f"{ago(event['at'], time.time())} {event['kind']}: {event['message']}")
        line = _line(view)
        if line != said:
            said = line
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
