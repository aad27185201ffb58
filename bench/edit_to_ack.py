"""Measures the time from a weight change to its ACK by a real Envoy, and one HTTP round trip to the API."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.plane import Plane, route

ROUNDS = 30


def main() -> None:
    """Print the figures; the last line is JSON."""
    with tempfile.TemporaryDirectory() as folder:
        plane = Plane(Path(folder))
        try:
            print(json.dumps(measure(plane)))
        finally:
            plane.close()


def measure(plane: Plane) -> dict[str, float]:
    """Promote a canary through many small steps, and return the measured times."""
    plane.start_control_plane("--no-health-checks", collector=False)
    steps = ", ".join(f"{{setWeight: {n}}}, {{pause: {{}}}}" for n in range(1, ROUNDS + 2))
    plane.apply(route(("v1", "127.0.0.1:9"), ("v2", "127.0.0.1:8"), f"{{canary: {{steps: [{steps}]}}}}"))
    plane.start_envoy()
    plane.until(lambda view: view["weights"]["v2"] == 1 and view["step"]["waiting_for"] == "operator")
    ack_seconds, api_seconds = [], []
    for weight in range(2, ROUNDS + 2):
        began = time.perf_counter()
        plane.view()
        api_seconds.append(time.perf_counter() - began)
        plane.api.post("/v1/routes/chat/promote", {"actor": "bench"})
        while True:
            events = plane.view()["events"]
            held = [
                e
                for e in events
                if e["kind"] == "step_held" and e["message"].startswith(f"weight {weight} %")
            ]
            if held:
                break
        sent = next(e["at"] for e in events if e["message"] == f"weight {weight} % for v2")
        ack_seconds.append(held[0]["at"] - sent)
    median = statistics.median(ack_seconds)
    print(
        f"weight change to ACK of one Envoy: median {1000 * median:.1f} ms, "
        f"max {1000 * max(ack_seconds):.1f} ms"
    )
    print(f"one HTTP request to the API: median {1000 * statistics.median(api_seconds):.1f} ms")
    return {
        "ack_ms_median": round(1000 * median, 2),
        "ack_ms_max": round(1000 * max(ack_seconds), 2),
        "api_ms_median": round(1000 * statistics.median(api_seconds), 2),
        "rounds": ROUNDS,
    }


if __name__ == "__main__":
    main()
