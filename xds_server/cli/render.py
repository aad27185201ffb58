"""Render the views of routes and proxies for a terminal."""

from __future__ import annotations

from typing import Any, Final

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from xds_server.cli.out import percent, seconds, time_text
from xds_server.cli.render_outcomes import costs_table, guard_facts, guards_table, outcomes_table

__all__ = ["PHASE_STYLE", "proxies_table", "route_panel", "routes_table", "waiting"]

View = dict[str, Any]

PHASE_STYLE: Final = {
    "Healthy": "bold green",
    "Progressing": "bold cyan",
    "Baking": "bold cyan",
    "Shadowing": "bold magenta",
    "Paused": "bold yellow",
    "Pending": "yellow",
    "RollingBack": "bold red",
    "RolledBack": "red",
    "Degraded": "bold red",
    "Killed": "bold white on red",
}
_MARKS: Final = {
    "done": ("✔", "green"),
    "current": ("▶", "bold cyan"),
    "stopped": ("✘", "bold red"),
    "pending": ("·", "dim"),
}
_WAITING: Final = {
    "health": "waiting for a healthy endpoint of the candidate",
    "verdict": "waiting for a verdict",
    "evidence": "waiting for enough pairs",
}
_FINDING_STYLE: Final = {
    "Pass": "green",
    "Fail": "bold red",
    "Inconclusive": "yellow",
    "NoData": "yellow",
    "Error": "bold yellow",
}
_LOSSES: Final = {
    "log_entries_dropped": "dropped log entries",
    "collector_unreachable": "failed connections to the collector",
    "copies_cut_off": "copies dropped by circuit breakers",
}
_BAR: Final = 40
# The width of a panel in columns: wider panels are hard to read, and a pipe has no width of its own.
_WIDTH: Final = 100


def routes_table(views: list[View]) -> Table:
    """Return a table with one line per route."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("ROUTE", "GROUP", "STRATEGY", "PHASE", "WEIGHTS", "STEP", "PROXIES SYNCED", "MESSAGE"):
        table.add_column(name, no_wrap=name != "MESSAGE")
    for view in views:
        convergence = view["convergence"]
        table.add_row(
            view["name"],
            view["group"],
            view["strategy"],
            phase(view),
            ", ".join(f"{name} {percent(weight)}" for name, weight in view["weights"].items()),
            _position(view),
            f"{convergence['acked']}/{convergence['connected']}",
            view["message"],
        )
    return table


def proxies_table(views: list[View], now: float) -> Table:
    """Return a table with one line per connected proxy."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (
        "PROXY",
        "GROUP",
        "MODE",
        "STATUS",
        "SNAPSHOT",
        "ENVOY",
        "ADDRESS",
        "CONNECTED FOR",
        "DETAIL",
    ):
        table.add_column(name, no_wrap=name != "DETAIL")
    styles = {"SYNCED": "green", "STALE": "yellow", "NACKED": "bold red"}
    for view in views:
        table.add_row(
            view["id"],
            view["group"],
            view["mode"],
            Text(view["status"], style=styles.get(view["status"], "")),
            view["version"],
            view["envoy_version"],
            view["address"],
            seconds(max(0.0, now - view["connected_since"])),
            "; ".join(part for part in (view["detail"], *view.get("reduced", ())) if part),
        )
    return table


def phase(view: View) -> Text:
    """Return the phase and outcome of a route in the color of the phase."""
    outcome = f" ({view['outcome']})" if view["outcome"] and view["outcome"] != view["phase"] else ""
    return Text(f"{view['phase']}{outcome}", style=PHASE_STYLE.get(view["phase"], ""))


