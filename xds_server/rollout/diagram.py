"""The table as text: the state diagram of the docs, and the table beneath it (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xds_server.rollout.events import CommandKind
from xds_server.rollout.state import LIVE, Phase
from xds_server.rollout.transitions import TABLE

if TYPE_CHECKING:
    from xds_server.rollout.transitions import EventKind

__all__ = ["diagram", "guards"]

# A kill may come from anywhere and goes back to where it came from: drawn once, not nine times.
_ANYWHERE: Final = "any phase"
# Which of these a step is in depends on its kind; drawn apart, every one would have an arrow to every other.
_STEPS: Final = (Phase.SHADOWING, Phase.PROGRESSING, Phase.PAUSED, Phase.BAKING)
_INSIDE: Final = "Steps"


def diagram() -> str:
    """Return the diagram in Mermaid's language: one arrow per pair of places, labelled with its events."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for phase in Phase:
        if phase is Phase.KILLED:
            continue
        for kind, transition in TABLE[phase].items():
            for to in transition.to:
                if to is not Phase.KILLED:
                    arrows.setdefault((_place(phase), _place(to)), []).append(_word(kind))
    lines = ["stateDiagram-v2", f"    [*] --> {Phase.PENDING.value}: spec", f"    state {_INSIDE} {{"]
    lines += [f"        {phase.value}" for phase in _STEPS]
    lines.append("    }")
    for (origin, target), words in arrows.items():
        label = ", ".join(dict.fromkeys(words))
        lines.append(f"    {origin} --> {target}: {'next step: ' if origin == target else ''}{label}")
    lines.append(f'    state "{_ANYWHERE}" as anywhere')
    lines.append(f"    anywhere --> {Phase.KILLED.value}: kill")
    lines.append(f"    {Phase.KILLED.value} --> anywhere: unkill, to where it was")
    return "\n".join(lines)


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
    onward = {*_STEPS, Phase.HEALTHY}
    if not onward <= set(phases):
        return ", ".join(dict.fromkeys(phase.value for phase in phases))
    others = [phase.value for phase in phases if phase not in onward]
    return ", ".join(["the next step (Healthy after the last)", *others])


def _word(kind: EventKind) -> str:
    return kind.value if isinstance(kind, CommandKind) else kind


def _place(phase: Phase) -> str:
    return _INSIDE if phase in _STEPS else phase.value
