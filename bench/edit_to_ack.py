"""From an accepted weight change to its acknowledgement by a real Envoy, against the bare HTTP round trip."""

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
    """Promote a canary of many small steps, one by one."""
    plane.start_control_plane("--no-health-checks", collector=False)
    steps = ", ".join(f"{{setWeight: {n}}}, {{pause: {{}}}}" for n in range(1, ROUNDS + 2))
    plane.apply(route(("v1", "127.0.0.1:9"), ("v2", "127.0.0.1:8"), f"{{canary: {{steps: [{steps}]}}}}"))
    plane.start_envoy()
    plane.until(lambda view: view["weights"]["v2"] == 1 and view["step"]["waiting_for"] == "operator")
    took, trips = [], []
    for weight in range(2, ROUNDS + 2):
        began = time.perf_counter()
        plane.view()
        trips.append(time.perf_counter() - began)
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
        took.append(held[0]["at"] - sent)
    median = statistics.median(took)
    print(f"weight change to ACK of one Envoy: median {1000 * median:.1f} ms, max {1000 * max(took):.1f} ms")
    print(f"one HTTP request to the API: median {1000 * statistics.median(trips):.1f} ms")
    return {
        "ack_ms_median": round(1000 * median, 2),
        "ack_ms_max": round(1000 * max(took), 2),
        "api_ms_median": round(1000 * statistics.median(trips), 2),
        "rounds": ROUNDS,
    }


if __name__ == "__main__":
    main()
