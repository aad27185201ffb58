"""How often equal models are called different, and how soon different ones are detected.

Two simulated models sample: a share of the words of every answer is drawn anew, so that two answers always
differ although the model is the same. Answers pass through the collector's comparison and the control plane's
verdict, which is assessed after every pair. "Changed" replaces another share of the words, at the same
sampling.

    python bench/equivalence.py --runs 200
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from demo.simulated.answers import Flavour, Question, answer, varied
from mirror_collector.compare import EvidenceBlock, compare
from mirror_collector.exchange import Body, Leg, Pair, RequestId, Role, RouteName, Variant
from xds_server.analysis.verdicts import (
    ApiCounts,
    ComparisonCounts,
    Equivalence,
    PairCounts,
    assess_equivalence,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORDS = ("tax", "harbour", "engine", "garden", "contract", "violin", "glacier", "pepper", "orbit", "ledger")
_SAMPLING = (0.02, 0.3, 0.6)
_ALTERED = 0.1


def leg(role: Role, text: str) -> Leg:
    """Return a leg whose response is a chat answer that is not streamed."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    body = json.dumps({"choices": [choice]}).encode()
    return Leg(
        route=RouteName("chat"),
        role=role,
        request_id=RequestId("r"),
        variant=Variant("v2" if role is Role.SHADOW else "v1"),
        method="POST",
        path="/v1/chat/completions",
        started_us=0,
        request=Body(data=b"{}", total=2),
        request_ended_us=0,
        status=200,
        details="",
        response=Body(data=body, total=len(body), content_type="application/json"),
        headers_us=1,
        first_chunk_us=1,
        last_chunk_us=2,
        chunks=1,
        complete=True,
        client_left=False,
        failure=None,
    )


def trios(rng: random.Random, sampling: float, altered: float) -> Iterator[Pair]:
    """Yield pairs of the user's answer, the candidate's answer, and a second answer of the stable model."""
    while True:
        prompt = " ".join(rng.sample(_WORDS, 4))
        question = Question(conversation=prompt, last=prompt, temperature=0.0)
        plain = answer(question, Flavour.A, rng)
        texts = [varied(plain, rng, resample=sampling, alter=change).text for change in (0.0, altered, 0.0)]
        yield Pair(
            primary=leg(Role.PRIMARY, texts[0]),
            shadow=leg(Role.SHADOW, texts[1]),
            noise=leg(Role.NOISE, texts[2]),
        )


def run(seed: int, sampling: float, altered: float, most: int) -> tuple[Equivalence, int]:
    """Assess after every pair until a verdict or `most` pairs; return the verdict and the number of pairs."""
    block = EvidenceBlock()
    for n, pair in enumerate(trios(random.Random(seed), sampling, altered), start=1):
        block.add(compare(pair), first_of_unit=True, first_baseline_of_unit=True)
        verdict = assess_equivalence(counts(block)).equivalence
        if verdict is not Equivalence.INCONCLUSIVE or n == most:
            return verdict, n
    raise AssertionError("the pairs never end")


def counts(block: EvidenceBlock) -> PairCounts:
    """Return a collector's block as the control plane's counts, with those by API."""

    def outcomes(by_measure: Any) -> dict[str, ComparisonCounts]:
        return {
            name: ComparisonCounts(less=one.less, more=one.more, same=one.same)
            for name, one in by_measure.items()
        }

    apis = {
        api: ApiCounts(
            pairs=one.pairs,
            counted=one.coverage.pairs,
            read=one.coverage.read,
            unread=one.coverage.unread,
            trios=one.trios,
            outcomes=outcomes(one.outcomes.by_measure),
            unread_legs=dict(one.coverage.unread_legs),
        )
        for api, one in block.apis.items()
    }
    return PairCounts(pairs=block.pairs, counted=block.counted, trios=block.trios, apis=apis)


def measure(runs: int, sampling: float, altered: float, most: int) -> dict[str, Any]:
    """Return the shares of verdicts, and the median number of pairs until Different."""
    found = [run(seed, sampling, altered, most) for seed in range(runs)]
    pairs = [n for verdict, n in found if verdict is Equivalence.DIFFERENT]
    return {
        **{kind.value: sum(verdict is kind for verdict, _ in found) / runs for kind in Equivalence},
        "median_pairs_to_different": statistics.median(pairs) if pairs else None,
    }


def main() -> None:
    """Print one line per setting, then all of it as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=500, help="Maximum number of pairs per run.")
    arguments = parser.parse_args()
    result: dict[str, Any] = {"runs": arguments.runs}
    for name, altered in (("same", 0.0), ("changed", _ALTERED)):
        for sampling in _SAMPLING:
            found = measure(arguments.runs, sampling, altered, arguments.pairs)
            result[f"{name}_{sampling}"] = found
            print(f"{name:8} sampling {sampling:4}: {found}", flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
