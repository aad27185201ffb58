"""How values are said on pages (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from xds_server.engine import Action
from xds_server.rollout import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from xds_server.view import RouteView, StepView
    from xds_server.view.model import MetricView

__all__ = ["BUTTONS", "FILTERS", "GLOBALS", "Button", "buttons", "progress"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Button:
    """Something an operator may do, as it stands on a page; `kind` is how it looks."""

    action: Action
    label: str
    about: str
    kind: str = ""

    @property
    def name(self) -> str:
        """As addresses name it."""
        return self.action.value


BUTTONS: Final = {
    button.action: button
    for button in (
        Button(
            action=Action.PROMOTE,
            label="Promote",
            kind="main",
            about="Goes on to the next step: ends a pause, or a shadow without an end. Proxies must still "
            "hold a step before the next one begins.",
        ),
        Button(
            action=Action.PAUSE,
            label="Pause",
            about="Stops the clock where it stands. Weights stay, and rollback stays armed.",
        ),
        Button(
            action=Action.RESUME, label="Resume", about="Lets the clock go on with the time that was left."
        ),
        Button(
            action=Action.ABORT,
            label="Abort",
            kind="back",
            about="Takes the candidate's users and its copies back to zero at once.",
        ),
        Button(
            action=Action.UNDO,
            label="Undo",
            kind="back",
            about="Takes back what the rollout did, whether it has ended or not.",
        ),
        Button(
            action=Action.RETRY,
            label="Retry",
            about="Begins a rollout that was taken back anew, without touching its spec.",
        ),
        Button(
            action=Action.KILL,
            label="Kill",
            kind="back",
            about="One backend serves everyone at once, past every check; copies and capture stop. The "
            "rollout stands still behind it until somebody takes the kill back.",
        ),
        Button(
            action=Action.UNKILL,
            label="Take the kill back",
            kind="main",
            about="Everything is as it was before the kill: weights, step and clock.",
        ),
    )
}
_NOTHING: Final = "\N{EN DASH}"
_TIMES: Final = "\N{MULTIPLICATION SIGN}"
_TONES: Final = {
    "Healthy": "good",
    "Progressing": "busy",
    "Shadowing": "busy",
    "Baking": "busy",
    "Pending": "busy",
    "Paused": "warn",
    "RollingBack": "bad",
    "RolledBack": "bad",
    "Degraded": "bad",
    "Killed": "bad",
}
_WAITS: Final = {
    "convergence": "waits for proxies",
    "health": "waits until the candidate lives",
    "verdict": "waits for a verdict",
    "evidence": "waits for enough pairs",
    "operator": "waits for somebody to promote it",
}


def buttons(allowed: Collection[str]) -> list[Button]:
    """Return what may be done now, as buttons."""
    return [button for action, button in BUTTONS.items() if action.value in allowed]


def progress(view: RouteView, now: float) -> float:
    """Return how much of the current step's time has gone, in percent."""
    step = view.step
    if step is None or step.began_at is None or step.ends_at is None or step.ends_at <= step.began_at:
        return 0.0
    return min(100.0, max(0.0, 100 * (now - step.began_at) / (step.ends_at - step.began_at)))


def _percent(value: float) -> str:
    return f"{value:.4g} %"


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _phase(view: RouteView) -> str:
    said = (
        view.phase if view.outcome is None or view.outcome == view.phase else f"{view.phase}, {view.outcome}"
    )
    return said if view.kill is None or view.phase == "Killed" else f"Killed ({said})"


def _tone(view: RouteView) -> str:
    return "bad" if view.kill is not None else _TONES.get(view.phase, "")


def _waits(view: RouteView) -> str:
    if view.step is None or view.kill is not None:
        return ""
    if view.step.waiting_for == "convergence":
        held = view.convergence
        return f"waits for proxies: {held.acked} of {held.connected} hold the newest version"
    return _WAITS.get(view.step.waiting_for, "")


def _length(value: float | None) -> str:
    return "until promoted" if value is None else format_duration(value)


def _step_words(step: StepView) -> str:
    match step.kind:
        case "setWeight":
            return f"weight {_percent(step.weight or 0)}"
        case "pause" | "bake":
            return f"{step.kind} {_length(step.duration)}"
        case "shadow" | "experiment":
            return f"{step.kind} {_percent(step.weight or 0)}, {_length(step.duration)}"
        case other:
            return other


def _number(value: float) -> str:
    return f"{value:,.4g}"


def _arm(metric: MetricView, name: str) -> str:
    arm: dict[str, Any] = getattr(metric, name)
    if arm.get("value") is None:
        return _NOTHING
    if metric.kind == "threshold":
        return _number(arm["value"])
    share = metric.unit.startswith("of ")
    said = f"{100 * arm['value']:.2f} %" if share else f"{_number(arm['value'])} {metric.unit}".strip()
    return f"{said} of {arm['n']:,.0f}" if arm.get("n") else said


def _effect(metric: MetricView) -> str:
    if metric.effect is None:
        return _NOTHING
    if metric.low is None or metric.high is None:
        return f"{_TIMES} {_number(metric.effect)}"
    return f"{_TIMES} {_number(metric.effect)} ({_number(metric.low)} to {_number(metric.high)})"


FILTERS: Final[dict[str, Callable[..., str]]] = {
    "percent": _percent,
    "clock": _clock,
    "phase": _phase,
    "tone": _tone,
    "waits": _waits,
    "step_words": _step_words,
    "arm": _arm,
    "effect": _effect,
}
GLOBALS: Final[dict[str, Any]] = {
    "marks": {"done": "✓", "current": "▶", "pending": "·", "stopped": "✗"},
    "equivalence_tone": {"Equivalent": "good", "Different": "bad", "Inconclusive": "warn"},
    "finding_tone": {"Pass": "good", "Fail": "bad", "Inconclusive": "warn", "NoData": "warn", "Error": "bad"},
    "proxy_tone": {"SYNCED": "good", "STALE": "warn", "NACKED": "bad"},
}
