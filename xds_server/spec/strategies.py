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
    """How long; without one until somebody promotes."""


class Step(Part):
    """One step of a canary; exactly one of the two."""

    set_weight: Percent | None = None
    """The candidate's share of the users from here on."""

    pause: PauseStep | None = None
    """A wait before the next step; its clock begins once proxies hold the weight."""


class Canary(Part):
    """Move users step by step: `steps`, or in short `step_weights` with an `interval` between them."""

    stickiness: Stickiness | None = None
    """By what users stay where they are; without it each request is placed by chance."""

    steps: Annotated[tuple[Step, ...], Field(strict=False, min_length=1, max_length=200)] | None = None
    """Weights and pauses in their order; exactly one of this and `stepWeights`."""

    step_weights: Annotated[tuple[Share, ...], Field(strict=False, min_length=1, max_length=100)] | None = (
        None
    )
    """The short form: ascending weights."""

    interval: Long | None = None
    """The pause between `stepWeights`; without one each follows as soon as proxies hold the last."""

    final_bake_time: Duration = timedelta(0)
    """A last look before the rollout counts as healthy."""


class ShadowLimits(Part):
    """What a stuck shadow may hold at most."""

    max_concurrent_requests: Concurrency = 64
    """Copies in flight, per proxy; more are not sent."""

    max_pending_requests: Concurrency = 16
    """Copies that wait for a connection, per proxy."""

    max_request_size: RequestSize = 32 << 20
    """Larger requests, and those that declare no length, are not copied."""

    timeout: Long = timedelta(seconds=120)
    """How long an answer of the shadow may take."""


class NoiseBaseline(Part):
    """Send a second copy of some copied requests to the stable backend: its answers differ by themselves."""

    percentage: Share
    """Of the requests that are copied."""


class Compare(Part):
    """How answers are compared."""

    noise_baseline: NoiseBaseline | None = None
    """How many copied requests the stable backend answers twice; without it no verdict on text is
    possible.
    """

    session_attribute: Plain | None = None
    """Of one user or session, as this attribute names it, only the first pair counts as evidence, for what
    one user asks is alike.
    """


class Promotion(Part):
    """What follows a shadow, and what its pairs of answers must say before."""

    next: Literal["canary"] = "canary"
    """What follows: the canary beside the shadow."""

    min_pairs: PairCount = 100
    """So many pairs of answers must have been compared."""

    require_verdict: Literal["Equivalent", "NotDifferent"] | None = None
    """What they must say; by default `Equivalent` where there is a noise baseline, and `NotDifferent`
    where there is none.
    """


class Shadow(Part):
    """Copy a share of the requests; users never see the answers."""

    percentage: Share
    """The share of the requests that is copied to the candidate."""

    duration: Long | None = None
    """How long; without one until promoted. With `promotion` it is the least time."""

    limits: ShadowLimits = ShadowLimits()
    """What a stuck shadow may hold at most."""

    match: Annotated[tuple[Clause, ...], Field(strict=False, max_length=16)] = ()
    """Only requests of which all clauses hold are copied."""

    max_tokens_per_second: Tokens | None = None
    """What the candidate may spend on copies, second copies included; above it fewer are copied."""

    compare: Compare = Compare()
    """How answers are compared."""

    promotion: Promotion | None = None
    """What follows by itself; without it the shadow ends and nobody is moved."""

    @property
    def required(self) -> Literal["Equivalent", "NotDifferent"]:
        """What the verdict must be before the canary may begin."""
        asked = None if self.promotion is None else self.promotion.require_verdict
        return asked or ("NotDifferent" if self.compare.noise_baseline is None else "Equivalent")


class Experiment(Part):
    """One variant of an A/B test beside the control: a backend and its share of the users."""

    backend: Name
    """A backend beside the stable one."""

    weight: Share
    """Its share of the users."""


class Effect(Part):
    """The smallest effect worth finding; exactly one of the two, as a share of 1."""

    absolute: Fraction | None = None
    """A difference: 0.05 takes 0.10 to 0.15."""

    relative: Fraction | None = None
    """A factor: 0.05 takes 0.10 to 0.105."""


class Counted(Part):
    """What is counted of each user, and whether that is good."""

    name: Plain
    """The `metric` by which outcomes are told."""

    column: Literal["Good", "Bad"] | None = None
    """Whether what is counted is good; without it nobody is called a winner."""

    superiority: Fraction = 0.0
    """By how much, in absolute terms, a variant must be better to win."""


