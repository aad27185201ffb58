"""`shiftplane samplesize`: calculate the sample size of an A/B test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from xds_server.cli.client import output_option
from xds_server.cli.out import print_data

if TYPE_CHECKING:
    from xds_server.analysis.experiments import SampleSizePlan

__all__ = ["samplesize"]

_OFTEN_QUOTED: Final = 2_348


@click.command()
@click.option(
    "--baseline", type=float, required=True, help="Rate of the control, between 0 and 1 (both excluded)."
)
@click.option(
    "--mde", type=float, required=True, help="Minimum detectable effect; requires --absolute or --relative."
)
@click.option(
    "--absolute", "kind", flag_value="absolute", help="Treat --mde as a difference: 0.10 + 0.05 is 0.15."
)
@click.option(
    "--relative",
    "kind",
    flag_value="relative",
    help="Treat --mde as a relative change: 0.10 + 5 % of it is 0.105.",
)
@click.option("--alpha", type=float, default=0.05, show_default=True, help="Probability of a false winner.")
@click.option(
    "--power", type=float, default=0.8, show_default=True, help="Probability of detecting the effect."
)
@click.option("--one-sided", is_flag=True, help="Test only in the direction of --mde.")
@click.option(
    "--split",
    default="50/50",
    show_default=True,
    help="Percentages of treatment and control; their sum is 100.",
)
@click.option(
    "--formula",
    type=click.Choice(["pooled", "unpooled", "arcsine", "fleiss", "evan-miller"]),
    default="pooled",
    show_default=True,
    help="Formula for the sample size.",
)
@click.option(
    "--users-per-day",
    type=click.FloatRange(min=0, min_open=True),
    default=None,
    help="New users per day. Adds the duration of the test in days to the output.",
)
@output_option
def samplesize(  # noqa: PLR0913, PLR0917 - one parameter per option
    baseline: float,
    mde: float,
    kind: str | None,
    alpha: float,
    power: float,
    split: str,
    formula: str,
    users_per_day: float | None,
    output: str,
    *,
    one_sided: bool,
) -> None:
    """Calculate the number of users that a test needs to detect an effect on a rate.

    Example: shiftplane samplesize --baseline 0.10 --mde 0.05 --absolute -o json
    """
    share = _share(split)
    problems = [
        f"{name} {value:g} must be greater than 0 and less than 1"
        for name, value in (("--baseline", baseline), ("--alpha", alpha), ("--power", power))
        if not 0 < value < 1
    ]
    if share is None:
        problems.append(
            f"--split {split!r} must be two percentages greater than 0 with the sum 100, such as 10/90"
        )
    if kind is None:
        problems.append(
            f"add --absolute ({baseline:g} becomes {baseline + mde:g}) or --relative "
            f"({baseline:g} becomes {baseline * (1 + mde):g})"
        )
    target = baseline + mde if kind == "absolute" else baseline * (1 + mde)
    if kind is not None and (not 0 < target < 1 or target == baseline):
        problems.append(
            f"--mde {mde:g} results in a rate of {target:g}; the rate must differ from --baseline and be "
            "greater than 0 and less than 1"
        )
    if problems or share is None:
        raise click.UsageError("; ".join(problems))

    from xds_server.analysis.experiments import Formula, Sides, plan_sample_size

    sides = Sides.ONE if one_sided else Sides.TWO
    found = plan_sample_size(
        baseline, target, alpha=alpha, power=power, sides=sides, split=share, formula=Formula(formula)
    )
    if output != "table":
        print_data(_document(found, users_per_day), output)
    else:
        _print(found, users_per_day)


def _share(split: str) -> float | None:
    parts = split.split("/")
    try:
        one, other = (float(part) for part in parts)
    except ValueError:
        return None
    return one / (one + other) if one > 0 and other > 0 and abs(one + other - 100) < 1e-9 else None


def _document(found: SampleSizePlan, users_per_day: float | None) -> dict[str, Any]:
    return {
        "per_group": found.treatment if found.treatment == found.control else None,
        "treatment": found.treatment,
        "control": found.control,
        "total": found.total,
        "formula": found.formula.value,
        "baseline": found.baseline,
        "target": round(found.target, 12),
        "absolute": round(found.target - found.baseline, 12),
        "relative": round(found.target / found.baseline - 1, 12),
        "alpha": found.alpha,
        "power": found.power,
        "sides": found.sides.value,
        "split": round(100 * found.split, 6),
        "days": None if users_per_day is None else round(found.days(users_per_day), 2),
    }


def _print(found: SampleSizePlan, users_per_day: float | None) -> None:
    from xds_server.analysis.experiments import FORMULAS, minimum_detectable_effect

    rise, sides = found.target - found.baseline, found.sides.value
    if found.treatment == found.control:
        click.echo(f"{found.treatment:,} users per group, {found.total:,} in total")
    else:
        click.echo(
            f"{found.treatment:,} users in treatment and {found.control:,} in control, "
            f"{found.total:,} in total"
        )
    if users_per_day is not None:
        click.echo(f"{found.days(users_per_day):.1f} days with {users_per_day:g} new users per day")
    click.echo(
        f"\ndetects {found.baseline:.4g} → {found.target:.4g} ({100 * rise:+.4g} percentage points, "
        f"{100 * rise / found.baseline:+.4g} % relative) with a power of {found.power:g}; "
        f"alpha {found.alpha:g}, {'two' if sides == 2 else 'one'}-sided"
    )
    click.echo(f"formula: {found.formula.value}, {FORMULAS[found.formula]}")
    detects = minimum_detectable_effect(
        found.baseline, _OFTEN_QUOTED, alpha=found.alpha, power=found.power, sides=found.sides
    )
    click.echo(
        f"\nNote: {_OFTEN_QUOTED:,} users per group is often quoted as the sample size for 10 % → 15 %, but "
        f"no usual formula with 80 % power gives it. With these settings, {_OFTEN_QUOTED:,} users per group "
        f"detect a change of {100 * detects:+.2f} percentage points from a baseline of {found.baseline:.4g}."
    )
