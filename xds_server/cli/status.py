"""`shiftplane status`: the status of a rollout in one line, with an exit code for pipelines."""

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
    "RolledBack": Exit.FAILED,
    "Degraded": Exit.FAILED,
    "Killed": Exit.FAILED,
}


@click.command()
@click.argument("name")
@click.option("--wait", is_flag=True, help="Wait until the rollout has ended or waits for an operator.")
@click.option(
    "--timeout",
    type=click.FloatRange(0),
    default=3_600.0,
    show_default=True,
    help="Maximum time to wait, in seconds.",
)
@server_option
@output_option
@click.pass_context
def status(ctx: click.Context, name: str, timeout: float, server: str, output: str, *, wait: bool) -> None:
    """Show the status of a rollout in one line.

    Exit code: 0 if the rollout is healthy or in progress, 1 if it is rolled back, degraded or killed, and 4
    if --wait reached --timeout. A rollout that waits for an operator ends --wait with 0; continue with
    `shiftplane promote`.

    Example: shiftplane status chat --wait --timeout 1800
    """
    api, path = Api(server), f"/v1/routes/{quote(name)}"
    deadline = time.monotonic() + timeout
    view = api.get(path)
    while wait and not _settled(view) and time.monotonic() < deadline:
        time.sleep(min(0.5, max(0.0, deadline - time.monotonic())))
        view = api.get(path)
    if output == "table":
        click.echo(_line(view))
    else:
        print_data(view, output)
    if wait and not _settled(view):
        click.echo(
            f"the rollout of {name} neither ended nor waited for an operator within {timeout:g} s", err=True
        )
        ctx.exit(Exit.TIMEOUT)
    ctx.exit(ENDED.get(view["phase"], Exit.OK))


def _settled(view: dict[str, Any]) -> bool:
    step = view["step"]
    return view["phase"] in ENDED or (step is not None and step["waiting_for"] == "operator")


def _line(view: dict[str, Any]) -> str:
    from xds_server.cli.render import waiting
    from xds_server.cli.render_outcomes import failed_guards

    weights = ", ".join(f"{name} {percent(share)}" for name, share in view["weights"].items())
    convergence = view["convergence"]
    outcome = f" ({view['outcome']})" if view["outcome"] and view["outcome"] != view["phase"] else ""
    parts = [
        f"{view['name']}: {view['phase']}{outcome}",
        weights,
        f"{convergence['acked']} of {convergence['connected']} proxies synced",
    ]
    verdict = view.get("analysis")
    # Without metrics, only Fail is a verdict: guards that did not fail do not prove that a candidate is good.
    if verdict is not None and (verdict["metrics"] or verdict["finding"] == "Fail"):
        parts.append(f"verdict {verdict['finding']}")
    for label, found in (
        ("failed guards", failed_guards(view)),
        ("withdrawn", view.get("withdrawn", ())),
        ("not guarded", view.get("unguarded", ())),
    ):
        if found:
            parts.append(f"{label}: {', '.join(found)}")
    reason = waiting(view, time.time())
    return " · ".join([*parts, reason] if reason else parts)
