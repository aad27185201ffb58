"""False rollbacks and detection times if users, and not requests, are independent.

Every user is simulated: how many requests they send, how often these fail, and when they retry. Their slot
decides the variant and the cell, as in Envoy. 50 requests a second for 30 minutes, blocks of 10 s, the metric
`success-rate` and all guards. Each row is measured twice with the same traffic: with the counts of cells, and
with those of requests alone. Shares have 95 % Wilson intervals.

    python bench/users.py                          # 200 runs a row, about two hours on a core
    python bench/users.py --runs 20 --only retries
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace
from math import inf, pi, sin
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.verdict_traffic import wilson
from xds_server.analysis.counts import Block, Counts, Leg
from xds_server.analysis.verdicts import Guardrail, Policy, add_block, analyze, start_evidence
from xds_server.analysis.verdicts.metrics import GUARDS
from xds_server.rollout import CELLS, FULL, Finding, cell_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

__all__ = ["ROWS", "Row", "first_failure", "main"]

SECONDS: Final = 10
BLOCKS: Final = 180
_PER_BLOCK: Final = 50 * SECONDS
_CELLS: Final = np.array([cell_of(slot) for slot in range(FULL)])
_CANDIDATE, _CONTROL = Leg(route="bench", variant="v2"), Leg(route="bench", variant="v1")
_POLICY: Final = Policy(
    guardrails=(Guardrail.of("success-rate"),), guards=tuple(Guardrail.of(name) for name in GUARDS)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A kind of users: requests of `activity` are shared out, and each fails with the user's `rate`.

    `chains` users a minute send a failing request 30 times over `chain_seconds`. `load` is the traffic of a
    block relative to the mean. A worse candidate multiplies each failure rate by `worse`.
    """

    users: int
    activity: Callable[[np.random.Generator, int], Floats]
    rate: Callable[[np.random.Generator, int], Floats]
    chains: float = 0.0
    chain_seconds: float = 0.0
    load: Callable[[int], float] = lambda _block: 1.0
    worse: float = 1.0


def _equal(_rng: np.random.Generator, users: int) -> Floats:
    return np.ones(users)


def _pareto(rng: np.random.Generator, users: int) -> Floats:
    return rng.pareto(1.2, users) + 1


def _lognormal(rng: np.random.Generator, users: int) -> Floats:
    return rng.lognormal(0, 2, users)


def _tenants(_rng: np.random.Generator, users: int) -> Floats:
    """Three tenants have nearly all the traffic."""
    return np.where(np.arange(users) < 3, 30.0 * users, 1.0)


def _same(share: float) -> Callable[[np.random.Generator, int], Floats]:
    return lambda _rng, users: np.full(users, share)


def _few_fail(rng: np.random.Generator, users: int) -> Floats:
    """Five percent of the users fail in 8 % of their requests, the others in 0.2 %."""
    return np.where(rng.random(users) < 0.05, 0.08, 0.002)


def _diurnal(block: int) -> float:
    return 1 + 0.8 * sin(2 * pi * block / BLOCKS)


def _night(block: int) -> float:
    return 0.1 if block > BLOCKS / 3 else 1.0


def _crawler(_rng: np.random.Generator, users: int) -> Floats:
    """One crawler sends a third of all requests."""
    return np.where(np.arange(users) == 0, users / 2, 1.0)


def _crawler_fails(_rng: np.random.Generator, users: int) -> Floats:
    return np.where(np.arange(users) == 0, 0.1, 0.005)


ROWS: Final = {
    "independent": Row(users=20_000, activity=_equal, rate=_same(0.005)),
    **{
        f"retries_{seconds}_s": Row(
            users=2_000, activity=_equal, rate=_same(0.001), chains=1.0, chain_seconds=seconds
        )
        for seconds in (10, 60, 300)
    },
    **{
        f"heavy_users_{users}": Row(users=users, activity=_pareto, rate=_few_fail)
        for users in (200, 2_000, 20_000)
    },
    "lognormal_users": Row(users=2_000, activity=_lognormal, rate=_few_fail),
    "three_tenants": Row(users=2_000, activity=_tenants, rate=_few_fail),
    "crawler": Row(users=2_000, activity=_crawler, rate=_crawler_fails, load=_night),
    "diurnal": Row(users=2_000, activity=_pareto, rate=_few_fail, load=_diurnal),
}
_WORSE: Final = {
    "independent_x4": replace(ROWS["independent"], worse=4.0),
    "independent_x20": replace(ROWS["independent"], worse=20.0),
    "independent_all_fail": replace(ROWS["independent"], worse=inf),
    "heavy_users_2000_x4": replace(ROWS["heavy_users_2000"], worse=4.0),
}
WEIGHTS: Final = (1, 5, 25, 50)


