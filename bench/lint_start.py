"""Measures the run time of `shiftplane lint`, and that of an idle Python interpreter.

The last line is JSON. `ratio` is lint divided by the idle interpreter, and is comparable between machines.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 15


def milliseconds(command: list[str]) -> float:
    """Run a command and return its duration."""
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return 1000 * (time.perf_counter() - began)


def main() -> None:
    """Print the figures."""
    program = str(Path(sys.executable).with_name("shiftplane"))
    lint = [program, "lint", "envoy/examples/02-canary.yaml"]
    idle_command = [sys.executable, "-c", "pass"]
    milliseconds(lint)  # The first run writes the bytecode.
    linted, idle = [], []
    for _ in range(ROUNDS):
        linted.append(milliseconds(lint))
        idle.append(milliseconds(idle_command))
    print(f"{ROUNDS} rounds: lint {min(linted):.0f} to {max(linted):.0f} ms")
    print(
        json.dumps(
            {
                "lint_ms_median": round(statistics.median(linted), 1),
                "idle_interpreter_ms_median": round(statistics.median(idle), 1),
                "ratio": round(statistics.median(linted) / statistics.median(idle), 2),
            }
        )
    )


if __name__ == "__main__":
    main()
