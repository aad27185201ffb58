"""The rollout state: phases, outcomes, the program of steps, and the state itself (frozen, stored as JSON).

Units: weights and percentages are basis points (0..10000), times are seconds since the epoch, durations are
seconds. Every value survives a round trip through JSON unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from operator import not_
from typing import Annotated, Final, Literal

from pydantic import Field

from xds_server.rollout.slots import Segment, Split, segments_of, slots_by_variant

__all__ = [
    "ACTIVE_PHASES",
    "STRATEGY_SPLIT",
    "Analysis",
    "Bake",
    "Experiment",
    "Finding",
    "FixedSplit",
    "Kill",
    "OnInconclusive",
    "Outcome",
    "Pause",
    "Phase",
    "Program",
    "RolloutKey",
    "SetWeight",
    "Shadow",
    "State",
    "Step",
    "Weights",
]

STRATEGY_SPLIT: Final = "strategy"
"""The name of the split that the strategy moves; splits of targeting rules and prompts have their own names.
"""

Weights = tuple[tuple[str, int], ...]
"""(variant, share) pairs in the order in which they take slots; the base variant has the rest."""

# Stored states and events keep the field names of earlier releases.
StoredEquivalence = Annotated[str, Field(alias="likeness")]
_StoredJudged = Annotated[bool, Field(alias="judged")]
StoredLapsed = Annotated[bool, Field(exclude_if=not_)]
StoredNames = Annotated[tuple[str, ...], Field(exclude_if=not_)]
_StoredTimeout = Annotated[float, Field(alias="patience")]


class Phase(Enum):
    """The phase of a rollout; `transitions.TABLE` lists the events that change it."""

    PENDING = "Pending"
    """Accepted; waits until the proxies have the clusters. This run has not moved any user yet."""
    SHADOWING = "Shadowing"
    """A share of the requests is mirrored to the candidate."""
    PROGRESSING = "Progressing"
    """Users move to the candidate, step by step."""
    PAUSED = "Paused"
    """Waits for an operator: in a pause step without a duration, or after a pause command."""
    BAKING = "Baking"
    """All weights are done; the rollout is watched for a while before it counts as healthy."""
    HEALTHY = "Healthy"
    """Ended successfully, or there is nothing to roll out."""
    ROLLING_BACK = "RollingBack"
    """All users return to the stable backend; ends when the proxies are synced."""
    ROLLED_BACK = "RolledBack"
    """Rolled back, and the proxies are synced."""
    DEGRADED = "Degraded"
    """A step did not converge within the progress deadline; weights stay."""
    KILLED = "Killed"
    """One backend serves all users until the kill ends; the rollout behind it is suspended."""


ACTIVE_PHASES = frozenset(
    {Phase.PENDING, Phase.SHADOWING, Phase.PROGRESSING, Phase.PAUSED, Phase.BAKING, Phase.DEGRADED}
)
"""The phases of a rollout that has not ended; it can be rolled back from each of them."""


class Outcome(Enum):
    """How a rollout ended."""

    PROMOTED = "Promoted"
    """All steps are done; the candidate keeps its last weight, normally all users."""
    COMPLETED = "Completed"
    """All steps are done, and the last one was a shadow or an experiment."""
    ABORTED = "Aborted"
    """An operator rolled it back before it had ended."""
    UNDONE = "Undone"
    """An operator rolled it back after it had ended."""
    ROLLED_BACK = "RolledBack"
    """Rolled back automatically: a failed or missing verdict, an alarm, or a candidate that is unhealthy."""


class Finding(Enum):
    """The result of an analysis of the candidate."""

    PASS = "Pass"  # noqa: S105 - a verdict
    FAIL = "Fail"
    INCONCLUSIVE = "Inconclusive"
    NO_DATA = "NoData"
    ERROR = "Error"


class OnInconclusive(Enum):
    """What to do when a step requires the verdict Pass and has not received it in time."""

    HOLD = "Hold"
    ROLLBACK = "Rollback"
    PROMOTE = "Promote"


_StoredOnInconclusive = Annotated[OnInconclusive, Field(alias="undecided")]


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
    """Mirror `percentage` of the requests, for `duration` seconds or until an operator ends the step.

    With `min_pairs` the step also lasts until that many pairs of answers were compared and their equivalence
    verdict is as `required`; it then ends by itself. Above `tokens_per_second` fewer requests are mirrored.
    """

    percentage: int
    duration: float | None
    min_pairs: int | None = None
    tokens_per_second: int | None = None
    required: Literal["Equivalent", "NotDifferent"] = "NotDifferent"
    kind: Literal["shadow"] = "shadow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Give several variants their shares, for `duration` seconds or until an operator ends the step.

    At the end users stay where they are, or return to the stable backend if `back` is set.
    """

    weights: Weights
    duration: float | None
    back: bool
    kind: Literal["experiment"] = "experiment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """Wait for a verdict: Pass ends the step, Fail rolls back; otherwise an operator decides."""

    name: str
    kind: Literal["analysis"] = "analysis"


Step = SetWeight | Pause | Bake | Shadow | Experiment | Analysis


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedSplit:
    """A split whose shares come from the spec and not from a strategy; `base` has what the weights leave."""

    name: str
    base: str
    weights: Weights


RolloutKey = tuple[str, str | None, tuple[Step, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The rollout that a spec describes; without steps there is nothing to roll out.

    `spreads` are the fixed splits. `killed` is the reason of the spec's kill switch, None while it is off;
    `serve` is the backend that serves all users during a kill. `checked` are the backends with health checks:
    they gain users only while they are healthy. `keep_warm` is the time in seconds for which the former
    backend is kept ready for an undo.

    With `requires_verdict` a timed step ends only with a Pass while the candidate has users. It waits up to
    `verdict_timeout` seconds longer for one; then `on_inconclusive` applies.
    """

    stable: str
    candidate: str | None
    steps: tuple[Step, ...]
    convergence_timeout: float
    progress_deadline: float
    spreads: tuple[FixedSplit, ...] = ()
    serve: str = ""
    killed: str | None = None
    checked: tuple[str, ...] = ()
    keep_warm: float = 0.0
    requires_verdict: _StoredJudged = False
    verdict_timeout: _StoredTimeout = 3600.0
    on_inconclusive: _StoredOnInconclusive = OnInconclusive.HOLD

    @property
    def rollout_key(self) -> RolloutKey:
        """The part of the program whose change starts a new run."""
        return self.stable, self.candidate, self.steps

    @property
    def variants(self) -> frozenset[str]:
        """The backends that a step may give users to."""
        found = {v for step in self.steps if isinstance(step, Experiment) for v, _ in step.weights}
        return frozenset(found if self.candidate is None else {*found, self.candidate})


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A kill: `serve` serves all users; `phase` and `left` (seconds) are those of the suspended rollout."""

    serve: str
    actor: str
    reason: str
    at: float
    by_spec: bool
    phase: Phase
    left: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The state of a rollout at one moment.

    `revision` counts published versions of the route, `generation` accepted specs. `published_at` is when the
    newest revision was published, `converged` whether a quorum of proxies was once synced with it.
    `step_began_at` and `ends_at` are the timer of the current step. `resumes` is the phase to return to while
    the rollout waits for an operator (phase PAUSED; `left` is the time left on the timer) or for proxies
    (DEGRADED).

    `splits` assign the slots to variants. `mirror` is the share of requests that is mirrored now. `healthy`
    and `dead` are the checked backends with and without a healthy endpoint; a backend in neither has not been
    checked yet. `pairs_before` is the number of pairs compared before the shadow began, `proven` whether the
    shadow meets its requirement, `equivalence` the verdict on its pairs. `budgeted_at` is when the mirrored
    share was last adjusted to the token budget, `warm_until` until when the former backend is kept ready.

    `withdrawn` are the backends that failed in this run. The stable backend serves the users that targets,
    rules, experiments and the preview assign to them.

    `run` counts how often a rollout started: evidence of one run does not apply to the next. `finding` is the
    newest verdict of this run, None before the first. `lapsed` is whether it was a Pass and became NoData
    only because the stable backend has too few requests for a comparison.
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
    equivalence: StoredEquivalence = ""
    budgeted_at: float | None = None
    kill: Kill | None = None
    warm_until: float | None = None
    withdrawn: StoredNames = ()
    run: int = 1
    finding: Finding | None = None
    lapsed: StoredLapsed = False

    @property
    def current(self) -> Step | None:
        """The current step; None before the first and after the last."""
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
        """Return the layout of a split; empty if there is no such split."""
        return segments_of(self.splits, name)

    @property
    def weights(self) -> dict[str, int]:
        """The shares of the variants other than the stable backend in the strategy's split."""
        found = slots_by_variant(self.segments(STRATEGY_SPLIT))
        found.pop(self.program.stable, None)
        return found

    @property
    def weight(self) -> int:
        """The share of users that the strategy has moved off the stable backend."""
        return sum(self.weights.values())
