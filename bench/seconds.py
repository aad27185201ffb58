"""The looks of the control plane within a block: once a second, at the counts so far."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from xds_server.analysis.counts import Block
from xds_server.analysis.verdicts import proves_fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.analysis.counts import Counts
    from xds_server.analysis.verdicts import CandidateEvidence, Policy

__all__ = ["second_of_proof"]

_SECONDS = 10


def second_of_proof(
    rng: np.random.Generator, evidence: CandidateEvidence, policy: Policy, block: Block
) -> int | None:
    """Return the second, from 1 to 9, after which a block of ten proves a fault; None if it does not.

    Requests arrive at a constant rate, and which of them fail or are slow is random.
    """
    legs = {
        leg: list(_growing(rng, counts))
        for leg, counts in block.legs.items()
        if leg in {evidence.candidate, evidence.control}
    }
    for second in range(1, _SECONDS):
        so_far = {leg: counts[second - 1] for leg, counts in legs.items()}
        if proves_fault(evidence, policy, Block(start=block.start, seconds=second, legs=so_far)):
            return second
    return None


def _growing(rng: np.random.Generator, counts: Counts) -> Iterator[Counts]:
    n, row = counts.requests, np.array(counts.first_token_ms, dtype=np.int64)
    failed = rng.permutation(np.arange(n) < counts.failed)
    times = rng.permutation(np.repeat(np.arange(len(row)), row))
    for second in range(1, _SECONDS):
        at, timed = n * second // _SECONDS, len(times) * second // _SECONDS
        yield replace(
            counts,
            requests=at,
            failed=int(failed[:at].sum()),
            first_token_ms=tuple(map(int, np.bincount(times[:timed], minlength=len(row)))),
        )
