"""How a candidate is tried: one class per strategy a spec may name."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from xds_server.spec.scalars import (
    Alpha,
    Concurrency,
    Duration,
    Fraction,
    GrowthFactor,
    Long,
    Name,
    PairCount,
    Part,
    Percent,
    Plain,
    RequestSize,
    Share,
    Tokens,
)
from xds_server.spec.targeting import Clause, Stickiness

__all__ = [
    "AbTest",
    "AllAtOnce",
    "BlueGreen",
    "Canary",
    "Compare",
    "Counted",
    "DeploymentStrategy",
    "Effect",
    "Experiment",
    "Growth",
    "GrowthSpec",
    "Hypothesis",
    "Metadata",
    "NoiseBaseline",
    "PauseStep",
    "Promotion",
    "Shadow",
    "ShadowLimits",
    "Step",
    "Strategy",
    "StrategyRef",
]


class PauseStep(Part):
    """A wait; without a duration until somebody promotes."""

    duration: Long | None = None


class Step(Part):
    """One step of a canary; exactly one of the two."""

    set_weight: Percent | None = None
    pause: PauseStep | None = None


class Canary(Part):
    """Move users step by step: `steps`, or in short `step_weights` with an `interval` between them."""

    stickiness: Stickiness | None = None
    steps: Annotated[tuple[Step, ...], Field(strict=False, min_length=1, max_length=200)] | None = None
    step_weights: Annotated[tuple[Share, ...], Field(strict=False, min_length=1, max_length=100)] | None = (
        None
    )
    interval: Long | None = None
    final_bake_time: Duration = timedelta(0)


class ShadowLimits(Part):
    """What a stuck shadow may hold at most."""

    max_concurrent_requests: Concurrency = 64
    max_pending_requests: Concurrency = 16
    max_request_size: RequestSize = 32 << 20
    timeout: Long = timedelta(seconds=120)


class NoiseBaseline(Part):
    """Send a second copy of some copied requests to the stable backend: its answers differ by themselves."""

    percentage: Share
    """Of the requests that are copied."""


class Compare(Part):
    """How answers are compared. Without a noise baseline no verdict on their text is possible.

    Of one `session_attribute` only the first pair counts as evidence, for what one user asks is alike.
    """

    noise_baseline: NoiseBaseline | None = None
    session_attribute: Plain | None = None


class Promotion(Part):
    """What follows a shadow: the canary beside it, once `min_pairs` pairs of answers were compared.

    `require_verdict` is what they must say; by default that the backends answer alike where there is a noise
    baseline, and nothing to the contrary where there is none.
    """

    next: Literal["canary"] = "canary"
    min_pairs: PairCount = 100
    require_verdict: Literal["Equivalent", "NotDifferent"] | None = None


class Shadow(Part):
    """Copy a share of the requests; users never see the answers.

    `max_tokens_per_second` is what the candidate may spend on copies; above it fewer are copied. `match`
    narrows what is copied to requests of which all clauses hold.
    """

    percentage: Share
    duration: Long | None = None
    limits: ShadowLimits = ShadowLimits()
    match: Annotated[tuple[Clause, ...], Field(strict=False, max_length=16)] = ()
    max_tokens_per_second: Tokens | None = None
    compare: Compare = Compare()
    promotion: Promotion | None = None

    @property
    def required(self) -> Literal["Equivalent", "NotDifferent"]:
        """What the verdict must be before the canary may begin."""
        asked = None if self.promotion is None else self.promotion.require_verdict
        return asked or ("NotDifferent" if self.compare.noise_baseline is None else "Equivalent")


class Experiment(Part):
    """One variant of an A/B test beside the control: a backend and its share of the users."""

    backend: Name
    weight: Share


class Effect(Part):
    """The smallest effect worth finding; exactly one of the two, as a share of 1."""

    absolute: Fraction | None = None
    relative: Fraction | None = None


class Counted(Part):
    """What is counted of each user, and whether that is good.

    Without a `column` nobody is called a winner. `superiority` is by how much, in absolute terms, a variant
    must be better to win.
    """

    name: Plain
    column: Literal["Good", "Bad"] | None = None
    superiority: Fraction = 0.0


class Hypothesis(Counted):
    """The primary metric of an A/B test, and what it is planned by."""

    baseline: Fraction
    minimum_detectable_effect: Effect
    alpha: Alpha = 0.05
    power: Fraction = 0.8


class AbTest(Part):
    """Split users between a control and variants, and keep them there.

    The control is the stable backend; it has what the variants leave. `randomization_unit` is the attribute
    that names a user, and each unit counts once in the exposures.
    """

    randomization_unit: Plain
    salt: Plain | None = None
    control: Name | None = None
    variants: Annotated[tuple[Experiment, ...], Field(strict=False, min_length=1, max_length=9)]
    primary_metric: Hypothesis | None = None
    secondary_metrics: Annotated[tuple[Counted, ...], Field(strict=False, max_length=16)] = ()
    max_duration: Long | None = None
    on_complete: Literal["Hold", "Control"] = "Hold"

    @property
    def stickiness(self) -> Stickiness:
        """By what users stay where they are: by what they are counted."""
        return Stickiness.model_construct(attribute=self.randomization_unit, salt=self.salt)


class BlueGreen(Part):
    """Keep the candidate aside, reachable by `preview_match` alone, and switch everyone at once.

    With a canary beside it the switch follows the canary's steps.
    """

    preview_match: Annotated[tuple[Clause, ...], Field(strict=False, max_length=16)] = ()
    auto_promotion_enabled: bool = False
    auto_promotion_after: Duration = timedelta(0)
    keep_warm: Duration = timedelta(hours=72)


class AllAtOnce(Part):
    """Move everyone at once."""

    final_bake_time: Duration = timedelta(0)


class GrowthSpec(Part):
    """How fast the candidate's share grows: linear steps of `growth_factor`, or doubling from it.

    The last step is always everybody; the steps are spread evenly over `deployment_duration`.
    """

    growth_type: Literal["Linear", "Exponential"] = "Linear"
    growth_factor: GrowthFactor
    deployment_duration: Duration
    final_bake_time: Duration = timedelta(0)


class Growth(GrowthSpec):
    """A growth written into a route, or found there by its name."""

    stickiness: Stickiness | None = None


class StrategyRef(Part):
    """A strategy by its name: one of the file's DeploymentStrategy documents, or a preset."""

    name: Plain
    stickiness: Stickiness | None = None


class Strategy(Part):
    """How the candidate is tried: exactly one, or a shadow or blue-green that leads into the canary there.

    A `strategy_ref` that was found stands beside the `growth` it refers to.
    """

    canary: Canary | None = None
    shadow: Shadow | None = None
    ab_test: AbTest | None = None
    blue_green: BlueGreen | None = None
    all_at_once: AllAtOnce | None = None
    growth: Growth | None = None
    strategy_ref: StrategyRef | None = None


class Metadata(Part):
    """Who a deployment strategy is."""

    name: Plain
    labels: dict[str, str] = Field(default_factory=dict)


class DeploymentStrategy(Part):
    """A strategy that several routes may refer to."""

    api_version: Literal["shiftplane.dev/v1alpha1"]
    kind: Literal["DeploymentStrategy"]
    metadata: Metadata
    spec: GrowthSpec
