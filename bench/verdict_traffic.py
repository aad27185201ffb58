"""False rollbacks and detection times of the verdicts under traffic that is not well behaved.

50 requests a second, blocks of 10 s, 5 % of the users on the candidate unless a name says otherwise. Failures
come in bursts of 3 to 30; the control alone is down for 5 to 60 s, once or again and again; rates drift or
follow the time of day; all answers have the same length; or the candidate serves all users, so that the
control has no requests. For a candidate that is no worse: the share rolled back. For a worse one: the share
found within the run, and the time from the beginning of its fault; at 5 % the candidate has 2.5 requests a
second. Shares have 95 % Wilson intervals.

    python bench/verdict_traffic.py              # 200 runs each, some minutes
    python bench/verdict_traffic.py --runs 40 --only control_down_30_s
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from functools import partial
from math import inf, pi, sin, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.seconds import second_of_proof
from xds_server.analysis.counts import FIRST_TOKEN_MS, TOKENS, Block, Counts, Leg
from xds_server.analysis.verdicts import Guardrail, Policy, Price, add_block, analyze, start_evidence
from xds_server.rollout import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["SCENARIOS", "Scenario", "first_failures", "main", "wilson"]

SECONDS: Final = 10
_BEFORE: Final = 30
"""Blocks of the control alone before the candidate has requests."""
_CANDIDATE: Final = Leg(route="bench", variant="v2")
_CONTROL: Final = Leg(route="bench", variant="v1")
_PRICE: Final = Price(input_per_million=0.3, output_per_million=0.7)

Arms = tuple[Counts, Counts]
"""The counts of (candidate, control) in one block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A generator of blocks; `fault_at` is the block in which the candidate's fault begins, None without one.

    The first `_BEFORE` blocks have requests of the control only and come before block 0.
    """

    blocks: Callable[[np.random.Generator], Iterator[Arms]]
    fault_at: int | None = None
    metrics: tuple[str, ...] = ("success-rate",)


def _failing(failed: int, requests: int) -> Counts:
    return Counts(requests=requests, failed=min(failed, requests))


def _failures(rng: np.random.Generator, n: int, rate: float, burst: float) -> int:
    """Return the number of failures among `n` requests, in bursts of geometric size with mean `burst`."""
    if burst <= 1 or rate >= 1:
        return int(rng.binomial(n, min(1.0, rate)))
    return min(n, int(rng.geometric(1 / burst, rng.poisson(n * rate / burst)).sum()))


def _flat(_block: int) -> float:
    return 0.005


def _drift(block: int) -> float:
    return 0.002 * 10 ** (max(0, block) / 180)


def _diurnal(block: int) -> float:
    return 0.01 * (1 + 0.8 * sin(2 * pi * block / 180))


def shares(  # noqa: PLR0913 - one parameter per property of the traffic
    rng: np.random.Generator,
    *,
    rate: Callable[[int], float] = _flat,
    burst: float = 1.0,
    control_down: tuple[tuple[float, float], ...] = (),
    candidate_rate: float | None = None,
    fault_at: int = 0,
    blocks: int = 90,
    n: int = 25,
    m: int = 475,
) -> Iterator[Arms]:
    """Yield blocks of failures.

    The control also fails all requests in `control_down`, periods of (start, end) in blocks. The candidate
    fails at `candidate_rate` from block `fault_at` on.
    """
    for block in range(-_BEFORE, blocks):
        down = sum(max(0.0, min(block + 1, end) - max(block, start)) for start, end in control_down)
        control = _failures(rng, m, rate(block), burst)
        control += int(rng.binomial(m - control, min(1.0, down)))
        wrong = candidate_rate is not None and block >= fault_at
        candidate = _failures(rng, n, candidate_rate if wrong and candidate_rate else rate(block), burst)
        yield (_failing(candidate, n) if block >= 0 else Counts()), _failing(control, m)


def alone(
    rng: np.random.Generator,
    *,
    compared: int = 30,
    blocks: int = 390,
    end: float = 0.01,
    fails_at: int | None = None,
    requests: int = 500,
) -> Iterator[Arms]:
    """Yield blocks in which the candidate has all users after `compared` blocks; the base rate drifts."""
    yield from shares(rng, blocks=compared)
    for block in range(blocks - compared):
        rate = 0.005 + (end - 0.005) * block / (blocks - compared)
        failing = fails_at is not None and block + compared >= fails_at
        yield _failing(int(rng.binomial(requests, 1.0 if failing else rate)), requests), Counts()


def answers(
    rng: np.random.Generator,
    *,
    tokens: tuple[int, int] = (16, 16),
    odd: float = 0.0,
    blocks: int = 180,
) -> Iterator[Arms]:
    """Yield blocks of answers with a fixed number of tokens by arm; a share of `odd` has another length."""
    for block in range(-_BEFORE, blocks):
        candidate = Counts() if block < 0 else _answers(rng, int(rng.poisson(25)), tokens[0], odd)
        yield candidate, _answers(rng, int(rng.poisson(475)), tokens[1], odd)


def _answers(rng: np.random.Generator, n: int, tokens: int, odd: float) -> Counts:
    lengths = np.where(rng.random(n) < odd, rng.integers(1, 2_000, n), tokens)
    row = np.bincount(np.searchsorted(TOKENS, lengths), minlength=len(TOKENS) + 1)
    total = int(lengths.sum())
    return Counts(
        requests=n,
        metered=n,
        prompt_tokens=7 * n,
        completion_tokens=total,
        tokens=tuple(int(count) for count in row),
        streamed_tokens=total,
        stream_ms=7 * total,
    )


def times(
    rng: np.random.Generator, *, healthy: int = 0, slower: float = 10.0, blocks: int = 30
) -> Iterator[Arms]:
    """Yield blocks of times to the first token; the candidate is slower after `healthy` blocks."""
    for block in range(-_BEFORE, healthy + blocks):
        candidate = Counts() if block < 0 else _times(rng, 25, slower if block >= healthy else 1.0)
        yield candidate, _times(rng, 475, 1.0)


def _times(rng: np.random.Generator, n: int, slower: float) -> Counts:
    places = np.searchsorted(FIRST_TOKEN_MS, slower * rng.lognormal(4.5, 0.5, n))
    row = np.bincount(places, minlength=len(FIRST_TOKEN_MS) + 1)
    return Counts(requests=n, first_token_ms=tuple(int(count) for count in row))


_LATENCY: Final = ("ttft-p50", "ttft-p99")
_MEANS: Final = ("tokens-per-request", "inter-token", "cost-per-request")
_AGAIN: Final = tuple((10.0 + 12 * k, 10.5 + 12 * k + k % 6) for k in range(8))

SCENARIOS: Final = {
    "independent": Scenario(blocks=shares),
    "bursts_of_3": Scenario(blocks=partial(shares, burst=3.0)),
    "bursts_of_10": Scenario(blocks=partial(shares, burst=10.0)),
    "bursts_of_30": Scenario(blocks=partial(shares, burst=30.0)),
    "bursts_of_10_half": Scenario(blocks=partial(shares, burst=10.0, n=250, m=250)),
    "bursts_of_30_half": Scenario(blocks=partial(shares, burst=30.0, n=250, m=250)),
    "bursts_of_3_slow": Scenario(blocks=partial(shares, burst=3.0, n=10, m=20, blocks=180)),
    "bursts_and_outages": Scenario(blocks=partial(shares, burst=10.0, control_down=_AGAIN)),
    "control_down_again": Scenario(blocks=partial(shares, control_down=_AGAIN)),
    "drift": Scenario(blocks=partial(shares, rate=_drift, blocks=180)),
    "diurnal": Scenario(blocks=partial(shares, rate=_diurnal, blocks=360)),
    "same_16_tokens": Scenario(blocks=answers, metrics=_MEANS),
    "nearly_16_tokens": Scenario(blocks=partial(answers, odd=0.002), metrics=_MEANS),
    "alone_drifting": Scenario(blocks=alone),
    "fails_1_in_20": Scenario(blocks=partial(shares, candidate_rate=0.05), fault_at=0),
    "control_down_5_s": Scenario(
        blocks=partial(shares, control_down=((20.0, 20.5),), candidate_rate=1.0, fault_at=21), fault_at=21
    ),
    "control_down_30_s": Scenario(
        blocks=partial(shares, control_down=((20.3, 23.3),), candidate_rate=1.0, fault_at=24), fault_at=24
    ),
    "control_down_60_s": Scenario(
        blocks=partial(shares, control_down=((20.3, 26.3),), candidate_rate=1.0, fault_at=27), fault_at=27
    ),
    "control_down_5_times": Scenario(
        blocks=partial(shares, control_down=_AGAIN[:5], candidate_rate=1.0, fault_at=64), fault_at=64
    ),
    "both_partly_down": Scenario(
        blocks=partial(
            shares,
            rate=lambda block: 0.15 if 20 <= block < 23 else 0.005,
            candidate_rate=1.0,
            fault_at=24,
        ),
        fault_at=24,
    ),
    "fails_all": Scenario(blocks=partial(shares, candidate_rate=1.0), fault_at=0),
    "fails_all_quarter": Scenario(blocks=partial(shares, candidate_rate=1.0, n=25, m=75), fault_at=0),
    "fails_all_after_1_h": Scenario(
        blocks=partial(shares, candidate_rate=1.0, fault_at=360, blocks=390), fault_at=360
    ),
    "fails_1_in_50_after_4_h": Scenario(
        blocks=partial(shares, candidate_rate=0.02, fault_at=1_440, blocks=1_500, n=125, m=375),
        fault_at=1_440,
    ),
    "10_times_slower": Scenario(blocks=times, metrics=_LATENCY, fault_at=0),
    "10_times_slower_after_1_h": Scenario(blocks=partial(times, healthy=360), metrics=_LATENCY, fault_at=360),
    "32_not_16_tokens": Scenario(blocks=partial(answers, tokens=(32, 16)), metrics=_MEANS, fault_at=0),
    "alone_fails_at_once": Scenario(blocks=partial(alone, fails_at=30, requests=10), fault_at=30),
    "alone_fails_after_1_h": Scenario(blocks=partial(alone, fails_at=390, blocks=396), fault_at=390),
}
"""Scenarios by name. In `both_partly_down` 15 % of the requests of both arms fail for 30 s."""


def first_failures(name: str, *, runs: int, seed: int) -> list[float]:
    """Return the time at which each run is rolled back, in blocks; infinity for never."""
    scenario, found = SCENARIOS[name], []
    policy = Policy(
        guardrails=tuple(Guardrail.of(metric) for metric in scenario.metrics),
        prices=dict.fromkeys(("v1", "v2"), _PRICE),
    )
    for run in range(runs):
        rng = np.random.default_rng([seed, list(SCENARIOS).index(name), run])
        looks = np.random.default_rng([seed, run])
        found.append(_first_failure(policy, scenario.blocks(rng), looks))
    return found


def _first_failure(policy: Policy, blocks: Iterator[Arms], looks: np.random.Generator) -> float:
    evidence = start_evidence(policy, _CANDIDATE, _CONTROL)
    for number, (candidate, control) in enumerate(blocks, start=-_BEFORE):
        block = Block(
            start=number * SECONDS, seconds=SECONDS, legs={_CANDIDATE: candidate, _CONTROL: control}
        )
        if candidate.requests and (second := second_of_proof(looks, evidence, policy, block)) is not None:
            return number + second / SECONDS
        evidence = add_block(evidence, policy, block)
        if analyze(evidence, policy, (number + 1) * SECONDS).finding is Finding.FAIL:
            return number + 1.0
    return inf


def wilson(hits: int, of: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share."""
    z = 1.96
    center = (hits + z * z / 2) / (of + z * z)
    reach = z / (of + z * z) * sqrt(hits * (of - hits) / of + z * z / 4)
    return max(0.0, center - reach), min(1.0, center + reach)


