"""Rollout strategies: one class per strategy of a route spec."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from xds_server.spec.scalars import (
    Alpha,
    Concurrency,
    Duration,
    DurationMin1s,
    Fraction,
    GrowthFactor,
    Name,
    PairCount,
    Percent,
    RequestSize,
    Share,
    ShortText,
    SpecModel,
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


class PauseStep(SpecModel):
    """A pause between two steps."""

    duration: DurationMin1s | None = None
    """Length of the pause. Without it, the rollout waits until an operator resumes or promotes it."""


class Step(SpecModel):
    """One step of a canary: exactly one of `set_weight` and `pause`."""

    set_weight: Percent | None = None
    """Percentage of users served by the candidate from this step on."""

    pause: PauseStep | None = None
    """A pause before the next step. Its duration starts when the weight has converged."""


class Canary(SpecModel):
    """Move users to the candidate in `steps`, or in the short form `step_weights` with an `interval`."""

    stickiness: Stickiness | None = None
    """The attribute that keeps a user on the same backend. Without it, each request is assigned at random."""

    steps: Annotated[tuple[Step, ...], Field(strict=False, min_length=1, max_length=200)] | None = None
    """Weights and pauses in the order of execution. Exactly one of `steps` and `stepWeights` is required."""

    step_weights: Annotated[tuple[Share, ...], Field(strict=False, min_length=1, max_length=100)] | None = (
        None
    )
    """Short form of `steps`: ascending weights."""

    interval: DurationMin1s | None = None
    """Pause between two `stepWeights`. Without it, each step starts when the previous one has converged."""

    final_bake_time: Duration = timedelta(0)
    """Observation time at the last weight before the rollout becomes Healthy."""


class ShadowLimits(SpecModel):
    """Limits on the resources that copied requests use in each proxy."""

    max_concurrent_requests: Concurrency = 64
    """Maximum number of copies in flight per proxy and backend. Further copies are dropped."""

    max_pending_requests: Concurrency = 16
    """Maximum number of copies per proxy and backend that wait for a connection."""

    max_request_size: RequestSize = 32 << 20
    """Maximum size of a copied request. Larger requests, and requests that do not declare a length, are not
    copied.
    """

    timeout: DurationMin1s = timedelta(seconds=120)
    """Time limit for the response to a copied request."""


class NoiseBaseline(SpecModel):
    """Send some copies to the stable backend as well, to measure how much its own answers differ."""

    percentage: Share
    """Percentage of the copied requests that are also copied to the stable backend."""


class Compare(SpecModel):
    """How the answers of both backends are compared."""

    noise_baseline: NoiseBaseline | None = None
    """Second copies of some requests, which the stable backend answers. Without second copies, no verdict on
    the text of the answers is possible.
    """

    session_attribute: ShortText | None = None
    """The attribute that identifies a user or session. Only the first pair of answers per user or session
    counts as evidence, because the requests of one user resemble each other.
    """


class Promotion(SpecModel):
    """The strategy that follows a shadow, and the evidence that it requires."""

    next: Literal["canary"] = "canary"
    """The strategy that follows: the `canary` of the same spec."""

    min_pairs: PairCount = 100
    """The canary starts only after at least this number of pairs in which both answers were read. The verdict
    `Equivalent` requires this number of pairs for each API that has at least 5 % of the copies.
    """

    require_verdict: Literal["Equivalent", "NotDifferent"] | None = None
    """The verdict that is required before the canary starts. Every verdict except `Different` meets
    `NotDifferent`. By default `Equivalent` with a noise baseline, and `NotDifferent` without one.
    """


class Shadow(SpecModel):
    """Copy a percentage of the requests to the candidate. Clients never receive its responses."""

    percentage: Share
    """Percentage of the requests that is copied to the candidate."""

    duration: DurationMin1s | None = None
    """Length of the shadow; with `promotion`, its minimum length. Without a duration, the shadow ends when
    the evidence that `promotion` requires is complete or, without `promotion`, when an operator promotes the
    rollout.
    """

    limits: ShadowLimits = ShadowLimits()
    """Limits on the resources that copied requests use in each proxy."""

    match: Annotated[tuple[Clause, ...], Field(strict=False, max_length=16)] = ()
    """Copy only requests that match all clauses."""

    max_tokens_per_second: Tokens | None = None
    """Maximum rate of tokens spent on copies, including the second copies of `compare.noiseBaseline`. Above
    this rate, fewer requests are copied.
    """

    compare: Compare = Compare()
    """How the answers of both backends are compared."""

    promotion: Promotion | None = None
    """The strategy that follows the shadow automatically. Without it, no user moves when the shadow ends."""

    @property
    def required(self) -> Literal["Equivalent", "NotDifferent"]:
        """The verdict that is required before the canary starts."""
        configured = None if self.promotion is None else self.promotion.require_verdict
        return configured or ("NotDifferent" if self.compare.noise_baseline is None else "Equivalent")


class Experiment(SpecModel):
    """One variant of an A/B test: a backend and its percentage of the users."""

    backend: Name
    """A backend other than the stable one."""

    weight: Share
    """Percentage of the users that the variant serves."""


class Effect(SpecModel):
    """The smallest effect that the test should detect: exactly one of `absolute` and `relative`."""

    absolute: Fraction | None = None
    """A difference of rates: with a baseline of 0.10, 0.05 means a rate of 0.15, or of 0.05 with `column:
    Bad`.
    """

    relative: Fraction | None = None
    """A relative change: with a baseline of 0.10, 0.05 means a rate of 0.105, or of 0.095 with `column: Bad`.
    """


class Counted(SpecModel):
    """A metric that is counted once per user."""

    name: ShortText
    """The name of the metric: the `metric` in the outcomes that applications send to `POST /v1/outcomes`."""

    column: Literal["Good", "Bad"] | None = None
    """Whether a counted user is a success (`Good`) or a failure (`Bad`). Without it in `primaryMetric`, no
    variant wins. Has no effect in `secondaryMetrics`.
    """

    superiority: Fraction = 0.0
    """A variant wins only if its rate is better than that of the control by more than this absolute
    difference. Has no effect in `secondaryMetrics`.
    """


class Hypothesis(Counted):
    """The primary metric of an A/B test, and the values that determine its sample size."""

    baseline: Fraction
    """The expected rate of the control, from 0 to 1."""

    minimum_detectable_effect: Effect
    """The smallest effect that the test should detect. With `baseline` it determines the number of users."""

    alpha: Alpha = 0.05
    """The maximum probability that a variant wins although it is not better."""

    power: Fraction = 0.8
    """The probability of detecting the effect if it exists."""


class AbTest(SpecModel):
    """Split users between a control and variants. Each user keeps the same variant."""

    randomization_unit: ShortText
    """The attribute that identifies a user. Each of its values counts as one user."""

    salt: ShortText | None = None
    """Makes this split independent of other splits. By default the name of the route."""

    control: Name | None = None
    """The control, which is always the stable backend. It serves all users that no variant serves."""

    variants: Annotated[tuple[Experiment, ...], Field(strict=False, min_length=1, max_length=9)]
    """The backends under test. Their weights must not exceed 100 in total."""

    primary_metric: Hypothesis | None = None
    """The metric that decides the test and determines its sample size."""

    secondary_metrics: Annotated[tuple[Counted, ...], Field(strict=False, max_length=16)] = ()
    """Further metrics, which are reported and do not decide the test. Their p-values are adjusted by Holm's
    method.
    """

    max_duration: DurationMin1s | None = None
    """Length of the test. Without it, the test runs until an operator promotes the rollout."""

    on_complete: Literal["Hold", "Control"] = "Hold"
    """`Hold` keeps the split after the test, `Control` returns all users to the control."""

    @property
    def stickiness(self) -> Stickiness:
        """The stickiness of the split, by the randomization unit."""
        return Stickiness.model_construct(attribute=self.randomization_unit, salt=self.salt)


class BlueGreen(SpecModel):
    """Serve the candidate to `preview_match` requests only, then switch all users at once.

    With a canary beside it, the users move by the steps of the canary instead of at once.
    """

    preview_match: Annotated[tuple[Clause, ...], Field(strict=False, max_length=16)] = ()
    """Requests that match all clauses are served by the candidate before the switch."""

    auto_promotion_enabled: bool = False
    """Whether the switch happens without a `promote` by an operator."""

    auto_promotion_after: Duration = timedelta(0)
    """Length of the preview, from the moment at which the proxies are synced. The switch also waits until the
    candidate is healthy. Requires `autoPromotionEnabled`.
    """

    keep_warm: Duration = timedelta(hours=72)
    """Time after the switch for which the previous backend must keep running, so that `undo` can use it.
    `describe` shows the remaining time; shiftplane does not stop the backend.
    """


class AllAtOnce(SpecModel):
    """Move all users at once."""

    final_bake_time: Duration = timedelta(0)
    """Observation time at full weight before the rollout becomes Healthy."""


class GrowthSpec(SpecModel):
    """How the weight of the candidate grows: in linear steps, or by doubling from `growth_factor`.

    The last step is always 100 percent. The steps are spread evenly over `deployment_duration`.
    """

    growth_type: Literal["Linear", "Exponential"] = "Linear"
    """`Linear`: each step adds `growthFactor`. `Exponential`: the first step is `growthFactor`, and each
    further step doubles the weight.
    """

    growth_factor: GrowthFactor
    """Percentage of users in the first step."""

    deployment_duration: Duration
    """Total duration of all steps; each step takes the same time."""

    final_bake_time: Duration = timedelta(0)
    """Observation time at full weight before the rollout becomes Healthy."""


class Growth(GrowthSpec):
    """How the weight of the candidate grows to 100 percent: in linear steps, or by doubling."""

    stickiness: Stickiness | None = None
    """The attribute that keeps a user on the same backend. Without it, each request is assigned at random."""


class StrategyRef(SpecModel):
    """A reference to a DeploymentStrategy document of the same file, or to a preset."""

    name: ShortText
    """The name of a `DeploymentStrategy` in the same file, or of a preset."""

    stickiness: Stickiness | None = None
    """The attribute that keeps a user on the same backend. Without it, each request is assigned at random."""


class Strategy(SpecModel):
    """The rollout strategy: exactly one field, or a canary together with `shadow` or `blue_green`."""

    # A resolved strategy has both `strategy_ref` and the `growth` that it refers to.

    canary: Canary | None = None
    """Move users step by step."""

    shadow: Shadow | None = None
    """Copy requests to the candidate. Clients never receive its responses."""

    ab_test: AbTest | None = None
    """Split users between a control and variants."""

    blue_green: BlueGreen | None = None
    """Preview the candidate, then switch all users at once, or by the steps of `canary` if it is set too."""

    all_at_once: AllAtOnce | None = None
    """Move all users at once."""

    growth: Growth | None = None
    """Move users in linear or doubling steps over a fixed duration."""

    strategy_ref: StrategyRef | None = None
    """Use the growth of the `DeploymentStrategy` or preset with this name."""


class Metadata(SpecModel):
    """The name and labels of a deployment strategy."""

    name: ShortText
    """The name that `strategyRef.name` refers to."""

    labels: dict[str, str] = Field(default_factory=dict)
    """Free-form labels."""


class DeploymentStrategy(SpecModel):
    """A strategy that several routes can refer to."""

    api_version: Literal["shiftplane.dev/v1alpha1"]
    """The API version of the document."""

    kind: Literal["DeploymentStrategy"]
    """The kind of the document."""

    metadata: Metadata
    """The name and labels of the strategy."""

    spec: GrowthSpec
    """The growth that the strategy defines."""
