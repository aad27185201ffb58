"""`shiftplane plan`: show the steps of a rollout and its Envoy resources, without a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from xds_server.cli.client import Exit, output_option
from xds_server.cli.out import percent, print_data, seconds
from xds_server.cli.specs import problems_of, read_specs, report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.rollout import State, Step
    from xds_server.spec import ModelRoute

__all__ = ["plan", "render_group", "render_groups"]

_ENTRY = ("0.0.0.0", 10_000)
_SHOWN = 3
_PROMPT = "prompt versions: "
_INCONCLUSIVE = {
    "Hold": "the rollout waits for the verdict Pass or an operator",
    "Rollback": "the rollout rolls back",
    "Promote": "the rollout continues as after the verdict Pass",
}


@click.command()
@click.argument("paths", nargs=-1, required=True)
@click.option(
    "--step",
    type=click.IntRange(0),
    default=None,
    help="Step whose resources to show, counted from 1. Default: 0, before the first step.",
)
@click.option("--resources", is_flag=True, help="Print the complete Envoy resources.")
@output_option
@click.pass_context
def plan(
    ctx: click.Context, paths: tuple[str, ...], output: str, step: int | None, *, resources: bool
) -> None:
    """Show the steps of a rollout and the Envoy resources of its proxies. Nothing is applied.

    Example: shiftplane plan chat.yaml --step 1 --resources
    """
    loaded = read_specs(paths)
    if report(problems_of(loaded), err=True):
        ctx.exit(Exit.FAILED)
    routes = [route for one in loaded for route in one.routes]
    groups, outline = render_groups(routes, step), [_route(route) for route in routes]
    if output != "table" or resources:
        data = groups if resources else {"routes": outline, "groups": groups}
        print_data(data, "json" if output == "json" else "yaml")
        return
    for item in outline:
        _print_route(item)
    for group, kinds in groups.items():
        click.echo(f"\nresources of group {group}:")
        for kind, named in kinds.items():
            click.echo(f"  {kind}: {', '.join(named)}")
    click.echo("\nuse --resources to print the complete resources")


def render_groups(routes: list[ModelRoute], step: int | None) -> dict[str, Any]:
    """Return the resources of each group at a step, by type and name.

    Steps count from 1; None and 0 mean before the first step.
    """
    groups = sorted({route.spec.proxies.group for route in routes})
    return {group: render_group(routes, group, step) for group in groups}


def render_group(routes: list[ModelRoute], group: str, step: int | None) -> dict[str, dict[str, Any]]:
    """Return the resources of one group as plain values."""
    from xds_server import ir
    from xds_server.compiler import compile_resources
    from xds_server.plan import RouteTraffic
    from xds_server.sources.scripts import load_scripts
    from xds_server.translate import render

    states = [_state(route, step) for route in routes]
    traffic = [RouteTraffic.from_state(route, state) for route, state in zip(routes, states, strict=True)]
    entry = ir.Address(host=_ENTRY[0], port=_ENTRY[1])
    rendered: dict[str, dict[str, Any]] = {}
    for resource in compile_resources(
        ir.NodeClass(group=group, entry=entry), traffic, load_scripts(), collector=None
    ):
        kind = resource.type_url.rsplit(".", 1)[-1]
        rendered.setdefault(kind, {})[resource.name] = render(resource)
    return rendered


def _state(route: ModelRoute, step: int | None) -> State:
    """Return the state of a rollout at `step`, counted from 1, if all proxies converge at once."""
    from xds_server import rollout

    accepted = rollout.SpecAccepted(
        route=route.metadata.name, program=rollout.program(route, checked=False), digest="", actor=""
    )
    state, _ = rollout.step(None, accepted, 0.0)
    for _ in range(2 * (step or 0)):
        if state.phase is not rollout.Phase.PENDING and state.step + 1 >= (step or 0):
            break
        converged = rollout.Converged(revision=state.revision, acked=1, connected=1)
        state, _ = rollout.step(state, converged, 0.0)
        if state.converged and state.phase not in {rollout.Phase.PENDING, rollout.Phase.HEALTHY}:
            command = rollout.Command(command=rollout.Action.PROMOTE, actor="", reason="")
            if state.step + 1 < (step or 0):
                state, _ = rollout.step(state, command, 0.0)
    return state


def _route(route: ModelRoute) -> dict[str, Any]:
    from xds_server import rollout

    program = rollout.program(route)
    return {
        "name": route.metadata.name,
        "group": route.spec.proxies.group,
        "stable": program.stable,
        "candidate": program.candidate,
        "first": [*_precedence(route), *filter(None, [_prompt_text(route)])],
        "steps": [_step(step) for step in program.steps],
        "judged": _analysis_text(route),
        "guards": route.spec.analysis.guards.actions(),
        "guarded": _guards_text(route),
    }


def _analysis_text(route: ModelRoute) -> str:
    """Return the metrics of the analysis and its effect on timed steps; empty without metrics."""
    from xds_server.spec.units import duration_text

    analysis = route.spec.analysis
    if not analysis.metrics:
        return ""
    names = ", ".join(
        metric.name + ("" if metric.on_regression == "Rollback" else " (notify only)")
        for metric in analysis.metrics
    )
    text = f"analysis of {names}"
    if analysis.dry_run:
        return f"{text} (analysis.dryRun): verdicts are reported but do not affect the rollout"
    fail = (
        "the verdict Fail rolls back at once; "
        if any(m.on_regression == "Rollback" for m in analysis.metrics)
        else ""
    )
    return (
        f"{text}: {fail}a timed step with users on the candidate ends only with the verdict Pass; without "
        f"it, the step is extended by up to {duration_text(analysis.wait_for_verdict)}, and then "
        f"{_INCONCLUSIVE[analysis.on_inconclusive]} (onInconclusive: {analysis.on_inconclusive})"
    )


def _guards_text(route: ModelRoute) -> str:
    """Return the guards as text, grouped by their action on a failure, replaced and off guards included."""
    from xds_server.analysis.verdicts import replaced_guards

    analysis = route.spec.analysis
    actions, replaced = analysis.guards.actions(), replaced_guards(analysis)
    by_action: dict[str, list[str]] = {}
    for name, action in actions.items():
        by_action.setdefault("replaced" if name in replaced else action, []).append(name)
    roll_back = "report only: analysis.dryRun" if analysis.dry_run else "roll back"
    parts = [
        f"{', '.join(by_action[action])} ({effect})"
        for action, effect in (
            ("Rollback", roll_back),
            ("Notify", "report only"),
            ("replaced", "replaced by the metric success-rate"),
            ("off", "off"),
        )
        if action in by_action
    ]
    return f"guards of backends with users: {'; '.join(parts)}"


def _precedence(route: ModelRoute) -> Iterator[str]:
    """Yield what proxies evaluate before the strategy, in order, each as text."""
    spec = route.spec
    serve = spec.kill_switch.serve or spec.stable
    if spec.kill_switch.enabled:
        yield f"killed: {serve} serves all users ({spec.kill_switch.reason})"
    for target in spec.targeting.targets:
        yield f"target {target.attribute} in {_shortened(target.values)}: served by {target.serve}"
    for rule in spec.targeting.rules:
        clauses = " and ".join(f"{c.attribute} {c.op} {_shortened(c.values)}".rstrip() for c in rule.clauses)
        served = rule.serve if isinstance(rule.serve, str) else _shares(rule.serve.weights)
        yield f"rule {rule.name} ({clauses}): served by {served}"
    strategy = spec.strategy
    if strategy is not None and strategy.blue_green is not None and strategy.blue_green.preview_match:
        clauses = " and ".join(f"{c.attribute} {c.op}" for c in strategy.blue_green.preview_match)
        yield f"preview ({clauses}): served by {spec.candidate}"


def _prompt_text(route: ModelRoute) -> str:
    """Return which share of the requests receives which prompt version; empty without prompt versions."""
    from xds_server.rollout import FULL

    prompt = route.spec.prompt
    if prompt is None:
        return ""
    weights = {} if prompt.rollout is None else prompt.rollout.weights
    parts = [f"version {name} for {percent(share / 100)} of the users" for name, share in weights.items()]
    default = f"version {prompt.default}" if prompt.default else "no prompt version"
    if not parts:
        parts.append(default)
    elif sum(weights.values()) < FULL:
        parts.append(f"{default} for the others")
    return f"{_PROMPT}{', '.join(parts)}"


def _shortened(values: tuple[str, ...]) -> str:
    shown = ", ".join(values[:_SHOWN])
    return shown + (f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else "")


def _shares(weights: dict[str, int]) -> str:
    return ", ".join(f"{percent(share / 100)} {name}" for name, share in weights.items())


def _step(step: Step) -> dict[str, Any]:
    share = getattr(step, "weight", getattr(step, "percentage", None))
    return {
        "kind": step.kind,
        "percent": None if share is None else share / 100,
        "duration": getattr(step, "duration", None),
        "weights": {name: share / 100 for name, share in getattr(step, "weights", ())},
        "min_pairs": getattr(step, "min_pairs", None),
        "required_verdict": getattr(step, "required", None),
        "tokens_per_second": getattr(step, "tokens_per_second", None),
    }


def _print_route(item: dict[str, Any]) -> None:
    tested = item["candidate"] or ", ".join(name for step in item["steps"] for name in step["weights"])
    prompts = [text for text in item["first"] if text.startswith(_PROMPT)]
    earlier = [text for text in item["first"] if text not in prompts]
    if item["steps"]:
        click.echo(f"route {item['name']}: {item['stable']} → {tested}")
    else:
        users = "all other users" if earlier else "all users"
        click.echo(f"route {item['name']}: no rollout; {item['stable']} serves {users}")
    if earlier:
        click.echo("  evaluated before the strategy:" if item["steps"] else "  evaluated first:")
    for text in earlier:
        click.echo(f"    {text}")
    for text in prompts:
        click.echo(f"  {text}")
    if item["judged"] and item["steps"]:
        click.echo(f"  {item['judged']}")
    if tested or earlier:
        click.echo(f"  {item['guarded']}")
    for number, step in enumerate(item["steps"], 1):
        click.echo(f"  {number}. {_step_text(step, tested)}")


def _step_text(step: dict[str, Any], candidate: str) -> str:
    length = "until promoted" if step["duration"] is None else f"for {seconds(step['duration'])}"
    match step["kind"]:
        case "setWeight":
            return f"weight {percent(step['percent'])} ({round(100 * step['percent']):,} of 10,000 slots)"
        case "shadow":
            if step["min_pairs"] is not None:
                met = "is Equivalent" if step["required_verdict"] == "Equivalent" else "is not Different"
                pairs = f"until {step['min_pairs']:,} pairs are compared and their verdict {met}"
                length = pairs if step["duration"] is None else f"{length} and {pairs}"
            budget = step["tokens_per_second"]
            limit = "" if budget is None else f", at most {budget:,} tokens/s"
            return f"copy {percent(step['percent'])} of requests to {candidate} {length}{limit}"
        case "experiment":
            shares = ", ".join(f"{percent(share)} {name}" for name, share in step["weights"].items())
            return f"experiment with {shares} {length}"
        case "pause" if step["duration"] is None:
            return "pause until resumed or promoted"
        case kind:
            return f"{kind} {length}"
