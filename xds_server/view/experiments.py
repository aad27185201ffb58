"""What may be said of a route's A/B test, as people and programs are shown it (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xds_server.analysis.experiments import Arm, Asked, Column, chi_square, compare, holm, report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xds_server.analysis.experiments import Report
    from xds_server.spec import AbTest, RouteSpec

__all__ = ["experiment_view"]

_DAY = 86_400.0


def experiment_view(
    spec: RouteSpec, found: Mapping[str, Any] | None, *, began: float | None, now: float
) -> dict[str, Any] | None:
    """Return what is known of each variant beside the control; None for a route without an A/B test.

    `found` is what the collector knows: `users` by variant, and `outcomes` by metric and variant.
    """
    test = None if spec.strategy is None else spec.strategy.ab_test
    if test is None:
        return None
    users: Mapping[str, int] = {} if found is None else found.get("users", {})
    outcomes: Mapping[str, Mapping[str, int]] = {} if found is None else found.get("outcomes", {})
    days = 0.0 if began is None else max(0.0, now - began) / _DAY
    control = spec.stable
    left = 10_000 - sum(variant.weight for variant in test.variants)
    variants = {
        variant.backend: _variant(
            test, variant.backend, (variant.weight, left), control, users, outcomes, days
        )
        for variant in test.variants
    }
    return {
        "control": control,
        "users": dict(users),
        "crossovers": 0 if found is None else found.get("crossovers", 0),
        "variants": variants,
    }


def _variant(  # noqa: PLR0913, PLR0917 - a variant and all it is held against
    test: AbTest,
    name: str,
    shares: tuple[int, int],
    control: str,
    users: Mapping[str, int],
    outcomes: Mapping[str, Mapping[str, int]],
    days: float,
) -> dict[str, Any]:
    shown: dict[str, Any] = {"users": users.get(name, 0)}
    asked = test.primary_metric
    if asked is not None:
        effect = asked.minimum_detectable_effect
        mde = effect.absolute if effect.absolute is not None else (effect.relative or 0.0) * asked.baseline
        counted = outcomes.get(asked.name, {})
        said = report(
            Asked(
                column=None if asked.column is None else Column(asked.column.lower()),
                baseline=asked.baseline,
                mde=mde,
                alpha=asked.alpha,
                power=asked.power,
                superiority=asked.superiority,
            ),
            Arm(users=users.get(name, 0), counted=counted.get(name, 0)),
            Arm(users=users.get(control, 0), counted=counted.get(control, 0)),
            shares=(shares[0], max(1, shares[1])),
            days=days,
        )
        shown |= {"primary": {"metric": asked.name, **_report(said, counted, name, control, users)}}
    if shown["users"] and users.get(control):
        shown["secondary"] = _secondary(test, name, control, users, outcomes)
    return shown


def _report(
    said: Report, counted: Mapping[str, int], name: str, control: str, users: Mapping[str, int]
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "finding": said.finding.value,
        "words": said.words,
        "needed": {"treatment": said.needed.treatment, "control": said.needed.control},
        "remaining_days": said.remaining_days,
        "mismatch": said.mismatch,
    }
    if said.comparison is not None:
        pair = (counted.get(name, 0), users[name]), (counted.get(control, 0), users[control])
        found |= {
            "treatment": said.comparison.treatment,
            "control": said.comparison.control,
            "difference": said.comparison.difference,
            "interval": [said.comparison.interval.low, said.comparison.interval.high],
            "relative": said.comparison.relative,
            "chi_square": _statistic(chi_square(*pair)),
            "chi_square_yates": _statistic(chi_square(*pair, yates=True)),
        }
    return found


def _statistic(found: tuple[float, float] | None) -> dict[str, float] | None:
    return None if found is None else {"value": found[0], "p": found[1]}


def _secondary(
    test: AbTest,
    name: str,
    control: str,
    users: Mapping[str, int],
    outcomes: Mapping[str, Mapping[str, int]],
) -> dict[str, Any]:
    """Return the other metrics, their p-values adjusted for how many there are."""
    compared = {}
    for metric in test.secondary_metrics:
        counted = outcomes.get(metric.name, {})
        compared[metric.name] = compare(
            (min(counted.get(name, 0), users[name]), users[name]),
            (min(counted.get(control, 0), users[control]), users[control]),
            column=Column.BAD if metric.column == "Bad" else Column.GOOD,
        )
    adjusted = holm({metric: found.p_two_sided for metric, found in compared.items()})
    return {
        metric: {
            "treatment": found.treatment,
            "control": found.control,
            "difference": found.difference,
            "p": found.p_two_sided,
            "p_adjusted": adjusted[metric],
        }
        for metric, found in compared.items()
    }