def blocks(row: Row, weight: int, rng: np.random.Generator) -> Iterator[tuple[Counts, Counts]]:
    """Yield the counts of (candidate, control) in each block."""
    activity, rate = row.activity(rng, row.users), row.rate(rng, row.users)
    slot = rng.integers(0, FULL, row.users)
    served_by_candidate, cell = slot < 100 * weight, _CELLS[slot]
    if row.worse > 1:
        rate = np.where(served_by_candidate & (rate > 0), np.minimum(1.0, rate * row.worse), rate)
    shares = activity / activity.sum()
    place = np.where(served_by_candidate, 0, CELLS) + cell
    more = _chains(row, shares, rng)
    for block in range(BLOCKS):
        requests = rng.poisson(_PER_BLOCK * row.load(block) * shares)
        failed = rng.binomial(requests, rate)
        repeated = np.bincount(more.get(block, np.zeros(0, dtype=np.int64)), minlength=row.users)
        by_place = [
            np.bincount(place, values, 2 * CELLS).astype(int)
            for values in (requests + repeated, failed + repeated)
        ]
        yield _counts(*(values[:CELLS] for values in by_place)), _counts(*(v[CELLS:] for v in by_place))


def _chains(row: Row, shares: Floats, rng: np.random.Generator) -> dict[int, Ints]:
    """Return the users of failing retries, by block."""
    found: dict[int, list[int]] = {}
    for _ in range(rng.poisson(row.chains * BLOCKS * SECONDS / 60)):
        user, begin = int(rng.choice(row.users, p=shares)), rng.random() * BLOCKS * SECONDS
        for at in begin + rng.random(30) * row.chain_seconds:
            found.setdefault(int(at // SECONDS), []).append(user)
    return {block: np.array(users) for block, users in found.items()}


def _counts(requests: Ints, failed: Ints) -> Counts:
    rows = tuple((int(n), int(x), 0, 0, 0, 0, 0) for n, x in zip(requests, failed, strict=True))
    return Counts(requests=int(requests.sum()), failed=int(failed.sum()), cells=rows)


def first_failure(row: Row, weight: int, seed: int, *, cells: bool) -> float:
    """Return the seconds until the verdict is Fail; infinity if it never is."""
    evidence = start_evidence(_POLICY, _CANDIDATE, _CONTROL)
    for number, arms in enumerate(blocks(row, weight, np.random.default_rng(seed))):
        candidate, control = arms if cells else (replace(arm, cells=()) for arm in arms)
        start = float(number * SECONDS)
        legs = {_CANDIDATE: candidate, _CONTROL: control}
        evidence = add_block(evidence, _POLICY, Block(start=start, seconds=SECONDS, legs=legs))
        if analyze(evidence, _POLICY, start + SECONDS).finding is Finding.FAIL:
            return start + SECONDS
    return inf


def main(argv: list[str] | None = None) -> None:
    """Print one line per row and weight, and a JSON object in the last line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--runs", type=int, default=200, help="Rollouts per row and weight (%(default)s).")
    parser.add_argument("--only", default="", help="Only rows whose name contains this text.")
    parser.add_argument(
        "--weights", type=int, nargs="+", default=WEIGHTS, help="Weights of the candidate in percent."
    )
    args = parser.parse_args(argv)
    result = {}
    for name, row in {**ROWS, **_WORSE}.items():
        for weight in args.weights if args.only in name else ():
            line = {}
            for label, cells in (("cells", True), ("requests", False)):
                times = [first_failure(row, weight, seed, cells=cells) for seed in range(args.runs)]
                hits = sum(time < inf for time in times)
                low, high = wilson(hits, args.runs)
                line[label] = {
                    "rolled_back": round(100 * hits / args.runs, 1),
                    "interval": [round(100 * low, 1), round(100 * high, 1)],
                    "median_s": float(np.median(times)) if hits > args.runs / 2 else None,
                }
            print(f"{name:<22} {weight:>3} %  " + "   ".join(map(_format, line.items())), flush=True)
            result[f"{name}/{weight}"] = line
    print(json.dumps(result))


def _format(item: tuple[str, dict[str, Any]]) -> str:
    label, found = item
    low, high = found["interval"]
    median = "" if found["median_s"] is None else f", median {found['median_s']:.0f} s"
    return f"{label}: {found['rolled_back']:5} % [{low}, {high}]{median}"


if __name__ == "__main__":
    main()
