"""The table as the docs show it: what the state diagram is drawn from, and the table beneath it (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xds_server.rollout.events import Action
from xds_server.rollout.state import LIVE, Phase
from xds_server.rollout.transitions import TABLE

if TYPE_CHECKING:
    from xds_server.rollout.transitions import EventKind

__all__ = ["INSIDE", "STEPS", "arrows", "guards"]

# Which of these a step is in depends on its kind; drawn apart, every one would have an arrow to every other.
STEPS: Final = (Phase.SHADOWING, Phase.PROGRESSING, Phase.PAUSED, Phase.BAKING)
INSIDE: Final = "Steps"


def arrows() -> dict[tuple[str, str], tuple[str, ...]]:
    """Return which place leads to which by what events; kills are left out, for they come from anywhere."""
    found: dict[tuple[str, str], list[str]] = {}
    for phase in Phase:
        if phase is Phase.KILLED:
            continue
        for kind, transition in TABLE[phase].items():
            for to in transition.to:
                if to is not Phase.KILLED:
                    found.setdefault((_place(phase), _place(to)), []).append(_word(kind))
    return {pair: tuple(dict.fromkeys(words)) for pair, words in found.items()}


def guards() -> str:
    """Return a table of the events that move a rollout by themselves or by command, and when they do."""
    lines = ["| event | in | when | leads to |", "|---|---|---|---|"]
    rows: dict[tuple[str, str, str], list[str]] = {}
    for phase in Phase:
        for kind, transition in TABLE[phase].items():
            if transition.to:
                to = "where it was" if len(transition.to) == len(Phase) - 1 else _names(transition.to)
                rows.setdefault((_word(kind), transition.when, to), []).append(phase.value)
    for (word, when, to), phases in rows.items():
        lines.append(f"| {word} | {_phases(phases)} | {when or 'always'} | {to} |")
    return "\n".join(lines)


def _phases(names: list[str]) -> str:
    if set(names) >= {phase.value for phase in LIVE}:
        others = [name for name in names if name not in {phase.value for phase in LIVE}]
        return ", ".join(["every live phase", *others])
    return ", ".join(names)


def _names(phases: tuple[Phase, ...]) -> str:
    onward = {*STEPS, Phase.HEALTHY}
    if not onward <= set(phases):
        return ", ".join(dict.fromkeys(phase.value for phase in phases))
    others = [phase.value for phase in phases if phase not in onward]
    return ", ".join(["the next step (Healthy after the last)", *others])


def _word(kind: EventKind) -> str:
    return kind.value if isinstance(kind, Action) else kind


def _place(phase: Phase) -> str:
    return INSIDE if phase in STEPS else phase.value