def route_panel(view: View, now: float, *, events: int = 8) -> RenderableType:
    """Return a panel with weights, steps, convergence, analysis, outcomes, costs and events of a route."""
    parts: list[RenderableType] = [_weights(view), Text()]
    if view["steps"]:
        parts += [_steps(view, now), Text()]
    parts.append(_facts(view, now))
    if view.get("analysis") is not None:
        parts += [Text(), _verdicts(view["analysis"])]
        if view["analysis"].get("guards"):
            parts += [Text(), guards_table(view["analysis"], view["stable"])]
    if view.get("experiment") is not None:
        parts += [Text(), _experiment(view["experiment"])]
    if view.get("costs"):
        # Servers of earlier versions send costs without outcome classes.
        classes = [cost for cost in view["costs"] if "success" in cost]
        parts += [Text(), outcomes_table(classes)] if classes else []
        parts += [Text(), costs_table(view["costs"])]
    if view["events"]:
        parts += [Text(), _events(view, now, events)]
    title = Text.assemble((f" {view['name']} ", "bold"), "· ", phase(view), " ")
    return Panel(
        Group(*parts), title=title, title_align="left", border_style="dim", padding=(1, 2), width=_WIDTH
    )


def waiting(view: View, now: float) -> str:
    """Return what blocks a rollout, or the remaining time of its step; empty if neither applies."""
    step = view["step"]
    if step is None or step["waiting_for"] == "nothing":
        return ""
    if view["kill"] is not None:
        if view["kill"]["by_spec"]:
            return "stopped by the kill switch; killSwitch.enabled: false in the spec turns it off"
        return f'stopped by the kill switch; "shiftplane unkill {view["name"]}" turns it off'
    if step["waiting_for"] in _WAITING:
        return _WAITING[step["waiting_for"]]
    if step["waiting_for"] == "operator":
        if view["phase"] == "Paused":
            return f'waiting for "shiftplane resume {view["name"]}" or "shiftplane promote {view["name"]}"'
        return f'waiting for an operator; "shiftplane promote {view["name"]}" ends the step'
    if step["waiting_for"] == "convergence":
        convergence = view["convergence"]
        return f"waiting for convergence: {convergence['acked']} of {convergence['connected']} proxies synced"
    return f"{seconds(max(0.0, float(step['ends_at']) - now))} left" if step["ends_at"] else ""


def _position(view: View) -> str:
    total = len(view["steps"])
    return f"{min(view['step']['index'] + 1, total)}/{total}" if view["step"] and total else "-"


def _weights(view: View) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for name, weight in view["weights"].items():
        candidate = name == view["candidate"]
        filled = round(weight / 100 * _BAR)
        if weight > 0 and filled == 0:
            filled = 1
        bar = Text("█" * filled, style="cyan" if candidate else "blue") + Text(
            "░" * (_BAR - filled), style="dim"
        )
        table.add_row(
            Text(name, style="bold"),
            bar,
            Text(percent(weight), style="bold"),
            Text("candidate" if candidate else "stable" if name == view["stable"] else "", style="dim"),
        )
    if view["mirror_percent"] > 0:
        table.add_row(
            Text(view["candidate"] or "", style="bold"),
            Text("receives copied requests; users do not receive its responses", style="magenta"),
            Text(percent(view["mirror_percent"]), style="bold magenta"),
            Text("shadow", style="dim"),
        )
    return table


def _steps(view: View, now: float) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for step in view["steps"]:
        mark, style = _MARKS[step["state"]]
        text = _step_text(step)
        note = waiting(view, now) if step["state"] == "current" else ""
        table.add_row(Text(mark, style=style), Text(text, style=style), Text(note, style="cyan"))
        if step["state"] == "current" and (clock := _clock(view, now)) is not None:
            table.add_row("", clock, "")
    return table


def _clock(view: View, now: float) -> Text | None:
    step = view["step"]
    if step is None or not step["began_at"] or not step["ends_at"]:
        return None
    length = max(step["ends_at"] - step["began_at"], 0.001)
    share = min(1.0, max(0.0, (now - step["began_at"]) / length))
    done = round(share * 24)
    return Text("━" * done, style="cyan") + Text("━" * (24 - done), style="dim")


