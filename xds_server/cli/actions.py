"""Operator commands: `promote`, `pause`, `resume`, `abort`, `undo`, `retry`, `kill` and `unkill`."""

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
_POLL_SECONDS: Final = 0.05

_reason = click.option(
    "--reason", "-m", default="", help="Reason for the command, recorded in the history and the audit log."
)
_undo_reason = click.option(
    "--reason",
    "-m",
    default="",
    help="Reason, recorded in the history and the audit log; with --to, only in the audit log.",
)


def _send(
    name: str, command: str, server: str, output: str, body: dict[str, Any], *, wait: bool = False
) -> None:
    api = Api(server)
    view = api.post(
        f"/v1/routes/{quote(name)}/{command}", {"actor": actor(), **body}, key=secrets.token_hex(16)
    )
    if wait:
        view = _await_convergence(api, name, view)
    if output != "table":
        print_data(view, output)
        return
    from xds_server.cli.render import route_panel

    console().print(route_panel(view, time.time(), events=3))


def _await_convergence(api: Api, name: str, view: dict[str, Any]) -> dict[str, Any]:
    """Poll until all proxies are synced and no rollback runs; return the last view.

    Stop after `_WAIT_SECONDS` at the latest.
    """
    deadline = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < deadline:
        convergence = view["convergence"]
        if view["phase"] != "RollingBack" and convergence["acked"] >= convergence["connected"]:
            break
        time.sleep(_POLL_SECONDS)
        view = dict(api.get(f"/v1/routes/{quote(name)}"))
    return view


def _callback(command: str, text: str, *, wait: bool) -> Callable[..., None]:
    def run(name: str, reason: str, server: str, output: str) -> None:
        _send(name, command, server, output, {"reason": reason}, wait=wait)

    run.__doc__ = text
    return run


@click.command()
@click.argument("name")
@click.option(
    "--full",
    is_flag=True,
    help="Promote to the last weight at once; at or without one, end the current step.",
)
@_reason
@server_option
@output_option
def promote(name: str, reason: str, server: str, output: str, *, full: bool) -> None:
    """Promote a rollout to its next step. This also ends a pause or shadow that has no duration.

    The command fails while the current step has not converged, or while the backend that would gain weight
    has no healthy endpoint.

    Example: shiftplane promote chat -m "looks good"
    """
    _send(name, "promote", server, output, {"reason": reason, "full": full})


def _command(command: str, text: str, *, wait: bool = False) -> click.Command:
    callback = _reason(server_option(output_option(_callback(command, text, wait=wait))))
    return click.command(name=command, help=text)(click.argument("name")(callback))


pause = _command(
    "pause",
    "Pause a rollout at its current weights and stop its clock.\n\n"
    'Example: shiftplane pause chat -m "incident 42"',
)
resume = _command(
    "resume",
    "Resume a paused rollout with the remaining time of its step, or end a pause step.\n\n"
    "Example: shiftplane resume chat",
)
abort = _command(
    "abort",
    "Abort a rollout: return all users to the stable backend and stop copied requests at once.\n\n"
    'Example: shiftplane abort chat -m "answers are worse"',
    wait=True,
)
retry = _command(
    "retry",
    "Retry a rollout that ended without a promotion, with the same spec. A degraded rollout continues with "
    'a new deadline.\n\nExample: shiftplane retry chat -m "v2 has more memory now"',
)
kill = _command(
    "kill",
    "Send all users to one backend (killSwitch.serve, by default the stable one) at once, and stop copies, "
    "capture and prompt injection. The clock of the rollout stops; `unkill` restores weights, step and "
    "clock. Requires a reason.\n\n"
    'Example: shiftplane kill chat -m "v2 leaks names"',
    wait=True,
)
unkill = _command(
    "unkill",
    "Turn the kill switch off and restore weights, step and clock.\n\n"
    'Example: shiftplane unkill chat -m "fixed"',
    wait=True,
)


@click.command()
@click.argument("name")
@click.option("--to", type=click.IntRange(min=1), help="Apply the spec of this generation again.")
@_undo_reason
@server_option
@output_option
def undo(name: str, to: int | None, reason: str, server: str, output: str) -> None:
    """Undo a rollout, running or ended: return all users to stable. With --to, apply an earlier spec.

    `shiftplane history` lists the generations.

    Example: shiftplane undo chat -m "v2 is worse after all"
    """
    _send(name, "undo", server, output, {"reason": reason, "to": to}, wait=True)
