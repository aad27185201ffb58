"""Measures the collector: exchanges per second, memory, and how much capture delays users.

An exchange is one captured request with its answer; two exchanges make a pair. Synthetic exchanges are sent
to a collector process in batches over gRPC, as an Envoy sends them, and count when they are stored. The
users' p99 is measured through a real Envoy with capture off, at 0 % (in fact 0.01 %), 5 % and 100 %, and at
100 % with the collector suspended; each round measures all of these settings.

    python bench/collector.py
    python bench/collector.py --only soak --minutes 10
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.clients.captured import entry, feed, plain, stream
from demo.traffic import Traffic, TrafficConfig
from mirror_collector.compare import compare
from mirror_collector.exchange import Pair, parse_entry
from tests.support.plane import Plane, route

if TYPE_CHECKING:
    from collections.abc import Iterator

_SMALL, _STREAMS = 20_000, 4_000
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LATEST = 300.0


@dataclass(slots=True)
class Running:
    """A collector process."""

    process: subprocess.Popen[str]
    grpc: str
    http: str

    def route(self) -> dict[str, Any]:
        """Return the totals of the collector's only route, and the collector's drops."""
        with urllib.request.urlopen(f"{self.http}/v1/summary", timeout=30) as answer:  # noqa: S310 - our own
            document = json.load(answer)
        found: dict[str, Any] = document["routes"][0] if document["routes"] else {"paired": 0, "unpaired": {}}
        return found | {"dropped": document["dropped"]}

    def settled(self, legs: int) -> dict[str, Any]:
        """Wait until every leg is in a stored pair or counted as lost; return the totals."""
        end = time.monotonic() + _LATEST
        while True:
            found = self.route()
            lost = sum(found["unpaired"].values()) + found["dropped"].get("queue_full", 0)
            if found["paired"] + lost >= legs:
                return found
            if time.monotonic() > end:
                raise TimeoutError(f"some legs were neither stored nor lost after {_LATEST:g} s: {found}")
            time.sleep(0.05)

    @property
    def rss_mb(self) -> float:
        """Resident memory of the collector in MB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * _PAGE / (1 << 20)


@contextmanager
def collector(folder: Path, *flags: str) -> Iterator[Running]:
    """Run a collector."""
    command = [sys.executable, "-m", "mirror_collector", "serve", "--grpc=127.0.0.1:0", "--http=127.0.0.1:0"]
    process = subprocess.Popen(
        [*command, f"--store={folder / 'pairs.sqlite'}", *flags], stderr=subprocess.PIPE, text=True
    )
    event = json.loads(process.stderr.readline()) if process.stderr else {}
    try:
        yield Running(process, event["grpc"], f"http://{event['http']}")
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def templates(kind: str) -> list[bytes]:
    """Return the encoded log entries of the two legs of a pair."""
    if kind == "small":
        bodies, content, chunks = (plain(200), plain(200, "term")), "application/json", 1
    else:
        bodies, content, chunks = (stream(100), stream(100, "term")), "text/event-stream", 100
    return [
        entry("primary", "chat/v1", bodies[0], content_type=content, chunks=chunks),
        entry("shadow", "chat/v2/shadow", bodies[1], content_type=content, chunks=chunks),
    ]