def _step_text(step: View) -> str:
    match step["kind"]:
        case "setWeight":
            return f"weight {percent(step['weight'])}"
        case "pause":
            return (
                "pause, no time limit" if step["duration"] is None else f"pause {seconds(step['duration'])}"
            )
        case "bake":
            return f"bake {seconds(step['duration'] or 0)}"
        case "shadow":
            # Without a duration, a shadow ends when it has the required evidence or an operator promotes it.
            length = ", no time limit" if step["duration"] is None else f" for {seconds(step['duration'])}"
            return f"shadow {percent(step['weight'] or 0)}{length}"
        case "experiment":
            length = "until promoted" if step["duration"] is None else f"for {seconds(step['duration'])}"
            return f"experiment with {percent(step['weight'] or 0)} {length}"
        case other:
            return str(other)


def _facts(view: View, now: float) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    convergence = view["convergence"]
    synced = _synced(convergence)
    style = "bold red" if convergence["nacked"] else "" if convergence["connected"] else "yellow"
    if view["kill"] is not None:
        table.add_row(Text("killed", style="bold red"), Text(_kill_text(view["kill"]), style="bold red"))
    if view["warm_until"] is not None and view["warm_until"] > now:
        left = seconds(view["warm_until"] - now)
        text = (
            f"keep backend {view['stable']} running for another {left}, so that "
            f'"shiftplane undo {view["name"]}" can return all users to it (keepWarm)'
        )
        table.add_row(Text("warm", style="dim"), Text(text))
    if view["dead"]:
        table.add_row(Text("unhealthy", style="bold red"), Text(", ".join(view["dead"]), style="bold red"))
    for label, text, style_of_row in guard_facts(view):
        table.add_row(Text(label, style="dim"), Text(text, style=style_of_row))
    table.add_row(Text("convergence", style="dim"), Text(synced, style=style))
    if convergence["detail"]:
        table.add_row("", Text(convergence["detail"], style=style or "yellow"))
    if view["pairs"] is not None:
        table.add_row(Text("pairs", style="dim"), _pairs(view["pairs"]))
    equivalence = view.get("equivalence") or view.get("likeness")  # Older servers send only `likeness`.
    if equivalence is not None:
        table.add_row(Text("equivalence", style="dim"), _equivalence(equivalence))
    if view.get("capture_lost"):
        lost = ", ".join(
            f"{n:,} {_LOSSES.get(reason) or reason.replace('_', ' ')}"
            for reason, n in view["capture_lost"].items()
        )
        table.add_row(Text("capture", style="dim"), Text(f"losses in proxies: {lost}", style="yellow"))
    if view["message"]:
        table.add_row(Text("message", style="dim"), Text(view["message"]))
    return table


def _synced(convergence: View) -> str:
    if convergence["connected"] == 0:
        return "no proxy of this group is connected"
    versions = convergence["version"].split()
    version = f" (snapshot {versions[0]})" if len(versions) == 1 else ""
    return f"{convergence['acked']} of {convergence['connected']} proxies synced{version}"


def _verdicts(analysis: View) -> RenderableType:
    """Return the overall verdict and the finding of each metric; without metrics, the guards' message."""
    table = Table.grid(padding=(0, 2))
    if not analysis["metrics"]:
        style = "bold red" if analysis["finding"] == "Fail" else "dim"
        table.add_row(Text("guards", style="dim"), Text(analysis["words"], style=style))
        return table
    verdict = analysis["finding"] + (
        " (dry run: the verdict does not affect the rollout)" if analysis["dry_run"] else ""
    )
    table.add_row(
        Text("verdict", style="dim"), Text(verdict, style=_FINDING_STYLE.get(analysis["finding"], ""))
    )
    if analysis["finding"] not in {metric["finding"] for metric in analysis["metrics"]}:
        # No metric has the finding of the verdict, so a guard or the coverage decided it.
        table.add_row("", Text(analysis["words"], style="yellow"))
    for metric in analysis["metrics"]:
        style = _FINDING_STYLE.get(metric["finding"], "")
        finding = metric["finding"] if metric["action"] == "Rollback" else f"{metric['finding']}, notify only"
        table.add_row(Text(finding, style=style), Text(metric["words"]))
    return table


