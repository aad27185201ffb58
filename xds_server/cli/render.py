"""Route views as a terminal shows them; values in, renderables out."""

from __future__ import annotations

from typing import Any, Final

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from xds_server.cli.out import ago, percent, seconds

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
_WAITS: Final = {
    "health": "waits until the candidate lives",
    "verdict": "waits for a verdict",
    "evidence": "waits for enough pairs",
}
_FINDINGS: Final = {
    "Pass": "green",
    "Fail": "bold red",
    "Inconclusive": "yellow",
    "NoData": "yellow",
    "Error": "bold yellow",
}
_BAR: Final = 40
_WIDTH: Final = 100  # columns; what is wider is hard to read, and a pipe has no width of its own


def routes_table(views: list[View]) -> Table:
    """Return one line per route."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("ROUTE", "GROUP", "STRATEGY", "PHASE", "WEIGHTS", "STEP", "PROXIES", "MESSAGE"):
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
    """Return one line per connected proxy."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("PROXY", "GROUP", "MODE", "STATUS", "VERSION", "ENVOY", "ADDRESS", "CONNECTED", "DETAIL"):
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
    """Return the phase with its outcome, in its colour."""
    outcome = f" ({view['outcome']})" if view["outcome"] and view["outcome"] != view["phase"] else ""
    return Text(f"{view['phase']}{outcome}", style=PHASE_STYLE.get(view["phase"], ""))


def route_panel(view: View, now: float, *, events: int = 8) -> RenderableType:
    """Return all of one route: weights, steps and their clock, convergence, pairs and last events."""
    parts: list[RenderableType] = [_weights(view), Text()]
    if view["steps"]:
        parts += [_steps(view, now), Text()]
    parts.append(_facts(view, now))
    if view.get("analysis") is not None:
        parts += [Text(), _verdicts(view["analysis"])]
    if view.get("experiment") is not None:
        parts += [Text(), _experiment(view["experiment"])]
    if view.get("costs"):
        parts += [Text(), _costs(view["costs"])]
    if view["events"]:
        parts += [Text(), _events(view, now, events)]
    title = Text.assemble((f" {view['name']} ", "bold"), "· ", phase(view), " ")
    return Panel(
        Group(*parts), title=title, title_align="left", border_style="dim", padding=(1, 2), width=_WIDTH
    )


def waiting(view: View, now: float) -> str:
    """Return what a rollout waits for, in words."""
    step = view["step"]
    if step is None or step["waiting_for"] == "nothing":
        return ""
    if view["kill"] is not None:
        return f"stands still: shiftplane unkill {view['name']}"
    if step["waiting_for"] in _WAITS:
        return _WAITS[step["waiting_for"]]
    if step["waiting_for"] == "operator":
        return f"waits for an operator: shiftplane promote {view['name']}"
    if step["waiting_for"] == "convergence":
        convergence = view["convergence"]
        return (
            f"waits for proxies: {convergence['acked']} of {convergence['connected']} hold the newest version"
        )
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
            Text("copies of requests, answers are not seen by users", style="magenta"),
            Text(percent(view["mirror_percent"]), style="bold magenta"),
            Text("shadow", style="dim"),
        )
    return table


def _steps(view: View, now: float) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for step in view["steps"]:
        mark, style = _MARKS[step["state"]]
        words = _step_words(step)
        note = waiting(view, now) if step["state"] == "current" else ""
        table.add_row(Text(mark, style=style), Text(words, style=style), Text(note, style="cyan"))
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


def _step_words(step: View) -> str:
    match step["kind"]:
        case "setWeight":
            return f"weight {percent(step['weight'])}"
        case "pause":
            return (
                "pause until promoted" if step["duration"] is None else f"pause {seconds(step['duration'])}"
            )
        case "bake":
            return f"bake {seconds(step['duration'] or 0)}"
        case "shadow":
            length = "until promoted" if step["duration"] is None else f"for {seconds(step['duration'])}"
            return f"shadow {percent(step['weight'] or 0)} {length}"
        case "experiment":
            length = "until promoted" if step["duration"] is None else f"for {seconds(step['duration'])}"
            return f"experiment with {percent(step['weight'] or 0)} {length}"
        case other:
            return str(other)


