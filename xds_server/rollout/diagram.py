"""The transition table as the docs show it: the arrows of the state diagram and a Markdown table (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xds_server.rollout.events import Action
from xds_server.rollout.state import ACTIVE_PHASES, Phase
from xds_server.rollout.transitions import TABLE

if TYPE_CHECKING:
    from xds_server.rollout.transitions import EventKind

__all__ = ["INSIDE", "STEPS", "arrows", "guards"]

# These phases share one box of the diagram. The kind of the current step decides which of them a rollout is
# in; as separate boxes, each would have an arrow to every other one.
STEPS: Final = (Phase.SHADOWING, Phase.PROGRESSING, Phase.PAUSED, Phase.BAKING)
INSIDE: Final = "Steps"


def arrows() -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the events by (from, to) arrow; kills are left out, since every phase can be killed."""
    found: dict[tuple[str, str], list[str]] = {}
    for phase in Phase:
        if phase is Phase.KILLED:
            continue
        for kind, transition in TABLE[phase].items():
            for to in transition.to:
                if to is not Phase.KILLED:
                    found.setdefault((_box(phase), _box(to)), []).append(_event_name(kind))
    return {pair: tuple(dict.fromkeys(events)) for pair, events in found.items()}


def guards() -> str:
    """Return a Markdown table of the events that change the phase, with their conditions."""
    lines = ["| event | in | when | leads to |", "|---|---|---|---|"]
    rows: dict[tuple[str, str, str], list[str]] = {}
    for phase in Phase:
        for kind, transition in TABLE[phase].items():
            if transition.to:
                any_phase = len(transition.to) == len(Phase) - 1
                to = "the phase before the kill" if any_phase else _names(transition.to)
                rows.setdefault((_event_name(kind), transition.when, to), []).append(phase.value)
    for (event, when, to), phases in rows.items():
        lines.append(f"| {event} | {_phases(phases)} | {when or 'always'} | {to} |")
    return "\n".join(lines)


def _phases(names: list[str]) -> str:
    if set(names) >= {phase.value for phase in ACTIVE_PHASES}:
        others = [name for name in names if name not in {phase.value for phase in ACTIVE_PHASES}]
        return ", ".join(["every active phase", *others])
    return ", ".join(names)


def _names(phases: tuple[Phase, ...]) -> str:
    onward = {*STEPS, Phase.HEALTHY}
    if not onward <= set(phases):
        return ", ".join(dict.fromkeys(phase.value for phase in phases))
    others = [phase.value for phase in phases if phase not in onward]
    return ", ".join(["the next step (Healthy after the last)", *others])


def _event_name(kind: EventKind) -> str:
    return kind.value if isinstance(kind, Action) else kind


def _box(phase: Phase) -> str:
    return INSIDE if phase in STEPS else phase.value