def _experiment(experiment: View) -> RenderableType:
    """Return the current results of an A/B test by variant."""
    table = Table.grid(padding=(0, 2))
    control = experiment["control"]
    table.add_row(
        Text("A/B test", style="dim"),
        Text(f"control {control}: {experiment['users'].get(control, 0):,} users"),
    )
    for name, variant in experiment["variants"].items():
        primary = variant.get("primary")
        result = f"{variant['users']:,} users"
        if primary is not None:
            result = f"{primary['metric']}: {primary['finding']}, {primary['words']}"
        table.add_row(Text(name, style="bold"), Text(result))
    return table


def _kill_text(kill: View) -> str:
    by = "the spec" if kill["by_spec"] else kill["actor"]
    since = time_text(kill["at"], kill["at"])
    return f"{kill['serve']} has served all users since {since}; killed by {by}: {kill['reason']}"


def _pairs(pairs: View) -> Text:
    parts = [f"{pairs['pairs']:,} pairs"]
    if pairs.get("unread"):
        parts.append(f"{pairs['unread']:,} unread")
    agreement = pairs.get("agreement") or {}
    for name, label in (("status", "same status"), ("exact", "same answer")):
        counts = agreement.get(name) or {}
        if counts.get("of"):
            parts.append(f"{label} {100 * counts['same'] / counts['of']:.1f} %")
    rouge = pairs.get("rouge_l") or {}
    if rouge.get("mean") is not None:
        parts.append(f"ROUGE-L {rouge['mean']:.2f}")
    latency = pairs.get("latency_ms") or {}
    if latency.get("primary") and latency.get("shadow"):
        parts.append(
            f"p50 latency {_ms(latency['primary'].get('p50'))} → {_ms(latency['shadow'].get('p50'))}"
        )
    unpaired = sum((pairs.get("unpaired") or {}).values())
    if unpaired:
        parts.append(f"{unpaired:,} unpaired legs")
    return Text(" · ".join(parts), style="magenta")


_EQUIVALENCE_STYLE: Final = {"Equivalent": "green", "Different": "bold red", "Inconclusive": "yellow"}


def _equivalence(found: View) -> Text:
    text = Text(found["verdict"], style=_EQUIVALENCE_STYLE.get(found["verdict"], ""))
    text.append(f" ({found['trios']:,} of {found['pairs']:,} pairs with a noise baseline): ", style="dim")
    text.append(found["words"])
    for api in found.get("apis", ()):
        text.append(f"\n{_coverage(api)}", style="yellow" if api["blind"] else "dim")
    if found["limited"]:
        limited = f"{found['limited']:,} pairs are not counted: strategy.shadow.limits prevented an answer"
        text.append(f"\n{limited}", style="yellow")
    return text


def _coverage(api: View) -> str:
    """Return how many pairs of an API were read, and the unread answers by leg and reason."""
    if api["api"] == "unknown":
        return "the collector is of an earlier release and reports no APIs and no unread answers"
    words = f"{api['api']}: {api['read']:,} of {api['counted']:,} pairs were read"
    if api["failed"]:
        words += f", {api['failed']:,} had a failed answer"
    if not api["required"]:
        share = f"{100 * api['share']:.1f} %"
        words += f"; not required for the verdict, because only {share} of the copies use this API"
    reasons = [
        f"{leg} {reason.replace('_', ' ')} {n:,}"
        for leg, by_reason in api["unread_legs"].items()
        for reason, n in by_reason.items()
    ]
    return f"{words}; unread answers: {', '.join(reasons)}" if reasons else words


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"


def _events(view: View, now: float, limit: int) -> RenderableType:
    from xds_server.notifications.messages import TITLES

    table = Table.grid(padding=(0, 2))
    for event in view["events"][-limit:]:
        table.add_row(
            Text(time_text(event["at"], now), style="dim"),
            Text(TITLES.get(event["kind"]) or event["kind"].replace("_", " "), style="bold"),
            Text(event["message"]),
            Text(event["actor"], style="dim"),
        )
    return table
