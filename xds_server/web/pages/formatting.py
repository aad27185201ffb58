"""Format values for pages, and define the buttons of operator commands (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from xds_server.analysis.verdicts import Kind
from xds_server.engine import Action
from xds_server.notifications.messages import TITLES
from xds_server.rollout import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from xds_server.view import RouteView, StepView
    from xds_server.view.model import GuardView, MetricView

__all__ = ["BUTTONS", "FILTERS", "GLOBALS", "Button", "buttons", "progress"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Button:
    """An operator command as a button with a description; `kind` is its CSS class."""

    action: Action
    label: str
    description: str
    kind: str = ""

    @property
    def name(self) -> str:
        """The command's name in URLs."""
        return self.action.value


BUTTONS: Final = {
    button.action: button
    for button in (
        Button(
            action=Action.PROMOTE,
            label="Promote",
            kind="main",
            description="Promote: end the current step now (even a pause or a step without a duration) and "
            "start the next one; after the last step, the rollout ends. The proxies must have converged on "
            "the current step.",
        ),
        Button(
            action=Action.PAUSE,
            label="Pause",
            description="Pause: stop the timer of the current step. The weights stay as they are, and "
            "automatic rollback stays active.",
        ),
        Button(
            action=Action.RESUME,
            label="Resume",
            description="Resume: continue the current step with its remaining time. A pause step without a "
            "duration ends, and the next step starts.",
        ),
        Button(
            action=Action.ABORT,
            label="Abort",
            kind="back",
            description="Abort: move all users back to the stable backend and stop mirroring at once.",
        ),
        Button(
            action=Action.UNDO,
            label="Undo",
            kind="back",
            description="Undo: move all users back to the stable backend, even if the rollout has ended.",
        ),
        Button(
            action=Action.RETRY,
            label="Retry",
            description="Retry: restart a rollout that ended without a promotion from its first step, with "
            "the same spec. A Degraded rollout waits for its proxies again, with a new deadline.",
        ),
        Button(
            action=Action.KILL,
            label="Kill",
            kind="back",
            description="Kill switch: send all users to one backend (spec.killSwitch.serve, by default the "
            "stable backend) at once, without any checks. Mirroring and capture stop, and the rollout is "
            "frozen until an operator ends the kill.",
        ),
        Button(
            action=Action.UNKILL,
            label="Unkill",
            kind="main",
            description="Unkill: end the kill and restore the weights, the step and its timer.",
        ),
    )
}
_NO_VALUE: Final = "\N{EN DASH}"
_RATIOS: Final = {
    Kind.SHARE.value: "odds of failing",
    Kind.EXCEEDANCE.value: "odds of a slow request",
    Kind.MEAN.value: "mean",
}
"""What the effect of a metric compares, by the kind of the metric."""
_TIMES: Final = "\N{MULTIPLICATION SIGN}"
_PHASE_TONES: Final = {
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
_WAITING: Final = {
    "convergence": "waiting for proxies",
    "health": "waiting for a healthy endpoint",
    "verdict": "waiting for a verdict",
    "evidence": "waiting for the shadow comparison to meet the requirements of the step",
    "operator": "waiting for an operator to promote the rollout",
}


def buttons(allowed: Collection[str]) -> list[Button]:
    """Return the buttons of the commands that are allowed now."""
    return [button for action, button in BUTTONS.items() if action.value in allowed]


def progress(view: RouteView, now: float) -> float:
    """Return the elapsed share of the current step's duration in percent."""
    step = view.step
    if step is None or step.began_at is None or step.ends_at is None or step.ends_at <= step.began_at:
        return 0.0
    return min(100.0, max(0.0, 100 * (now - step.began_at) / (step.ends_at - step.began_at)))


def _percent(value: float) -> str:
    return f"{value:.4g} %"


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _phase(view: RouteView) -> str:
    text = (
        view.phase if view.outcome is None or view.outcome == view.phase else f"{view.phase}, {view.outcome}"
    )
    return text if view.kill is None or view.phase == "Killed" else f"Killed ({text})"


def _tone(view: RouteView) -> str:
    return "bad" if view.kill is not None else _PHASE_TONES.get(view.phase, "")


def _waiting(view: RouteView) -> str:
    if view.step is None or view.kill is not None:
        return ""
    if view.step.waiting_for == "convergence":
        found = view.convergence
        return f"waiting for proxies: {found.acked} of {found.connected} synced"
    if view.step.waiting_for == "operator" and view.phase == "Paused":
        return "waiting for an operator to resume or promote the rollout"
    return _WAITING.get(view.step.waiting_for, "")


def _length(value: float | None) -> str:
    return "until promoted" if value is None else format_duration(value)


def _step_text(step: StepView) -> str:
    match step.kind:
        case "setWeight":
            return f"weight {_percent(step.weight or 0)}"
        case "pause" if step.duration is None:
            return "pause, no time limit"
        case "pause" | "bake":
            return f"{step.kind} {_length(step.duration)}"
        case "shadow" if step.duration is None:  # Ends with enough pairs, or by a promotion.
            return f"shadow {_percent(step.weight or 0)}, no time limit"
        case "shadow" | "experiment":
            return f"{step.kind} {_percent(step.weight or 0)}, {_length(step.duration)}"
        case other:
            return other


def _number(value: float) -> str:
    return f"{value:,.4g}"


def _arm(metric: MetricView, name: str) -> str:
    arm: dict[str, Any] = getattr(metric, name)
    if arm.get("value") is None:
        return _NO_VALUE
    if metric.kind == "threshold":
        return _number(arm["value"])
    if metric.unit.startswith("of "):
        text, counted = f"{100 * arm['value']:.2f} %", f" of {arm.get('n') or 0:,.0f} {metric.unit[3:]}"
    else:
        text, counted = f"{_number(arm['value'])} {metric.unit}".strip(), f" (n = {arm.get('n') or 0:,.0f})"
    return text + counted if arm.get("n") else text


def _effect(metric: MetricView) -> str:
    if metric.effect is None:
        return _NO_VALUE
    text = f"{_RATIOS.get(metric.kind, '')} {_TIMES} {_number(metric.effect)}".lstrip()
    if metric.low is not None and metric.high is not None:
        return f"{text} ({_number(metric.low)} to {_number(metric.high)})"
    if metric.low is not None:
        return f"{text} (above {_number(metric.low)})"
    return text if metric.high is None else f"{text} (below {_number(metric.high)})"


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _counted(arm: dict[str, float | None] | None) -> str:
    n = 0 if arm is None else arm.get("n") or 0
    if arm is None or not n:
        return _NO_VALUE
    x = arm.get("x") or 0
    return f"{100 * x / n:.2f} % ({_count(x)} of {_count(n)})"


def _guard_result(guard: GuardView) -> str:
    if guard.variant is None:
        return guard.action
    return "no data" if guard.finding == "NoData" else "not failed"


def _failed_guards(view: RouteView) -> list[GuardView]:
    guards = () if view.analysis is None else view.analysis.guards
    return [guard for guard in guards if guard.finding == "Fail"]


def _decides(view: RouteView) -> bool:
    """Return whether there is a verdict to show: guards alone can give only the verdict Fail."""
    found = view.analysis
    return found is not None and (bool(found.metrics) or found.finding == "Fail")


def _verdict(view: RouteView) -> str:
    if view.analysis is not None and _decides(view):
        return view.analysis.finding
    return _NO_VALUE if view.equivalence is None else str(view.equivalence["verdict"])


FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "percent": _percent,
    "clock": _clock,
    "phase": _phase,
    "tone": _tone,
    "waiting": _waiting,
    "step_text": _step_text,
    "arm": _arm,
    "effect": _effect,
    "count": _count,
    "counted": _counted,
    "decides": _decides,
    "verdict": _verdict,
    "guard_result": _guard_result,
    "failed_guards": _failed_guards,
}
GLOBALS: Final[dict[str, Any]] = {
    "step_symbols": {"done": "✓", "current": "▶", "pending": "·", "stopped": "✗"},
    "equivalence_tone": {"Equivalent": "good", "Different": "bad", "Inconclusive": "warn"},
    "finding_tone": {"Pass": "good", "Fail": "bad", "Inconclusive": "warn", "NoData": "warn", "Error": "bad"},
    "event_titles": TITLES,
    "proxy_tone": {"SYNCED": "good", "STALE": "warn", "NACKED": "bad"},
}
