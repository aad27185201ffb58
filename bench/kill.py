"""From `kill` to the first request that every proxy sends to the safe backend, as users of three see it.

A try begins when the command is sent, so what is printed includes the API, the store and the push. The last
line is JSON.
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

TRIES = 100
PROXIES = 3
LONGEST = 5.0


@dataclass(slots=True)
class Watcher:
    """Asks one proxy again and again; `since` is when the answers began to come from `variant`."""

    entry: str
    variant: str = ""
    since: float = 0.0
    failed: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Ask until stopped."""
        where = urlsplit(self.entry)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=5)
        while not self.stop.is_set():
            began = time.perf_counter()
            connection.request("GET", "/v1/models")
            answer = connection.getresponse()
            answer.read()
            self.failed += answer.status != 200
            found = answer.headers.get("x-shiftplane-variant", "")
            if found != self.variant:
                self.variant, self.since = found, began
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
    """Kill and unkill, and see how long users of each proxy go on meeting the other backend."""
    plane.start_control_plane(collector=False)
    backends = [(name, plane.start_backend(name).address) for name in ("v1", "v2")]
    plane.apply(route(backends[0], backends[1], "{canary: {steps: [{setWeight: 100}, {pause: {}}]}}"))
    watchers = [Watcher(plane.start_envoy(f"envoy-{n}").entry) for n in range(PROXIES)]
    plane.until(lambda view: view["phase"] == "Paused" and view["convergence"]["acked"] == PROXIES)
    threads = [threading.Thread(target=watcher.run) for watcher in watchers]
    for thread in threads:
        thread.start()
    took: dict[str, list[float]] = {"kill": [], "unkill": []}
    try:
        for _ in range(TRIES):
            for command, variant in (("kill", "v1"), ("unkill", "v2")):
                wait(watchers, "v2" if command == "kill" else "v1")
                began = time.perf_counter()
                plane.api.post(f"/v1/routes/chat/{command}", {"actor": "bench", "reason": "measured"})
                wait(watchers, variant)
                took[command].append(1000 * (max(watcher.since for watcher in watchers) - began))
    finally:
        for watcher in watchers:
            watcher.stop.set()
        for thread in threads:
            thread.join(10)
    for command, values in took.items():
        print(f"{command}: median {statistics.median(values):.1f} ms, p99 {p99(values):.1f} ms")
    both = took["kill"] + took["unkill"]
    return {
        "tries": len(both),
        "proxies": PROXIES,
        "kill_ms_median": round(statistics.median(took["kill"]), 1),
        "kill_ms_p99": round(p99(took["kill"]), 1),
        "both_ms_p99": round(p99(both), 1),
        "failed_requests": sum(watcher.failed for watcher in watchers),
    }


def wait(watchers: list[Watcher], variant: str) -> None:
    """Wait until every proxy's users meet a variant."""
    deadline = time.perf_counter() + LONGEST
    while any(watcher.variant != variant for watcher in watchers):
        if time.perf_counter() > deadline:
            raise SystemExit(f"not everybody met {variant} within {LONGEST} s")
        time.sleep(0.001)


def p99(values: list[float]) -> float:
    """Return the value that one in a hundred exceeds."""
    return sorted(values)[min(len(values) - 1, int(0.99 * len(values)))]


if __name__ == "__main__":
    main()
