"""Error rates and detection times of the verdicts, compared with other common rules.

50 requests a second, a check every 10 s for 10 minutes (by shiftplane every second), 5 % of the users on the
candidate. "False rollbacks" are those of a candidate that is no worse: at three base rates, in a ramp from 5
to 50 % during which an incident hits both arms, in an outage of both arms, and with failures in bursts of
three on average. For a worse candidate, the table has the share detected within 10 minutes and the median
time. All rules get the same data.

    python bench/verdicts.py                 # some minutes
    python bench/verdicts.py --runs 100      # a quick check
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from math import log, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.seconds import second_of_proof
from xds_server.analysis.counts import Block, Counts, Leg
from xds_server.analysis.verdicts import Guardrail, Policy, add_block, analyze, start_evidence
from xds_server.rollout import Finding

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RULES", "SCENARIOS", "Data", "Scenario", "first_alarms", "main"]

SECONDS: Final = 10
ALPHA: Final = 0.05
_HISTORY: Final = 30
_BURST: Final = 3.0
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Failures `x` of `n` requests per run and block; `before` are control failures before the start."""

    candidate_x: Ints
    candidate_n: Ints
    control_x: Ints
    control_n: Ints
    before: Ints

    @property
    def checks(self) -> int:
        """Blocks per run."""
        return len(self.candidate_n)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Failure rates and the candidate's share of requests, per block."""

    candidate: NDArray[np.float64]
    control: NDArray[np.float64]
    share: NDArray[np.float64]
    bursts: bool = False
    candidate_is_worse: bool = False

    def draw(self, rng: np.random.Generator, runs: int) -> Data:
        """Draw `runs` rollouts."""
        n = np.round(self.share * 50 * SECONDS).astype(np.int64)
        m = 50 * SECONDS - n
        draw = _burst if self.bursts else _independent
        return Data(
            candidate_x=draw(rng, n, self.candidate, runs),
            candidate_n=n,
            control_x=draw(rng, m, self.control, runs),
            control_n=m,
            before=draw(rng, np.full(_HISTORY, 500), np.full(_HISTORY, self.control[0]), runs),
        )


def _independent(rng: np.random.Generator, n: Ints, p: NDArray[np.float64], runs: int) -> Ints:
    return rng.binomial(n, p, (runs, len(n)))


def _burst(rng: np.random.Generator, n: Ints, p: NDArray[np.float64], runs: int) -> Ints:
    """Draw failures in bursts of geometric size, three on average."""
    starts = rng.poisson(n * p / _BURST, (runs, len(n)))
    # The sum of k geometric variables is k plus a negative binomial one.
    more = rng.negative_binomial(np.maximum(starts, 1), 1 / _BURST)
    return np.minimum(np.where(starts > 0, starts + more, 0), n)


def _flat(candidate: float, control: float, *, checks: int = 60, **more: bool) -> Scenario:
    ones = np.ones(checks)
    return Scenario(candidate=candidate * ones, control=control * ones, share=0.05 * ones, **more)


def _ramp() -> Scenario:
    half = np.repeat([0.0, 1.0], 30)
    rate = 0.005 + 0.025 * half
    return Scenario(candidate=rate, control=rate, share=0.05 + 0.45 * half)


def _outage() -> Scenario:
    rate = np.concatenate([np.full(30, 0.005), np.full(90, 0.2), np.full(60, 0.005)])
    return Scenario(candidate=rate, control=rate, share=np.full(180, 0.05))


SCENARIOS: Final = {
    "0.05": _flat(0.0005, 0.0005),
    "0.5": _flat(0.005, 0.005),
    "2": _flat(0.02, 0.02),
    "ramp": _ramp(),
    "outage": _outage(),
    "bursts": _flat(0.005, 0.005, bursts=True),
    "detect_0.5_to_2": _flat(0.02, 0.005, candidate_is_worse=True),
    "detect_0.5_to_5": _flat(0.05, 0.005, candidate_is_worse=True),
}
"""Scenarios in printing order; the outage lasts 15 of 30 minutes, with 20 % failures in both arms."""


# The rule of this project

_CANDIDATE: Final = Leg(route="bench", variant="v2")
_CONTROL: Final = Leg(route="bench", variant="v1")
_POLICY: Final = Policy(guardrails=(Guardrail.of("success-rate"),), alpha=ALPHA)


def shiftplane(data: Data) -> NDArray[np.float64]:
    """Apply the analysis of this project block by block, and to the counts so far within a block."""
    return np.array([_first_failure(data, run) for run in range(len(data.candidate_x))])


