"""Where a rollout stands: phases, outcomes, the program it follows, and the state itself.

Units: weights and percentages are basis points (0..10000), times are seconds since the epoch, durations are
seconds. All values survive a round trip through JSON unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

from xds_server.rollout.slots import Segment, Split, shares

__all__ = [
    "LIVE",
    "STRATEGY",
    "Analysis",
    "Bake",
    "Course",
    "Experiment",
    "Finding",
    "Kill",
    "Outcome",
    "Pause",
    "Phase",
    "Program",
    "SetWeight",
    "Shadow",
    "Spread",
    "State",
    "Step",
    "Undecided",
    "Weights",
]

STRATEGY: Final = "strategy"
"""The name of the split a strategy moves; those of rules and prompts carry names of their own."""

Weights = tuple[tuple[str, int], ...]
"""Variants with their shares, in the order in which they take slots; the base has the rest."""


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
    KILLED = "Killed"
    """One backend serves everyone until somebody takes the kill back; the rollout stands still behind it."""


LIVE = frozenset(
    {Phase.PENDING, Phase.SHADOWING, Phase.PROGRESSING, Phase.PAUSED, Phase.BAKING, Phase.DEGRADED}
)
"""The phases of a rollout that has not ended; from each of them it can be taken back."""


class Outcome(Enum):
    """How a rollout ended."""

    PROMOTED = "Promoted"
    """The candidate serves everyone."""
    COMPLETED = "Completed"
    """The shadow or the test ran for as long as it should."""
    ABORTED = "Aborted"
    """An operator took it back before it had ended."""
    UNDONE = "Undone"
    """An operator took it back after it had ended."""
    ROLLED_BACK = "RolledBack"
    """It was taken back without anybody asking: the evidence was against it, or the candidate died."""


class Finding(Enum):
    """What an analysis found."""

    PASS = "Pass"  # noqa: S105 - a verdict
    FAIL = "Fail"
    INCONCLUSIVE = "Inconclusive"
    NO_DATA = "NoData"
    ERROR = "Error"


class Undecided(Enum):
    """What to do where a verdict is due and there is none."""

    HOLD = "Hold"
    ROLLBACK = "Rollback"
    PROMOTE = "Promote"


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
    """Copy `percentage` of the requests, for `duration` seconds or until an operator ends it.

    With `min_pairs` it lasts until that many pairs of answers were compared as well and the verdict on them
    is as `required`, and then ends by itself. Above `tokens_per_second` fewer requests are copied.
    """

    percentage: int
    duration: float | None
    min_pairs: int | None = None
    tokens_per_second: int | None = None
    required: Literal["Equivalent", "NotDifferent"] = "NotDifferent"
    kind: Literal["shadow"] = "shadow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Give several variants their shares, for `duration` seconds or until an operator ends it.

    Afterwards users stay where they are, or with `back` return to the stable backend.
    """

    weights: Weights
    duration: float | None
    back: bool
    kind: Literal["experiment"] = "experiment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """Wait for a verdict; only a good one leads on by itself."""

    name: str
    kind: Literal["analysis"] = "analysis"


Step = SetWeight | Pause | Bake | Shadow | Experiment | Analysis


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A split that no strategy moves: its shares are those the spec says. `base` has what they leave."""

    name: str
    base: str
    weights: Weights


Course = tuple[str, str | None, tuple[Step, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What a spec asks of the rollout. No steps: there is nothing to roll out.

    `spreads` are the fixed splits. `killed` is the reason for which the spec says that `serve` shall serve
    everyone, None while it does not. `checked` are the backends whose health is asked for: they are given
    users only while they are known to live. `keep_warm` is for how many seconds after the end the former
    backend is to be kept ready for an undo.

    With `judged` a timed step that gave users to a candidate ends only with a good verdict. It waits for one
    for up to `patience` seconds more; then `undecided` says what to do.
    """

    stable: str
    candidate: str | None
    steps: tuple[Step, ...]
    convergence_timeout: float
    progress_deadline: float
    spreads: tuple[Spread, ...] = ()
    serve: str = ""
    killed: str | None = None
    checked: tuple[str, ...] = ()
    keep_warm: float = 0.0
    judged: bool = False
    patience: float = 3600.0
    undecided: Undecided = Undecided.HOLD

    @property
    def course(self) -> Course:
        """What makes a rollout another one when it changes."""
        return self.stable, self.candidate, self.steps

    @property
    def variants(self) -> frozenset[str]:
        """The backends a step may give users to."""
        found = {v for step in self.steps if isinstance(step, Experiment) for v, _ in step.weights}
        return frozenset(found if self.candidate is None else {*found, self.candidate})


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """Who has everyone served by `serve`, why, and since when; `phase` and `left` are what it interrupted."""

    serve: str
    actor: str
    reason: str
    at: float
    by_spec: bool
    phase: Phase
    left: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A rollout at one moment.

    `revision` counts the worlds it published, `generation` the specs it accepted. `published_at` is when the
    newest world left, `converged` whether the proxies were once seen to hold it. `step_began_at` and
    `ends_at` are the clock of the current step. While `resumes` is set the rollout is held up: by an operator
    (phase PAUSED; `left` is what the clock had left) or by proxies (DEGRADED); it is the phase to go back to.

    `splits` say whose slots are whose. `mirror` is the share of requests that is copied now. `healthy` and
    `dead` are the checked backends that are known to live, and known not to. `pairs_before` is how many pairs
    there were when the shadow began, `proven` that it has its own, `likeness` the verdict on them.
    `budgeted_at` is when the share of copies was last changed to meet a budget, `warm_until` until when the
    former backend shall be ready.

    `run` counts how often a rollout began: evidence of one run says nothing of the next. `finding` is the
    newest verdict of this run, None before the first.
    """

    route: str
    revision: int
    generation: int
    digest: str
    program: Program
    phase: Phase
    outcome: Outcome | None = None
    step: int = 0
    splits: tuple[Split, ...] = ()
    mirror: int = 0
    published_at: float = 0.0
    converged: bool = False
    step_began_at: float | None = None
    ends_at: float | None = None
    resumes: Phase | None = None
    left: float | None = None
    message: str = ""
    healthy: tuple[str, ...] = ()
    dead: tuple[str, ...] = ()
    pairs_before: int | None = None
    proven: bool = False
    likeness: str = ""
    budgeted_at: float | None = None
    kill: Kill | None = None
    warm_until: float | None = None
    run: int = 1
    finding: Finding | None = None

    @property
    def current(self) -> Step | None:
        """The step it is in; None before the first and after the last."""
        phase = self.phase if self.kill is None else self.kill.phase
        if self.resumes is Phase.PENDING or phase in {
            Phase.PENDING,
            Phase.HEALTHY,
            Phase.ROLLING_BACK,
            Phase.ROLLED_BACK,
        }:
            return None
        return self.program.steps[self.step] if self.step < len(self.program.steps) else None

    def segments(self, name: str) -> tuple[Segment, ...]:
        """Return the layout of a split; empty for one there is none of."""
        return next((split.segments for split in self.splits if split.name == name), ())

    @property
    def weights(self) -> dict[str, int]:
        """The shares of all variants but the stable backend in the strategy's split."""
        found = shares(self.segments(STRATEGY))
        found.pop(self.program.stable, None)
        return found

    @property
    def weight(self) -> int:
        """The share of all users who are not on the stable backend because of the strategy."""
        return sum(self.weights.values())
