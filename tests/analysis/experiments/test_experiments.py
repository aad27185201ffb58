"""A/B test statistics compared with scipy and statsmodels, and the conclusions drawn from them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import (
    confint_proportions_2indep,
    proportion_effectsize,
    proportions_ztest,
    samplesize_proportions_2indep_onetail,
)

from xds_server.analysis.experiments import (
    Column,
    ExperimentFinding,
    Formula,
    Hypothesis,
    Sides,
    VariantCounts,
    chi_square,
    compare,
    describe_unnamed,
    evaluate,
    holm,
    minimum_detectable_effect,
    newcombe,
    plan_sample_size,
    sample_ratio_mismatch,
    sample_size_per_group,
)
from xds_server.cli import main

RATES = st.floats(0.02, 0.9)


@settings(max_examples=60, deadline=None)
@given(baseline=RATES, difference=st.floats(0.01, 0.09), ratio=st.sampled_from([1.0, 0.25, 9.0]))
def test_the_pooled_sample_size_equals_that_of_statsmodels(
    baseline: float, difference: float, ratio: float
) -> None:
    ours = sample_size_per_group(
        baseline, baseline + difference, alpha=0.05, power=0.8, sides=Sides.TWO, ratio=ratio
    )
    theirs = samplesize_proportions_2indep_onetail(
        difference, baseline, 0.8, ratio=ratio, alpha=0.05, alternative="two-sided"
    )
    assert ours == pytest.approx(float(theirs), rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(baseline=RATES, difference=st.floats(0.01, 0.09))
def test_the_arcsine_sample_size_equals_that_of_statsmodels(baseline: float, difference: float) -> None:
    effect = proportion_effectsize(baseline + difference, baseline)
    theirs = NormalIndPower().solve_power(effect, alpha=0.05, power=0.8, alternative="larger")
    ours = sample_size_per_group(
        baseline, baseline + difference, alpha=0.05, power=0.8, sides=Sides.ONE, formula=Formula.ARCSINE
    )
    assert ours == pytest.approx(float(theirs), rel=1e-6)


@pytest.mark.parametrize(
    ("target", "formula", "users"),
    [
        (0.15, Formula.POOLED, 686),
        (0.125, Formula.POOLED, 2507),
        (0.12, Formula.POOLED, 3841),
        (0.105, Formula.POOLED, 57763),
        (0.15, Formula.UNPOOLED, 683),
        (0.15, Formula.ARCSINE, 681),
        (0.15, Formula.FLEISS, 726),
        (0.15, Formula.EVAN_MILLER, 600),
        (0.125, Formula.EVAN_MILLER, 2333),
    ],
)
def test_known_sample_sizes(target: float, formula: Formula, users: int) -> None:
    assert plan_sample_size(0.10, target, formula=formula).treatment == users


def test_unequal_groups_and_one_side() -> None:
    found = plan_sample_size(0.10, 0.15, split=0.1)
    assert (found.treatment, found.control, found.total) == (358, 3218, 3576)
    assert plan_sample_size(0.10, 0.15, sides=Sides.ONE).treatment == 540
    assert found.days(100) == 35.76


@pytest.mark.parametrize("split", [0.0, 1.0, -0.5, 1.5])
def test_a_split_leaves_users_to_both_groups(split: float) -> None:
    with pytest.raises(ValueError, match=f"split {split:g} must be greater than 0 and less than 1"):
        plan_sample_size(0.10, 0.15, split=split)


def test_the_minimum_detectable_effect_inverts_the_sample_size() -> None:
    assert 100 * minimum_detectable_effect(0.10, 2348) == pytest.approx(2.59, abs=0.01)
    assert minimum_detectable_effect(0.10, 686) == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize(
    ("yates", "value", "p"), [(True, 21.8813023256, 2.900463e-06), (False, 22.3255813953, 2.301206e-06)]
)
def test_chi_square_of_a_published_table(yates: bool, value: float, p: float) -> None:
    found = chi_square((300, 2400), (200, 2400), yates=yates)
    assert found is not None
    assert found[0] == pytest.approx(value, rel=1e-9)
    assert found[1] == pytest.approx(p, rel=1e-6)


tables = st.tuples(st.integers(0, 200), st.integers(200, 900), st.integers(0, 200), st.integers(200, 900))


@settings(max_examples=100, deadline=None)
@given(tables)
def test_statistics_equal_those_of_scipy_and_statsmodels(table: tuple[int, int, int, int]) -> None:
    x, n, y, m = table
    for yates in (False, True):
        found = chi_square((x, n), (y, m), yates=yates)
        if x + y in {0, n + m}:
            assert found is None
            continue
        theirs = chi2_contingency(np.array([[x, n - x], [y, m - y]]), correction=yates)
        assert found is not None
        assert found[0] == pytest.approx(theirs.statistic, rel=1e-9, abs=1e-12)
        assert found[1] == pytest.approx(theirs.pvalue, rel=1e-9, abs=1e-12)
    if 0 < x + y < n + m:
        ours = compare((x, n), (y, m), column=Column.GOOD)
        z, p = proportions_ztest([x, y], [n, m])
        assert ours.z == pytest.approx(z, rel=1e-9, abs=1e-12)
        assert ours.p_two_sided == pytest.approx(p, rel=1e-9, abs=1e-12)
    low, high = confint_proportions_2indep(x, n, y, m, method="newcomb", compare="diff")
    found_ = newcombe((x, n), (y, m))
    assert found_.low == pytest.approx(low, abs=1e-9)
    assert found_.high == pytest.approx(high, abs=1e-9)


def test_no_winner_is_declared_before_the_column_is_named() -> None:
    treatment, control = (200, 2400), (300, 2400)
    assert compare(treatment, control, column=Column.BAD).better
    assert compare(treatment, control, column=Column.GOOD).worse
    assert "set `column` in the spec" in describe_unnamed(treatment, control)
    assert "no significant difference" in describe_unnamed((200, 2400), (201, 2400))


def test_better_does_not_imply_better_by_the_margin() -> None:
    found = compare((2200, 2400), (2100, 2400), column=Column.GOOD)
    assert found.better
    assert 100 * found.interval.low == pytest.approx(2.44, abs=0.01)
    assert 100 * found.interval.high == pytest.approx(5.90, abs=0.01)
    margin = compare((2200, 2400), (2100, 2400), column=Column.GOOD, margin=0.05, relative_margin=True)
    assert not margin.better
    assert margin.p_value > 0.5


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.floats(0, 1), min_size=1, max_size=6))
def test_holm_equals_that_of_statsmodels(p_values: dict[str, float]) -> None:
    names = list(p_values)
    theirs = multipletests([p_values[name] for name in names], method="holm")[1]
    ours = holm(p_values)
    assert [ours[name] for name in names] == pytest.approx(list(theirs), rel=1e-9)


def test_repeated_checks_find_a_sample_ratio_mismatch_and_no_chance_deviation() -> None:
    rng = np.random.default_rng(9)
    expected = {"a": 0.05, "b": 0.95}
    false_alarms = 0
    for _ in range(300):
        totals = rng.binomial(500, 0.05, 60).cumsum()
        false_alarms += any(
            sample_ratio_mismatch({"a": int(a), "b": 500 * (k + 1) - int(a)}, expected) >= 1000
            for k, a in enumerate(totals)
        )
    assert false_alarms <= 1
    assert sample_ratio_mismatch({"a": 1800, "b": 28200}, expected) > 1000
    with pytest.raises(ValueError, match="share above 0"):
        sample_ratio_mismatch({"a": 1}, {"a": 1.0, "b": 0.0})


HYPOTHESIS = Hypothesis(column=Column.GOOD, baseline=0.10, mde=0.05)


def conclude(
    treatment: VariantCounts, control: VariantCounts, hypothesis: Hypothesis = HYPOTHESIS
) -> tuple[ExperimentFinding, str]:
    found = evaluate(hypothesis, treatment, control, shares=(0.5, 0.5), days=3.0)
    return found.finding, found.message


def test_there_is_no_result_before_the_planned_sample_size() -> None:
    finding, message = conclude(VariantCounts(users=412, counted=90), VariantCounts(users=400, counted=40))
    assert finding is ExperimentFinding.NOT_YET
    assert (
        message == "412 of 686 planned users in treatment, 400 of 686 in control; "
        "about 2.1 more days until the planned total at this rate"
    )


def test_there_is_one_finding_at_the_planned_sample_size() -> None:
    assert (
        conclude(VariantCounts(users=700, counted=120), VariantCounts(users=700, counted=70))[0]
        is ExperimentFinding.BETTER
    )
    assert (
        conclude(VariantCounts(users=700, counted=70), VariantCounts(users=700, counted=120))[0]
        is ExperimentFinding.WORSE
    )
    assert (
        conclude(VariantCounts(users=700, counted=72), VariantCounts(users=700, counted=70))[0]
        is ExperimentFinding.NO_DIFFERENCE
    )
    assert (
        conclude(VariantCounts(users=700, counted=120), VariantCounts(users=1200, counted=120))[0]
        is ExperimentFinding.VOID
    )
    unnamed = Hypothesis(column=None, baseline=0.10, mde=0.05)
    assert (
        conclude(VariantCounts(users=700, counted=120), VariantCounts(users=700, counted=70), unnamed)[0]
        is ExperimentFinding.UNNAMED
    )


def run(*arguments: str) -> tuple[int, str]:
    found = CliRunner().invoke(main, ["samplesize", *arguments])
    return found.exit_code, found.output


def test_the_command_prints_the_sample_size() -> None:
    code, text = run("--baseline", "0.10", "--mde", "0.05", "--absolute", "-o", "json")
    found = json.loads(text)
    assert code == 0
    assert (found["per_group"], found["total"], found["sides"], found["formula"]) == (686, 1372, 2, "pooled")
    code, text = run("--baseline", "0.10", "--mde", "0.05", "--absolute", "--users-per-day", "100")
    assert "686 users per group, 1,372 in total" in text
    assert "13.7 days" in text
    assert "2,348 users per group" in text
    assert "+2.59 percentage points" in text


def test_the_command_reports_all_invalid_options() -> None:
    code, text = run("--baseline", "1.10", "--mde", "0.05", "--split", "1", "--alpha", "2")
    assert code == 2
    for message in ("--baseline 1.1", "--alpha 2", "--split '1'", "add --absolute", "--relative"):
        assert message in " ".join(text.split())