def synthetic(kind: str, exchanges: int) -> dict[str, float]:
    """Return the exchanges per second that were paired, compared and stored, and the collector's memory."""
    with tempfile.TemporaryDirectory() as folder, collector(Path(folder), "--max-queue-size=4GiB") as running:
        legs = templates(kind)
        asyncio.run(feed(running.grpc, legs, range(200)))
        running.settled(400)
        began = time.perf_counter()
        asyncio.run(feed(running.grpc, legs, range(200, 200 + exchanges // 2)))
        found = running.settled(400 + exchanges)
        took = time.perf_counter() - began
        if found["unpaired"]:
            raise RuntimeError(f"pairs were lost: {found['unpaired']}")
        return {"per_s": exchanges / took, "rss_mb": running.rss_mb}


def comparisons(seconds: float = 3.0) -> float:
    """Return how many pairs of 2 KB a process compares per second if it does nothing else."""
    legs = [parse_entry(one) for one in templates("small")]
    pair = Pair(primary=legs[0], shadow=legs[1])  # type: ignore[arg-type] # valid entries give legs
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(100):
            compare(pair)
        done += 100
    return done / (time.perf_counter() - began)


def stalled(seconds: float = 20.0) -> dict[str, Any]:
    """Send exchanges while the store is locked; return the memory before and at most, and the lost legs."""
    with (
        tempfile.TemporaryDirectory() as folder,
        collector(Path(folder), "--max-queue-size=64MiB") as running,
    ):
        legs = templates("stream")
        asyncio.run(feed(running.grpc, legs, range(100)))
        running.settled(200)
        before = running.rss_mb
        blocker = sqlite3.connect(Path(folder) / "pairs.sqlite", isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        most, end, number = before, time.monotonic() + seconds, 100
        while time.monotonic() < end:
            asyncio.run(feed(running.grpc, legs, range(number, number + 500)))
            number += 500
            most = max(most, running.rss_mb)
        blocker.execute("ROLLBACK")
        blocker.close()
        found = running.settled(2 * number)
        lost = sum(found["unpaired"].values()) + sum(found["dropped"].values())
        return {"before_mb": before, "most_mb": most, "sent": 2 * number, "lost_and_counted": lost}


def soak(minutes: float, rate: float) -> dict[str, Any]:
    """Send small exchanges at a steady rate; return the memory in the first and in the last third."""
    flags = ("--max-store-size=256MiB", "--pair-window=30s")
    with tempfile.TemporaryDirectory() as folder, collector(Path(folder), *flags) as running:
        legs, seen = templates("small"), list[float]()
        began = time.monotonic()
        printed = [began]

        async def pace(sent: int) -> None:
            ahead = began + 2 * sent / rate - time.monotonic()
            if ahead > 0:
                await asyncio.sleep(ahead)
            if time.monotonic() - printed[0] >= 10:
                printed[0] = time.monotonic()
                seen.append(running.rss_mb)
                print(f"{printed[0] - began:5.0f} s  {2 * sent:9,} exchanges  {seen[-1]:6.0f} MB", flush=True)

        total = int(minutes * 60 * rate / 2)
        asyncio.run(feed(running.grpc, legs, range(total), pace=pace))
        found = running.settled(2 * total)
        took = time.monotonic() - began
        third = max(1, len(seen) // 3)
        return {
            "minutes": round(took / 60, 1),
            "exchanges_per_s": round(2 * total / took),
            "first_third_mb": round(statistics.median(seen[:third])),
            "last_third_mb": round(statistics.median(seen[-third:])),
            "lost": sum(found["unpaired"].values()) + sum(found["dropped"].values()),
        }


_SETTINGS = ("off", "0 %", "5 %", "100 %", "100 % stopped")


def users(rounds: int, seconds: float, rate: float) -> dict[str, Any]:
    """Return users' p99 with and without capture, in milliseconds, and how many requests failed."""
    found: dict[str, list[float]] = {name: [] for name in _SETTINGS}
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        plane = Plane(Path(folder))
        try:
            process = plane.start_collector()
            plane.start_control_plane("--no-health-checks")
            old, new = plane.start_backend("v1"), plane.start_backend("v2")
            ends = (("v1", old.address), ("v2", new.address))
            envoy = None
            for number in range(rounds):
                order = _SETTINGS if number % 2 else _SETTINGS[::-1]
                for name in order:
                    share = {"off": "", "0 %": "0.01"}.get(name, name.split()[0])
                    plane.apply(
                        route(*ends, f"{{shadow: {{percentage: {share}}}}}") if share else route(*ends)
                    )
                    envoy = envoy or plane.start_envoy()
                    plane.until(lambda view: view["convergence"]["acked"] == 1, within=30)
                    time.sleep(1)
                    if name.endswith("stopped"):
                        process.signal(signal.SIGSTOP)
                    config = TrafficConfig(url=envoy.entry, rate=rate, duration=seconds, request_timeout=20)
                    result = asyncio.run(Traffic(config).run())
                    if name.endswith("stopped"):
                        process.signal(signal.SIGCONT)
                    failed += result.failed
                    found[name].append(result.total_p99_ms or 0.0)
                    print(f"round {number + 1}  capture {name:14} p99 {found[name][-1]:6.1f} ms", flush=True)
        finally:
            plane.close()
    p99 = {name: round(statistics.median(values), 2) for name, values in found.items()}
    ratios = [
        stopped / alive
        for stopped, alive in zip(found["100 % stopped"], found["100 %"], strict=True)
        if alive
    ]
    return {"p99_ms": p99, "p99_ratio": round(statistics.median(ratios), 3), "users_failed": failed}


def main() -> None:
    """Print the figures; the last line is JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = ("synthetic", "comparisons", "stalled", "users", "soak")
    parser.add_argument(
        "--only", choices=parts, action="append", help="Part to run; repeatable (default: all but soak)."
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="Duration of the soak in minutes.")
    parser.add_argument("--soak-rate", type=float, default=3000.0, help="Exchanges per second in the soak.")
    parser.add_argument(
        "--rounds", type=int, default=5, help="Rounds of the part users; each measures every setting."
    )
    parser.add_argument(
        "--seconds", type=float, default=6.0, help="Seconds of traffic for each setting of a round."
    )
    parser.add_argument("--rate", type=float, default=40.0, help="Requests per second of all users.")
    asked = parser.parse_args()
    wanted = asked.only or [part for part in parts if part != "soak"]
    result: dict[str, Any] = {}
    if "synthetic" in wanted:
        for kind, exchanges in (("small", _SMALL), ("sse100", _STREAMS)):
            found = synthetic("small" if kind == "small" else "stream", exchanges)
            result[f"{kind}_per_s"] = round(found["per_s"])
            result["rss_mb"] = round(max(found["rss_mb"], result.get("rss_mb", 0)))
            print(f"{kind}: {found['per_s']:,.0f} exchanges/s, {found['rss_mb']:.0f} MB RSS", flush=True)
    if "comparisons" in wanted:
        result["pairs_per_s"] = round(comparisons())
        print(f"comparison alone: {result['pairs_per_s']:,} pairs/s", flush=True)
    if "stalled" in wanted:
        result["stalled_disk"] = stalled()
        print(f"stalled disk: {result['stalled_disk']}", flush=True)
    if "soak" in wanted:
        result["soak"] = soak(asked.minutes, asked.soak_rate)
    if "users" in wanted:
        result |= users(asked.rounds, asked.seconds, asked.rate)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
