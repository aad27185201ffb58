"""Rollouts under traffic behind a real Envoy, in compressed time: how often each kind ends as it should.

Candidates with 4 % errors, with 2 % of the requests four times slower, with 1.5 times the tokens, with JSON
cut short, and equal ones, one of them through an outage of both backends. Blocks last a second and not ten.

    python bench/rollouts.py              # ten seeds each, about a quarter of an hour
    python bench/rollouts.py --seeds 1
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.trial import TRIALS, run_trial


def main() -> None:
    """Print a line per kind, and one JSON object in the last line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    result = {}
    for trial in TRIALS:
        right, seconds, wrong = 0, [], []
        for seed in range(1, args.seeds + 1):
            with tempfile.TemporaryDirectory(prefix="shiftplane-") as folder:
                found = asyncio.run(run_trial(trial, Path(folder), seed=seed))
            seconds.append(found.seconds)
            if found.as_expected(trial):
                right += 1
            else:
                wrong.append(f"seed {seed}: {found.outcome} at {found.weight:g} %: {found.message[:120]}")
        median = statistics.median(seconds)
        print(
            f"{trial.name:<34} {right} of {args.seeds} {trial.reason or 'promoted'}, median {median:.1f} s",
            flush=True,
        )
        for words in wrong:
            print(f"    {words}", flush=True)
        result[trial.name] = {"right": right, "of": args.seeds, "median_s": round(median, 1)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
