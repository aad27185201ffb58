"""Where a rollout stands: phases, outcomes, the program it follows, and the state itself.

Units: weights and percentages are basis points (0..10000), times are seconds since the epoch, durations are
seconds. All values survive a round trip through JSON unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

__all__ = [
    "FULL",
    "LIVE",
    "Bake",
    "Outcome",
    "Pause",
    "Phase",
    "Program",
    "SetWeight",
    "Shadow",
    "State",
    "Step",
]

FULL = 10_000


class Phase(Enum):
    """What a rollout is doing."""

    PENDING = "Pending"
    """Accepted; proxies are learning the backends, nobody is moved yet."""
    SHADOWING = "Shadowing"
    """A share of requests is copied to the candidate."""
    PROGRESSING = "Progressing"
    """Users are being moved, step by step."""
    PAUSED = "Paused"
    """Waits for an operator: a pause without an end, or one an operator asked for."""
    BAKING = "Baking"
    """All steps are done; the last look before it counts as healthy."""
    HEALTHY = "Healthy"
    """Finished well, or nothing to roll out."""
    ROLLING_BACK = "RollingBack"
    """Users are being taken back; done when the proxies hold it."""
    ROLLED_BACK = "RolledBack"
    """Taken back."""
    DEGRADED = "Degraded"
    """A step did not reach the proxies within the progress deadline; weights stay."""


LIVE = frozenset(
    {Phase.PENDING, Phase.SHADOWING, Phase.PROGRESSING, Phase.PAUSED, Phase.BAKING, Phase.DEGRADED}
)
"""The phases of a rollout that has not ended; from each of them it can be taken back."""


class Outcome(Enum):
    """How a rollout ended."""

    PROMOTED = "Promoted"
    """The candidate serves everyone."""
    COMPLETED = "Completed"
    """The shadow ran for as long as it should."""
    ABORTED = "Aborted"
    """An operator took it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetWeight:
    """Give the candidate this weight."""

    weight: int
    kind: Literal["setWeight"] = "setWeight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Wait for `duration` seconds, or for an operator when it is None."""

    duration: float | None
    kind: Literal["pause"] = "pause"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bake:
    """Watch the finished rollout for `duration` seconds before it counts as healthy."""

    duration: float
    kind: Literal["bake"] = "bake"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """Copy `percentage` of the requests, for `duration` seconds or until an operator ends it."""

    percentage: int
    duration: float | None
    kind: Literal["shadow"] = "shadow"


Step = SetWeight | Pause | Bake | Shadow


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What a spec asks of the rollout. No steps: there is nothing to roll out."""

    stable: str
    candidate: str | None
    steps: tuple[Step, ...]
    convergence_timeout: float
    progress_deadline: float


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A rollout at one moment.

    `revision` counts the worlds it published, `generation` the specs it accepted. `published_at` is when the
    newest world left, `converged` whether the proxies were once seen to hold it. `step_began_at` and
    `ends_at` are the clock of the current step. While `resumes` is set the rollout is held up: by an operator
    (phase PAUSED; `left` is what the clock had left) or by proxies (DEGRADED); it is the phase to go back to.
    """

    route: str
    revision: int
    generation: int
    digest: str
    program: Program
    phase: Phase
    outcome: Outcome | None = None
    step: int = 0
    weight: int = 0
    mirror: int = 0
    published_at: float = 0.0
    converged: bool = False
    step_began_at: float | None = None
    ends_at: float | None = None
    resumes: Phase | None = None
    left: float | None = None
    message: str = ""

    @property
    def current(self) -> Step | None:
        """The step it is in; None before the first and after the last."""
        if self.resumes is Phase.PENDING or self.phase in {
            Phase.PENDING,
            Phase.HEALTHY,
            Phase.ROLLING_BACK,
            Phase.ROLLED_BACK,
        }:
            return None
        return self.program.steps[self.step] if self.step < len(self.program.steps) else None
