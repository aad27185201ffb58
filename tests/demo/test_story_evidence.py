"""The last part of the demo rolls v3 back soon, even if the sample before it made v2 slow."""

from __future__ import annotations

import random
from bisect import bisect_left
from typing import TYPE_CHECKING

import pytest

from demo.story import specs
from demo.story.programs import Backend
from xds_server.analysis.counts import DURATION_MS, Block, Counts, Leg
from xds_server.analysis.verdicts import Policy, add_block, analyze, policy_from_spec, start_evidence
from xds_server.cli.specs import read_specs
from xds_server.rollout import Finding

if TYPE_CHECKING:
    from pathlib import Path

STABLE, CANDIDATE = Leg(route="chat", variant="v2"), Leg(route="chat", variant="v3")
CONTROL_REQUESTS, CANDIDATE_REQUESTS = 24, 6  # a second: 30 requests, 20 % of the users on v3


def counts(rng: random.Random, requests: int, milliseconds: float) -> Counts:
    """Return the counts of requests whose durations vary by a quarter."""
    buckets = [0] * (len(DURATION_MS) + 1)
    for _ in range(requests):
        buckets[bisect_left(DURATION_MS, rng.lognormvariate(0, 0.25) * milliseconds)] += 1
    return Counts(requests=requests, duration_ms=tuple(buckets))


def policy(folder: Path) -> Policy:
    """Return the policy of the spec that the demo applies."""
    old, new = (Backend(name=name, address="127.0.0.1:1", model=name, label=name) for name in ("v2", "v3"))
    steps = ["setWeight: 20", "pause: {}"]
    path = specs.canary(folder, 3, "chat", old, new, steps=steps, bake="10s", analyzed=True)
    ((route,),) = (loaded.routes for loaded in read_specs([str(path)]))
    return policy_from_spec(route.spec)


def seconds_to_rollback(folder: Path, seed: int, sample_blocks: int, sample_ms: float) -> int | None:
    """Return the seconds from the first slow answer to the verdict; None if there is none in a minute."""
    rng, rules = random.Random(seed), policy(folder)
    evidence, now = start_evidence(rules, CANDIDATE, STABLE), 0.0
    for place in range(sample_blocks + 2):
        # The part before has no analysis of its own, and blocks of 10 s.
        sampled = place < sample_blocks
        control = counts(rng, 700 if sampled else 250, sample_ms if sampled else 200)
        evidence = add_block(evidence, rules, Block(start=now, seconds=10, legs={STABLE: control}))
        now += 10
    for second in range(1, 61):
        legs = {
            STABLE: counts(rng, CONTROL_REQUESTS, 200),
            CANDIDATE: counts(rng, CANDIDATE_REQUESTS, 1_600),
        }
        evidence = add_block(evidence, rules, Block(start=now, seconds=1, legs=legs))
        now += 1
        if analyze(evidence, rules, now).finding is Finding.FAIL:
            return second
    return None


@pytest.mark.parametrize("sample_ms", [180, 400, 800, 1300])
@pytest.mark.parametrize("sample_blocks", [1, 3])
def test_v3_is_rolled_back_within_half_a_minute(sample_blocks: int, sample_ms: float, tmp_path: Path) -> None:
    found = [seconds_to_rollback(tmp_path, seed, sample_blocks, sample_ms) for seed in range(10)]
    assert all(second is not None and second <= 30 for second in found), found
