"""Fuzz the xDS port of a control plane for a limited time, and print status codes and memory growth.

Delta and state-of-the-world streams send partly valid requests, random bytes and some very large requests.
Meanwhile one well-behaved client connects in a loop. The last line is JSON.

Example: python bench/xds_fuzz.py --minutes 5
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.xds_fanout import serving, spec
from tests.support.hostile import exchange, make_request, open_stream, random_request
from xds_server.xds.snapshot import CLUSTER, ENDPOINT

if TYPE_CHECKING:
    from bench.xds_fanout import Server

_SENDERS: Final = 8
_LARGE_SHARE: Final = 0.01
_PAUSE_SECONDS: Final = 0.05
_NAMES: Final = [f"nowhere-{number}" for number in range(100_000)]


async def main_loop(server: Server, seconds: float, seed: int) -> dict[str, Any]:
    """Run all clients until the time is over, and return the counts."""
    counts: Counter[str] = Counter()
    waits: list[float] = []
    rejected: list[float] = []
    end = time.monotonic() + seconds
    await asyncio.to_thread(
        server.post, "/v1/routes", spec("bench", "*", 1).replace("group: bench", "group: chat")
    )
    await _send_random(server.xds, time.monotonic() + min(5.0, seconds / 5), Counter(), random.Random(seed))
    before = server.rss()
    async with asyncio.TaskGroup() as tasks:
        for number in range(_SENDERS):
            tasks.create_task(_send_random(server.xds, end, counts, random.Random(seed + 1 + number)))
        tasks.create_task(_good(server.xds, end, waits, rejected))
    await asyncio.sleep(1)
    left = len((await asyncio.to_thread(server.get, "/v1/proxies"))["proxies"])
    return {
        "seconds": seconds,
        "seed": seed,
        "streams": counts.total(),
        "by_status": dict(sorted(counts.items())),
        "good_answers": len(waits),
        "good_turned_away": len(rejected),
        "good_slowest_ms": round(1000 * max(waits, default=0.0), 1),
        "streams_left": left,
        "rss_kb_before": before,
        "rss_kb_after": server.rss(),
    }


async def _send_random(port: int, end: float, counts: Counter[str], rng: random.Random) -> None:
    while time.monotonic() < end:
        delta = rng.random() < 0.5
        try:
            code, _ = await exchange(port, _frames(rng, delta=delta), delta=delta)
        except TimeoutError:
            counts["HANGS"] += 1
        else:
            counts[code.name] += 1
            if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
                await asyncio.sleep(_PAUSE_SECONDS)


def _frames(rng: random.Random, *, delta: bool) -> list[bytes]:
    frames = [make_request(CLUSTER, delta=delta)] if rng.random() < 0.5 else []
    frames += [random_request(rng, delta=delta) for _ in range(rng.randrange(6))]
    if rng.random() < 0.3:
        frames.append(rng.randbytes(rng.randrange(2_000)))
    if rng.random() < _LARGE_SHARE:
        frames.append(
            make_request(ENDPOINT, *(_NAMES if rng.random() < 0.5 else ["n" * (1 << 20)]), delta=delta)
        )
    return frames


async def _good(port: int, end: float, waits: list[float], rejected: list[float]) -> None:
    """Connect as a proxy does, and record how long the first response takes."""
    while time.monotonic() < end:
        began = time.perf_counter()
        async with open_stream(port, delta=True) as call:
            try:
                await call.write(make_request(CLUSTER, node="good"))
                await asyncio.wait_for(call.read(), 20)
            except grpc.aio.AioRpcError as error:
                # The rate of new streams is limited for all clients together; a proxy retries. A write to a
                # stream that was rejected meanwhile fails with the client's own INTERNAL.
                if error.code() not in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL}:
                    raise
                rejected.append(began)
            else:
                waits.append(time.perf_counter() - began)
        await asyncio.sleep(_PAUSE_SECONDS)


def main() -> None:
    """Print the figures; exit with code 1 if a stream ended with an unexpected status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with serving() as server:
        found = asyncio.run(main_loop(server, options.minutes * 60, options.seed))
    for name, count in found["by_status"].items():
        print(f"{name:20}{count}")
    print(f"memory {found['rss_kb_before']} KB before, {found['rss_kb_after']} KB after")
    print(json.dumps(found))
    expected = {"OK", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}
    good = found["good_answers"] > found["good_turned_away"]
    sys.exit(0 if found["by_status"].keys() <= expected and good else 1)


if __name__ == "__main__":
    main()