def _first_failure(data: Data, run: int) -> float:
    evidence = start_evidence(_POLICY, _CANDIDATE, _CONTROL)
    for k, x in enumerate(data.before[run]):
        evidence = add_block(evidence, _POLICY, _block(k - _HISTORY, (0, 0), (int(x), 500)))
    rng = np.random.default_rng(run)
    for k in range(data.checks):
        candidate = int(data.candidate_x[run, k]), int(data.candidate_n[k])
        block = _block(k, candidate, (int(data.control_x[run, k]), int(data.control_n[k])))
        if (second := second_of_proof(rng, evidence, _POLICY, block)) is not None:
            return k - 1 + second / SECONDS
        evidence = add_block(evidence, _POLICY, block)
        if analyze(evidence, _POLICY, (k + 1) * SECONDS).finding is Finding.FAIL:
            return k
    return np.inf


def _block(k: int, candidate: tuple[int, int], control: tuple[int, int]) -> Block:
    legs = {_CONTROL: Counts(failed=control[0], requests=control[1])}
    if candidate[1]:
        legs[_CANDIDATE] = Counts(failed=candidate[0], requests=candidate[1])
    return Block(start=k * SECONDS, seconds=SECONDS, legs=legs)


# Other common rules, on cumulative totals


def _totals(data: Data) -> tuple[NDArray[np.float64], ...]:
    return (
        data.candidate_x.cumsum(axis=1).astype(float),
        np.broadcast_to(data.candidate_n.cumsum(), data.candidate_x.shape).astype(float),
        data.control_x.cumsum(axis=1).astype(float),
        np.broadcast_to(data.control_n.cumsum(), data.control_x.shape).astype(float),
    )


