"""Measures how often rollouts under traffic, behind a real Envoy, end as they should.

The candidates: 4 % errors; 2 % of the requests four times slower; 1.5 times the tokens; truncated JSON; and
equal ones, one of them during an outage of both backends. Time is compressed: blocks last 1 s, not 10 s.

    python bench/rollouts.py              # ten seeds each, about 15 minutes
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
    """Print one line per kind of candidate, and a JSON object in the last line."""
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
        expected = "promoted" if trial.reason is None else f"rolled back by {trial.reason}"
        print(
            f"{trial.name:<34} {right} of {args.seeds} {expected}, median {median:.1f} s",
            flush=True,
        )
        for line in wrong:
            print(f"    {line}", flush=True)
        result[trial.name] = {"right": right, "of": args.seeds, "median_s": round(median, 1)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