def _facts(view: View, now: float) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    convergence = view["convergence"]
    counted = f"{convergence['acked']} of {convergence['connected']} proxies"
    versions = convergence["version"].split()
    held = f"{counted} hold " + (f"version {versions[0]}" if len(versions) == 1 else "the newest version")
    if convergence["connected"] == 0:
        held = "no proxy of this group is connected"
    style = "bold red" if convergence["nacked"] else "" if convergence["connected"] else "yellow"
    if view["kill"] is not None:
        table.add_row(Text("killed", style="bold red"), Text(_kill_words(view["kill"]), style="bold red"))
    if view["warm_until"] is not None and view["warm_until"] > now:
        left = seconds(view["warm_until"] - now)
        words = f"{view['stable']} is kept ready for shiftplane undo {view['name']} for another {left}"
        table.add_row(Text("warm", style="dim"), Text(words))
    if view["dead"]:
        table.add_row(Text("dead", style="bold red"), Text(", ".join(view["dead"]), style="bold red"))
    table.add_row(Text("convergence", style="dim"), Text(held, style=style))
    if convergence["detail"]:
        table.add_row("", Text(convergence["detail"], style=style or "yellow"))
    if view["pairs"] is not None:
        table.add_row(Text("pairs", style="dim"), _pairs(view["pairs"]))
    equivalence = view.get("equivalence") or view.get("likeness")  # Older servers send only `likeness`.
    if equivalence is not None:
        table.add_row(Text("answers", style="dim"), _equivalence(equivalence))
    if view.get("capture_lost"):
        lost = ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in view["capture_lost"].items())
        table.add_row(Text("lost", style="dim"), Text(f"proxies: {lost}", style="yellow"))
    if view["message"]:
        table.add_row(Text("now", style="dim"), Text(view["message"]))
    return table


def _verdicts(analysis: View) -> RenderableType:
    """Return the verdict and what is known of each metric."""
    table = Table.grid(padding=(0, 2))
    whole = analysis["finding"] + (" (dry run: nothing follows from it)" if analysis["dry_run"] else "")
    table.add_row(Text("verdict", style="dim"), Text(whole, style=_FINDINGS.get(analysis["finding"], "")))
    for metric in analysis["metrics"]:
        style = _FINDINGS.get(metric["finding"], "")
        finding = metric["finding"] if metric["action"] == "Rollback" else f"{metric['finding']}, only told"
        table.add_row(Text(finding, style=style), Text(metric["words"]))
    return table


def _experiment(found: View) -> RenderableType:
    """Return what may be said of an A/B test now, by variant."""
    table = Table.grid(padding=(0, 2))
    control = found["control"]
    table.add_row(
        Text("A/B test", style="dim"), Text(f"control {control}: {found['users'].get(control, 0):,} users")
    )
    for name, variant in found["variants"].items():
        primary = variant.get("primary")
        words = f"{variant['users']:,} users"
        if primary is not None:
            words = f"{primary['metric']}: {primary['finding']}, {primary['words']}"
        table.add_row(Text(name, style="bold"), Text(words))
    return table


def _costs(costs: list[View]) -> RenderableType:
    """Return what each backend's answers took, since the control plane started."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("BACKEND", "REQUESTS", "FAILED", "PROMPT TOKENS", "TOKENS", "ESTIMATED", "COST"):
        table.add_column(name, justify="left" if name == "BACKEND" else "right")
    for cost in costs:
        paid = "-" if cost["cost"] is None else f"{cost['cost']:,.4f} {cost['currency']}"
        table.add_row(
            cost["variant"] + ("" if cost["role"] == "primary" else f" ({cost['role']})"),
            f"{cost['requests']:,}",
            f"{cost['failed']:,}",
            f"{cost['prompt_tokens']:,}",
            f"{cost['completion_tokens']:,}",
            f"{cost['estimated_tokens']:,}",
            paid,
        )
    return table


def _kill_words(kill: View) -> str:
    by = "the spec" if kill["by_spec"] else kill["actor"]
    return f"{kill['serve']} serves everyone since {ago(kill['at'], kill['at'])}, by {by}: {kill['reason']}"


def _pairs(pairs: View) -> Text:
    words = [f"{pairs['pairs']:,} pairs"]
    agreement = pairs.get("agreement") or {}
    for name, label in (("status", "same status"), ("exact", "same text")):
        counted = agreement.get(name) or {}
        if counted.get("of"):
            words.append(f"{label} {100 * counted['same'] / counted['of']:.1f} %")
    rouge = pairs.get("rouge_l") or {}
    if rouge.get("mean") is not None:
        words.append(f"ROUGE-L {rouge['mean']:.2f}")
    latency = pairs.get("latency_ms") or {}
    if latency.get("primary") and latency.get("shadow"):
        words.append(f"p50 {_ms(latency['primary'].get('p50'))} → {_ms(latency['shadow'].get('p50'))}")
    unpaired = sum((pairs.get("unpaired") or {}).values())
    if unpaired:
        words.append(f"{unpaired:,} legs unpaired")
    return Text(" · ".join(words), style="magenta")


_EQUIVALENCE: Final = {"Equivalent": "green", "Different": "bold red", "Inconclusive": "yellow"}


def _equivalence(found: View) -> Text:
    words = Text(found["verdict"], style=_EQUIVALENCE.get(found["verdict"], ""))
    words.append(f" ({found['trios']:,} of {found['pairs']:,} pairs with a noise baseline): ", style="dim")
    words.append(found["words"])
    if found["limited"]:
        words.append(
            f"; {found['limited']:,} copies were cut off by limits and count for nothing", style="yellow"
        )
    return words


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"


def _events(view: View, now: float, most: int) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for event in view["events"][-most:]:
        table.add_row(
            Text(ago(event["at"], now), style="dim"),
            Text(event["kind"], style="bold"),
            Text(event["message"]),
            Text(event["actor"], style="dim"),
        )
    return table