def _first(hits: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.where(hits.any(axis=1), hits.argmax(axis=1).astype(float), np.inf)


def _pooled_z(data: Data, correction: float = 0.0) -> NDArray[np.float64]:
    """Return z of "the candidate fails more", optionally with Yates' correction."""
    x, n, y, m = _totals(data)
    share = (x + y) / (n + m)
    spread = np.sqrt(share * (1 - share) * (1 / n + 1 / m))
    difference = np.maximum(0.0, x / n - y / m - correction * (1 / n + 1 / m))
    return np.divide(difference, spread, out=np.zeros_like(x), where=spread > 0)


def chi_square(data: Data) -> NDArray[np.float64]:
    """Check for p < 0.05 after every block."""
    return _first(_pooled_z(data) > stats.norm.ppf(1 - ALPHA / 2))


def yates(data: Data) -> NDArray[np.float64]:
    """Check for p < 0.05 with Yates' correction after every block."""
    return _first(_pooled_z(data, 0.5) > stats.norm.ppf(1 - ALPHA / 2))


def obrien_fleming(data: Data) -> NDArray[np.float64]:
    """A one-sided group-sequential z test with O'Brien-Fleming alpha spending."""
    checks = data.checks
    spent = 2 * (
        1 - stats.norm.cdf(stats.norm.ppf(1 - ALPHA / 2) / np.sqrt(np.arange(1, checks + 1) / checks))
    )
    return _first(_pooled_z(data) > _boundaries(spent))


def _boundaries(spent: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the bounds of z for the cumulative alpha in `spent`, from the density of the running sum."""
    grid = np.linspace(-8 * sqrt(len(spent)), 8 * sqrt(len(spent)), 4001)
    step, found = grid[1] - grid[0], []
    density = stats.norm.pdf(grid)
    kernel = stats.norm.pdf(np.arange(-2000, 2001) * step)
    before = 0.0
    for k, total in enumerate(spent, start=1):
        tail = np.cumsum(density[::-1])[::-1] * step
        bound = grid[min(len(grid) - 1, int(np.searchsorted(-tail, -(total - before))))]
        found.append(bound / sqrt(k))
        before = total
        density = np.convolve(np.where(grid < bound, density, 0.0), kernel, "same") * step
    return np.array(found)


def msprt(data: Data) -> NDArray[np.float64]:
    """The mixture sequential probability ratio test with a normal mixture of deviation 0.01."""
    x, n, y, m = _totals(data)
    share = (x + y) / (n + m)
    variance = np.maximum(share * (1 - share) * (1 / n + 1 / m), 1e-12)
    tau = 0.01**2
    d = x / n - y / m
    loglik = 0.5 * np.log(variance / (variance + tau)) + d**2 * tau / (2 * variance * (variance + tau))
    return _first((loglik > -log(ALPHA)) & (d > 0))


def asymptotic_cs(data: Data) -> NDArray[np.float64]:
    """A one-sided asymptotic confidence sequence, tuned to a third of all requests."""
    x, n, y, m = _totals(data)
    p, q = x / n, y / m
    total = n + m
    variance = total * (p * (1 - p) / n + q * (1 - q) / m)
    tuned = total[:, -1:] / 3
    rho2 = (-2 * log(2 * ALPHA) + log(-2 * log(2 * ALPHA) + 1)) / tuned
    inside = (total * rho2 + 1) / (total**2 * rho2) * np.log(1 + np.sqrt(total * rho2 + 1) / (2 * ALPHA))
    return _first(p - q - np.sqrt(2 * variance * inside) > 0)


def threshold(data: Data) -> NDArray[np.float64]:
    """Success below 0.95 in every window of a minute, for ten minutes without interruption."""
    window, lasting = 6, 60
    failed = _moving(data.candidate_x, window)
    seen = _moving(np.broadcast_to(data.candidate_n, data.candidate_x.shape), window)
    low = 1 - failed / seen < 0.95
    run = np.zeros(low.shape, dtype=int)
    for k in range(low.shape[1]):
        run[:, k] = np.where(low[:, k], (run[:, k - 1] if k else 0) + 1, 0)
    return _first(run > lasting)


def _moving(values: Ints, window: int) -> NDArray[np.float64]:
    sums = values.cumsum(axis=1).astype(float)
    sums[:, window:] -= sums[:, :-window].copy()
    return sums


def kayenta(data: Data) -> NDArray[np.float64]:
    """One Mann-Whitney check of the rates at the end, at 98 %; the tolerance is a quarter of the shift."""
    found = []
    for run in range(len(data.candidate_x)):
        one = data.candidate_x[run] / data.candidate_n
        other = data.control_x[run] / data.control_n
        found.append(data.checks - 1 if _kayenta_high(one, other) else np.inf)
    return np.array(found)


def _kayenta_high(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    pairs = np.sort(np.subtract.outer(one, other), axis=None)
    shift = float(np.median(pairs))
    n, m = len(one), len(other)
    reach = stats.norm.ppf(0.99) * sqrt(n * m * (n + m + 1) / 12)
    low = pairs[max(0, int(n * m / 2 - reach))]
    return bool(low > 0.25 * abs(shift) and low > 0)


RULES: Final[dict[str, Callable[[Data], NDArray[np.float64]]]] = {
    "shiftplane": shiftplane,
    "chi_square": chi_square,
    "yates": yates,
    "obrien_fleming": obrien_fleming,
    "msprt": msprt,
    "asymptotic_cs": asymptotic_cs,
    "threshold": threshold,
    "kayenta": kayenta,
}
"""Each returns for every run the block after which it rolls back, infinity for never."""


def first_alarms(rule: str, name: str, *, runs: int, seed: int) -> NDArray[np.float64]:
    """Return when a rule rolls back in each run of a scenario, in seconds; infinity for never."""
    position = list(SCENARIOS).index(name)
    scenario = SCENARIOS[name]
    data = scenario.draw(np.random.default_rng([seed, position]), runs)
    return (RULES[rule](data) + 1) * SECONDS


def main(argv: list[str] | None = None) -> None:
    """Print the table, and one JSON object in the last line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--runs", type=int, default=1000, help="rollouts per scenario (default 1000)")
    parser.add_argument("--seed", type=int, default=20)
    args = parser.parse_args(argv)
    width = max(len(rule) for rule in RULES)
    print(" " * width + "".join(f"{name.removeprefix('detect_'):>14}" for name in SCENARIOS))
    result: dict[str, Any] = {"runs": args.runs, "seed": args.seed}
    for rule in RULES:
        began = time.perf_counter()
        row: dict[str, Any] = {"false_rollback": {}}
        cells = []
        for name, scenario in SCENARIOS.items():
            at = first_alarms(rule, name, runs=args.runs, seed=args.seed)
            hit = np.isfinite(at)
            if scenario.candidate_is_worse:
                median = float(np.median(at[hit])) if hit.any() else None
                row[name] = {"found": round(float(hit.mean()), 4), "median_s": median}
                cells.append(f"{hit.mean():.1%} {'-' if median is None else f'{median:.0f} s'}")
            else:
                row["false_rollback"][name] = round(float(hit.mean()), 4)
                cells.append(f"{hit.mean():.1%}")
        result[rule] = row
        print(f"{rule:<{width}}" + "".join(f"{cell:>14}" for cell in cells), flush=True)
        print(f"{rule}: {time.perf_counter() - began:.1f} s", file=sys.stderr)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
