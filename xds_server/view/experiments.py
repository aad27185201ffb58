"""The results of a route's A/B test as JSON values (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xds_server.analysis.experiments import (
    Column,
    Exposures,
    Hypothesis,
    VariantCounts,
    chi_square,
    compare,
    evaluate,
    holm,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xds_server.analysis.experiments import ExperimentReport
    from xds_server.spec import AbTest, RouteSpec

__all__ = ["experiment_view"]

_DAY = 86_400.0


def experiment_view(
    spec: RouteSpec, observed: Exposures | None, *, started: float | None, now: float
) -> dict[str, Any] | None:
    """Return the results of each variant against the control; None for a route without an A/B test.

    `observed` is None before the first user.
    """
    test = None if spec.strategy is None else spec.strategy.ab_test
    if test is None:
        return None
    observed = Exposures() if observed is None else observed
    users, outcomes = observed.users, observed.outcomes
    days = 0.0 if started is None else max(0.0, now - started) / _DAY
    control = spec.stable
    control_share = 10_000 - sum(variant.weight for variant in test.variants)
    variants = {
        variant.backend: _variant(
            test, variant.backend, (variant.weight, control_share), control, users, outcomes, days
        )
        for variant in test.variants
    }
    return {
        "control": control,
        "users": dict(users),
        "crossovers": observed.crossovers,
        "variants": variants,
    }


def _variant(  # noqa: PLR0913, PLR0917 - a variant and everything it is compared with
    test: AbTest,
    name: str,
    shares: tuple[int, int],
    control: str,
    users: Mapping[str, int],
    outcomes: Mapping[str, Mapping[str, int]],
    days: float,
) -> dict[str, Any]:
    view: dict[str, Any] = {"users": users.get(name, 0)}
    primary = test.primary_metric
    if primary is not None:
        effect = primary.minimum_detectable_effect
        mde = effect.absolute if effect.absolute is not None else (effect.relative or 0.0) * primary.baseline
        counted = outcomes.get(primary.name, {})
        report = evaluate(
            Hypothesis(
                column=None if primary.column is None else Column(primary.column.lower()),
                baseline=primary.baseline,
                mde=mde,
                alpha=primary.alpha,
                power=primary.power,
                superiority=primary.superiority,
            ),
            VariantCounts(users=users.get(name, 0), counted=counted.get(name, 0)),
            VariantCounts(users=users.get(control, 0), counted=counted.get(control, 0)),
            shares=(shares[0], max(1, shares[1])),
            days=days,
        )
        view |= {"primary": {"metric": primary.name, **_report(report, counted, name, control, users)}}
    if view["users"] and users.get(control):
        view["secondary"] = _secondary(test, name, control, users, outcomes)
    return view


def _report(
    report: ExperimentReport, counted: Mapping[str, int], name: str, control: str, users: Mapping[str, int]
) -> dict[str, Any]:
    view: dict[str, Any] = {
        "finding": report.finding.value,
        "words": report.message,
        "needed": {"treatment": report.needed.treatment, "control": report.needed.control},
        "remaining_days": report.remaining_days,
        "mismatch": report.sample_ratio_mismatch,
    }
    if report.comparison is not None:
        pair = (counted.get(name, 0), users[name]), (counted.get(control, 0), users[control])
        view |= {
            "treatment": report.comparison.treatment,
            "control": report.comparison.control,
            "difference": report.comparison.difference,
            "interval": [report.comparison.interval.low, report.comparison.interval.high],
            "relative": report.comparison.relative,
            "chi_square": _statistic(chi_square(*pair)),
            "chi_square_yates": _statistic(chi_square(*pair, yates=True)),
        }
    return view


def _statistic(result: tuple[float, float] | None) -> dict[str, float] | None:
    return None if result is None else {"value": result[0], "p": result[1]}


def _secondary(
    test: AbTest,
    name: str,
    control: str,
    users: Mapping[str, int],
    outcomes: Mapping[str, Mapping[str, int]],
) -> dict[str, Any]:
    """Return the comparisons of the secondary metrics, with p-values adjusted for their number."""
    compared = {}
    for metric in test.secondary_metrics:
        counted = outcomes.get(metric.name, {})
        compared[metric.name] = compare(
            (min(counted.get(name, 0), users[name]), users[name]),
            (min(counted.get(control, 0), users[control]), users[control]),
            column=Column.BAD if metric.column == "Bad" else Column.GOOD,
        )
    adjusted = holm({metric: comparison.p_two_sided for metric, comparison in compared.items()})
    return {
        metric: {
            "treatment": comparison.treatment,
            "control": comparison.control,
            "difference": comparison.difference,
            "p": comparison.p_two_sided,
            "p_adjusted": adjusted[metric],
        }
        for metric, comparison in compared.items()
    }