class Hypothesis(Counted):
    """The primary metric of an A/B test, and what it is planned by."""

    baseline: Fraction
    """The rate of the control, as a share of 1."""

    minimum_detectable_effect: Effect
    """The smallest effect worth finding; with `baseline` it says how many users it takes."""

    alpha: Alpha = 0.05
    """The chance of a false winner."""

    power: Fraction = 0.8
    """The chance to find the effect if it is there."""


class AbTest(Part):
    """Split users between a control and variants, and keep them there."""

    randomization_unit: Plain
    """The attribute that names a user; each unit counts once."""

    salt: Plain | None = None
    """Makes this test's split independent of others; by default the route's name."""

    control: Name | None = None
    """May be said, and is always the stable backend; it has what the variants leave."""

    variants: Annotated[tuple[Experiment, ...], Field(strict=False, min_length=1, max_length=9)]
    """Who is tried, with 100 percent together at most."""

    primary_metric: Hypothesis | None = None
    """What the test is about, and is planned by."""

    secondary_metrics: Annotated[tuple[Counted, ...], Field(strict=False, max_length=16)] = ()
    """What else is looked at; their p-values are adjusted by Holm's method."""

    max_duration: Long | None = None
    """How long; without one until promoted."""

    on_complete: Literal["Hold", "Control"] = "Hold"
    """`Hold` leaves the split as it is, `Control` gives everyone back."""

    @property
    def stickiness(self) -> Stickiness:
        """By what users stay where they are: by what they are counted."""
        return Stickiness.model_construct(attribute=self.randomization_unit, salt=self.salt)


class BlueGreen(Part):
    """Keep the candidate aside, reachable by `preview_match` alone, and switch everyone at once.

    With a canary beside it the switch follows the canary's steps.
    """

    preview_match: Annotated[tuple[Clause, ...], Field(strict=False, max_length=16)] = ()
    """Requests of which all clauses hold reach the candidate before the switch."""

    auto_promotion_enabled: bool = False
    """Whether it switches without waiting for `promote`."""

    auto_promotion_after: Duration = timedelta(0)
    """So long after the candidate was ready; only with `autoPromotionEnabled`."""

    keep_warm: Duration = timedelta(hours=72)
    """How long the former backend is to stay ready."""


class AllAtOnce(Part):
    """Move everyone at once."""

    final_bake_time: Duration = timedelta(0)
    """A last look before the rollout counts as healthy."""


class GrowthSpec(Part):
    """How fast the candidate's share grows: linear steps of `growth_factor`, or doubling from it.

    The last step is always everybody; the steps are spread evenly over `deployment_duration`.
    """

    growth_type: Literal["Linear", "Exponential"] = "Linear"
    """`Linear`: steps of `growthFactor`. `Exponential`: `growthFactor`, twice that, and so on."""

    growth_factor: GrowthFactor
    """The first step, of the users."""

    deployment_duration: Duration
    """How long the steps take together, each the same."""

    final_bake_time: Duration = timedelta(0)
    """A last look before the rollout counts as healthy."""


class Growth(GrowthSpec):
    """A growth written into a route, or found there by its name."""

    stickiness: Stickiness | None = None
    """By what users stay where they are."""


class StrategyRef(Part):
    """A strategy by its name: one of the file's DeploymentStrategy documents, or a preset."""

    name: Plain
    """A `DeploymentStrategy` of the same file, or a preset."""

    stickiness: Stickiness | None = None
    """By what users stay where they are."""


class Strategy(Part):
    """How the candidate is tried: exactly one, or a shadow or blue-green that leads into the canary there.

    A `strategy_ref` that was found stands beside the `growth` it refers to.
    """

    canary: Canary | None = None
    """Move users step by step."""

    shadow: Shadow | None = None
    """Copy requests; nobody sees the answers."""

    ab_test: AbTest | None = None
    """Split users between a control and variants."""

    blue_green: BlueGreen | None = None
    """Switch everyone at once, and back."""

    all_at_once: AllAtOnce | None = None
    """Move everyone at once."""

    growth: Growth | None = None
    """Move users at a pace."""

    strategy_ref: StrategyRef | None = None
    """A pace by its name."""


class Metadata(Part):
    """Who a deployment strategy is."""

    name: Plain
    """What `strategyRef.name` says."""

    labels: dict[str, str] = Field(default_factory=dict)
    """Text by name, for your own use."""


class DeploymentStrategy(Part):
    """A strategy that several routes may refer to."""

    api_version: Literal["shiftplane.dev/v1alpha1"]
    """The version of this format."""

    kind: Literal["DeploymentStrategy"]
    """What the document is."""

    metadata: Metadata
    """Who the strategy is."""

    spec: GrowthSpec
    """How fast it is."""
