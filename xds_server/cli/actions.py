"""`shiftplane promote`, `pause`, `abort`, `undo`, `kill` and the like: what an operator tells a rollout."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import click

from xds_server.cli.client import Api, actor, output_option, server_option
from xds_server.cli.out import console, print_data

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["abort", "kill", "pause", "promote", "resume", "retry", "undo", "unkill"]

_WAIT_SECONDS: Final = 5.0
_ASK_SECONDS: Final = 0.05

_reason = click.option("--reason", "-m", default="", help="Why; kept in the history.")


def _send(
    name: str, command: str, server: str, output: str, body: dict[str, Any], *, wait: bool = False
) -> None:
    api = Api(server)
    view = api.post(
        f"/v1/routes/{quote(name)}/{command}", {"actor": actor(), **body}, key=secrets.token_hex(16)
    )
    if wait:
        view = _held(api, name, view)
    if output != "table":
        print_data(view, output)
        return
    from xds_server.cli.render import route_panel

    console().print(route_panel(view, time.time(), events=3))


def _held(api: Api, name: str, view: dict[str, Any]) -> dict[str, Any]:
    """Ask until the proxies hold what was commanded, or for long enough; the view says which."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < deadline:
        held = view["convergence"]
        if view["phase"] != "RollingBack" and held["acked"] >= held["connected"]:
            break
        time.sleep(_ASK_SECONDS)
        view = dict(api.get(f"/v1/routes/{quote(name)}"))
    return view


def _plain(command: str, text: str, *, wait: bool) -> Callable[..., None]:
    def run(name: str, reason: str, server: str, output: str) -> None:
        _send(name, command, server, output, {"reason": reason}, wait=wait)

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


def _command(command: str, text: str, *, wait: bool = False) -> click.Command:
    callback = _reason(server_option(output_option(_plain(command, text, wait=wait))))
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
    wait=True,
)
retry = _command(
    "retry",
    "Begin a rollout that was taken back anew, without touching its spec; one that waits for proxies waits "
    'with a new deadline. Example: shiftplane retry chat -m "v2 has its memory now"',
)
kill = _command(
    "kill",
    "Have one backend (killSwitch.serve, by default the stable one) serve everyone at once, and stop copies "
    "and capture. Weights stay behind it, and so does the clock. Needs a reason. "
    'Example: shiftplane kill chat -m "v2 leaks names"',
    wait=True,
)
unkill = _command(
    "unkill",
    'Take a kill back: everything is as it was before it. Example: shiftplane unkill chat -m "fixed"',
    wait=True,
)


@click.command()
@click.argument("name")
@click.option("--to", type=click.IntRange(min=1), help="Accept the spec of this generation once more.")
@_reason
@server_option
@output_option
def undo(name: str, to: int | None, reason: str, server: str, output: str) -> None:
    """Take back what a rollout did, whether it has ended or not; with --to, go back to an earlier spec.

    `shiftplane history` lists the generations. Example: shiftplane undo chat -m "v2 is worse after all"
    """
    _send(name, "undo", server, output, {"reason": reason, "to": to}, wait=True)