def main(argv: list[str] | None = None) -> None:
    """Print one line per scenario, and a JSON object in the last line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--runs", type=int, default=200, help="rollouts per scenario (default 200)")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--only", action="append", choices=list(SCENARIOS), help="only this scenario")
    args = parser.parse_args(argv)
    result: dict[str, dict[str, float | None]] = {}
    for name in args.only or SCENARIOS:
        fault_at = SCENARIOS[name].fault_at
        at = first_failures(name, runs=args.runs, seed=args.seed)
        found = [block for block in at if block < inf and (fault_at is None or block > fault_at)]
        early = sum(block < inf for block in at) - len(found)
        low, high = wilson(len(found), len(at))
        row: dict[str, float | None] = {"share": len(found) / len(at), "low": low, "high": high}
        line = f"{len(found) / len(at):7.1%} [{low:.1%}, {high:.1%}]"
        if fault_at is not None:
            seconds = [round((block - fault_at) * SECONDS) for block in found]
            row |= {
                "median_s": float(np.median(seconds)) if seconds else None,
                "slowest_s": max(seconds, default=None),
                "before_the_fault": early,
            }
            line += f"  median {row['median_s']} s, slowest {row['slowest_s']} s, {early} before the fault"
        result[name] = row
        kind = "rolled back" if fault_at is None else "found"
        print(f"{name:<24} {kind:<12}{line}", flush=True)
    print(json.dumps({"runs": args.runs, "seed": args.seed, "scenarios": result}))


if __name__ == "__main__":
    main()
