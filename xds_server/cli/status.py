"""`shiftplane status`: how a rollout stands, for people in a hurry and for pipelines."""

from __future__ import annotations

import time
from typing import Any, Final
from urllib.parse import quote

import click

from xds_server.cli.client import Api, Exit, output_option, server_option
from xds_server.cli.out import percent, print_data

__all__ = ["ENDED", "status"]

ENDED: Final = {
    "Healthy": Exit.OK,
    "RolledBack": Exit.REFUSED,
    "Degraded": Exit.REFUSED,
    "Killed": Exit.REFUSED,
}


@click.command()
@click.argument("name")
@click.option("--wait", is_flag=True, help="Until the rollout has ended, or waits for somebody.")
@click.option(
    "--timeout",
    type=click.FloatRange(0),
    default=3_600.0,
    show_default=True,
    help="Seconds to wait at the most.",
)
@server_option
@output_option
@click.pass_context
def status(ctx: click.Context, name: str, timeout: float, server: str, output: str, *, wait: bool) -> None:
    """Say in one line how a rollout stands. The exit code says it to pipelines.

    0: healthy, or under way. 1: taken back, degraded or killed. 4: --wait ran into --timeout. A rollout that
    waits for an operator ends --wait with 0: go on with `shiftplane promote`.

    Example: shiftplane status chat --wait --timeout 1800
    """
    api, path = Api(server), f"/v1/routes/{quote(name)}"
    end = time.monotonic() + timeout
    view = api.get(path)
    while wait and not _settled(view) and time.monotonic() < end:
        time.sleep(min(0.5, max(0.0, end - time.monotonic())))
        view = api.get(path)
    if output == "table":
        click.echo(_line(view))
    else:
        print_data(view, output)
    if wait and not _settled(view):
        click.echo(f"{name} has not ended after {timeout:g} s", err=True)
        ctx.exit(Exit.TIMEOUT)
    ctx.exit(ENDED.get(view["phase"], Exit.OK))


def _settled(view: dict[str, Any]) -> bool:
    step = view["step"]
    return view["phase"] in ENDED or (step is not None and step["waiting_for"] == "operator")


def _line(view: dict[str, Any]) -> str:
    from xds_server.cli.render import waiting

    weights = ", ".join(f"{name} {percent(share)}" for name, share in view["weights"].items())
    held = view["convergence"]
    outcome = f" ({view['outcome']})" if view["outcome"] and view["outcome"] != view["phase"] else ""
    said = [
        f"{view['name']}: {view['phase']}{outcome}",
        weights,
        f"{held['acked']} of {held['connected']} proxies",
    ]
    verdict = view.get("analysis")
    if verdict is not None:
        said.append(f"verdict {verdict['finding']}")
    waits = waiting(view, time.time())
    return " · ".join([*said, waits] if waits else said)
