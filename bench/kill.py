"""Measures the time from `kill` until all three proxies send new requests to the safe backend.

The time starts when the command is sent, so it includes the API, the store and the push. The last line is
JSON.
"""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.plane import Plane, route

ROUNDS = 100
PROXIES = 3
TIMEOUT = 5.0


@dataclass(slots=True)
class Watcher:
    """Sends requests to one proxy in a loop; `since` is when `variant` began to serve them."""

    entry: str
    variant: str = ""
    since: float = 0.0
    failed: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Send requests until stopped."""
        url = urlsplit(self.entry)
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=5)
        while not self.stop.is_set():
            began = time.perf_counter()
            connection.request("GET", "/v1/models")
            response = connection.getresponse()
            response.read()
            self.failed += response.status != 200
            variant = response.headers.get("x-shiftplane-variant", "")
            if variant != self.variant:
                self.variant, self.since = variant, began
            time.sleep(0.001)
        connection.close()


def main() -> None:
    """Print the figures; the last line is JSON."""
    with tempfile.TemporaryDirectory() as folder:
        plane = Plane(Path(folder))
        try:
            print(json.dumps(measure(plane)))
        finally:
            plane.close()


def measure(plane: Plane) -> dict[str, Any]:
    """Kill and unkill in turn, and measure the time until all proxies have switched."""
    plane.start_control_plane(collector=False)
    backends = [(name, plane.start_backend(name).address) for name in ("v1", "v2")]
    plane.apply(route(backends[0], backends[1], "{canary: {steps: [{setWeight: 100}, {pause: {}}]}}"))
    watchers = [Watcher(plane.start_envoy(f"envoy-{n}").entry) for n in range(PROXIES)]
    plane.until(lambda view: view["phase"] == "Paused" and view["convergence"]["acked"] == PROXIES)
    threads = [threading.Thread(target=watcher.run) for watcher in watchers]
    for thread in threads:
        thread.start()
    times: dict[str, list[float]] = {"kill": [], "unkill": []}
    try:
        for _ in range(ROUNDS):
            for command, variant in (("kill", "v1"), ("unkill", "v2")):
                wait(watchers, "v2" if command == "kill" else "v1")
                began = time.perf_counter()
                plane.api.post(f"/v1/routes/chat/{command}", {"actor": "bench", "reason": "measured"})
                wait(watchers, variant)
                times[command].append(1000 * (max(watcher.since for watcher in watchers) - began))
    finally:
        for watcher in watchers:
            watcher.stop.set()
        for thread in threads:
            thread.join(10)
    for command, values in times.items():
        print(f"{command}: median {statistics.median(values):.1f} ms, p99 {p99(values):.1f} ms")
    both = times["kill"] + times["unkill"]
    return {
        "tries": len(both),
        "proxies": PROXIES,
        "kill_ms_median": round(statistics.median(times["kill"]), 1),
        "kill_ms_p99": round(p99(times["kill"]), 1),
        "both_ms_p99": round(p99(both), 1),
        "failed_requests": sum(watcher.failed for watcher in watchers),
    }


def wait(watchers: list[Watcher], variant: str) -> None:
    """Wait until every proxy sends its requests to a variant."""
    deadline = time.perf_counter() + TIMEOUT
    while any(watcher.variant != variant for watcher in watchers):
        if time.perf_counter() > deadline:
            raise SystemExit(f"not all proxies sent requests to {variant} within {TIMEOUT} s")
        time.sleep(0.001)


def p99(values: list[float]) -> float:
    """Return the 99th percentile."""
    return sorted(values)[min(len(values) - 1, int(0.99 * len(values)))]


if __name__ == "__main__":
    main()
