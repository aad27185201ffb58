"""`shiftplane promote`, `pause`, `resume` and `abort`: what an operator tells a rollout."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from xds_server.cli.client import Api, actor, output_option, server_option
from xds_server.cli.out import console, print_data

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["abort", "pause", "promote", "resume"]

_reason = click.option("--reason", "-m", default="", help="Why; kept in the history.")


def _send(name: str, command: str, server: str, output: str, body: dict[str, Any]) -> None:
    view = Api(server).post(f"/v1/routes/{quote(name)}/{command}", {"actor": actor(), **body})
    if output != "table":
        print_data(view, output)
        return
    from xds_server.cli.render import route_panel

    console().print(route_panel(view, time.time(), events=3))


def _plain(command: str, text: str) -> Callable[..., None]:
    def run(name: str, reason: str, server: str, output: str) -> None:
        _send(name, command, server, output, {"reason": reason})

    run.__doc__ = text
    return run


@click.command()
@click.argument("name")
@click.option("--full", is_flag=True, help="Go straight to the last weight.")
@_reason
@server_option
@output_option
def promote(name: str, reason: str, server: str, output: str, *, full: bool) -> None:
    """Go on to the next step: end a pause, or a shadow without an end.

    Proxies must still hold a step before the next one begins.
    Example: shiftplane promote chat -m "looks good"
    """
    _send(name, "promote", server, output, {"reason": reason, "full": full})


def _command(command: str, text: str) -> click.Command:
    callback = _reason(server_option(output_option(_plain(command, text))))
    return click.command(name=command, help=text)(click.argument("name")(callback))


pause = _command(
    "pause",
    'Stop the clock where it stands; weights stay. Example: shiftplane pause chat -m "incident 42"',
)
resume = _command(
    "resume", "Let the clock go on with the time that was left. Example: shiftplane resume chat"
)
abort = _command(
    "abort",
    "Take the candidate's weight and its shadow back to zero at once, from any phase. "
    'Example: shiftplane abort chat -m "answers are worse"',
)
