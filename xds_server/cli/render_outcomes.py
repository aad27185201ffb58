"""Render guards, outcome classes and costs of backends for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.table import Table
from rich.text import Text

from xds_server.cli.out import percent

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["costs_table", "failed_guards", "guard_facts", "guards_table", "outcomes_table"]

View = dict[str, Any]

_ABOUT: Final = "~"
_NONE: Final = "-"


def failed_guards(view: View) -> list[str]:
    """Return the failed guards of a route, such as `rejected (v2)`; empty if the server reports no guards."""
    guards = (view.get("analysis") or {}).get("guards", ())
    return [f"{guard['name']} ({guard['variant']})" for guard in guards if guard["finding"] == "Fail"]


def guard_facts(view: View) -> list[tuple[str, str, str]]:
    """Return rows (label, text, style) about withdrawn backends and about what guards do not cover."""
    found = []
    if view.get("withdrawn"):
        text = (
            f"{', '.join(view['withdrawn'])} failed in this rollout. Until a new spec or a retry, "
            f"{view['stable']} serves the users that targets, rules, experiments and the preview assign to a "
            "withdrawn backend."
        )
        found.append(("withdrawn", text, "bold red"))
    found += [("not guarded", text, "yellow") for text in view.get("unguarded", ())]
    return found


def guards_table(analysis: View, stable: str) -> RenderableType:
    """Return each guard with its result and both compared shares, in the same columns as the web page."""
    table = _table(
        "GUARD",
        "BACKEND",
        "RESULT",
        f"SHARE AT\n{stable}",
        "SHARE AT\nTHE BACKEND",
        "FAILS\nFROM A\nSHARE OF",
        "ON\nFAILURE",
        left=(0, 1, 2, 6),
    )
    for guard in analysis["guards"]:
        compared = guard["variant"] is not None
        table.add_row(
            guard["name"],
            guard["variant"] or _NONE,
            _result(guard),
            _share(guard["control"]),
            _share(guard["candidate"]),
            percent(100 * guard["least"]) if compared else _NONE,
            _on_failure(guard, dry_run=analysis["dry_run"]),
        )
    return table


def outcomes_table(costs: list[View]) -> RenderableType:
    """Return the requests of each backend by outcome class, with notes on failures and unread answers."""
    table = _table(
        "BACKEND",
        "SUCCESS",
        "FAILED",
        "REJECTED",
        "CLIENT ERRORS",
        "ABANDONED",
        "NO BYTE AFTER 5 S",
        "RETRIED",
        "SUCCESSES READ",
    )
    notes = Table.grid(padding=(0, 2))
    for cost in costs:
        name = _backend(cost)
        table.add_row(
            name,
            *(f"{cost[key]:,}" for key in ("success", "failed", "rejected", "client_errors", "left")),
            f"{cost['waiting']:,}",
            f"{cost['retried']:,}",
            _NONE if cost["coverage"] is None else percent(100 * cost["coverage"]),
        )
        for text, style in _notes(cost):
            notes.add_row(Text(name, style="dim"), Text(text, style=style))
    whole = Table.grid()
    whole.add_row(table)
    if notes.row_count:
        whole.add_row(notes)
    return whole


def costs_table(costs: list[View]) -> RenderableType:
    """Return requests, tokens and costs of each backend since the start of the control plane."""
    table = _table("BACKEND", "REQUESTS", "FAILED", "TOKENS IN", "TOKENS OUT", "ESTIMATED TOKENS", "COST")
    for cost in costs:
        estimated = cost["estimated_tokens"]
        about = _ABOUT if estimated else ""
        price = _NONE if cost["cost"] is None else f"{about}{cost['cost']:,.4f} {cost['currency']}"
        table.add_row(
            _backend(cost),
            f"{cost['requests']:,}",
            f"{cost['failed']:,}",
            f"{cost['prompt_tokens']:,}",
            f"{cost['completion_tokens']:,}",
            f"{about}{estimated:,}",
            price,
        )
    if not any(cost["estimated_tokens"] for cost in costs):
        return table
    whole = Table.grid()
    whole.add_row(table)
    whole.add_row(Text("~ estimated, or a cost that includes estimated tokens", style="dim"))
    return whole


def _notes(cost: View) -> list[tuple[str, str]]:
    """Return notes (text, style) on failures, abandoned requests and unread answers of a backend."""
    found = []
    if cost["failures"]:
        found.append((f"failures with a status below 400: {_counted(cost['failures'])}", "yellow"))
    if cost["left_unanswered"]:
        found.append((f"abandoned within 5 s without a byte: {cost['left_unanswered']:,}", "dim"))
    if cost["unread"]:
        found.append((f"successes that were not read: {_counted(cost['unread'])}", "yellow"))
    return found


def _counted(numbers: dict[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in numbers.items())


def _result(guard: View) -> Text:
    if guard["action"] == "replaced":
        return Text("replaced by\nsuccess-rate", style="dim")
    if guard["action"] == "off":
        return Text("off", style="yellow")
    if guard["finding"] == "Fail":
        return Text("Fail", style="bold red")
    return Text("no data", style="dim") if guard["finding"] == "NoData" else Text("not failed", style="green")


def _on_failure(guard: View, *, dry_run: bool) -> str:
    if guard["variant"] is None:
        return _NONE
    return "dry run" if dry_run else str(guard["action"])


def _share(arm: View | None) -> str:
    if arm is None or not arm["n"]:
        return _NONE
    return f"{100 * arm['x'] / arm['n']:.2f} % ({arm['x']:,.0f} of {arm['n']:,.0f})"


def _backend(cost: View) -> str:
    return str(cost["variant"] + ("" if cost["role"] == "primary" else f" ({cost['role']})"))


def _table(*names: str, left: tuple[int, ...] = (0,)) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for number, name in enumerate(names):
        table.add_column(name, justify="left" if number in left else "right")
    return table
