"""Measure how much misbehaving proxies delay the last ACK of the other proxies.

One proxy never reads, one NACKs everything, one reconnects in a loop. All are in one group. `ratio` is the
time with misbehaving proxies divided by the time without them, in this run. The last line is JSON.

Example: python bench/xds_hostile.py --clients 1000
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.clients.many import Clients, Kind
from bench.xds_fanout import serving, spec

if TYPE_CHECKING:
    from bench.xds_fanout import Server


async def rounds(server: Server, clients: Clients, number: int, count: int) -> list[float]:
    """Return the seconds from a change to the last ACK of the good clients, several times."""
    found = []
    for _ in range(count):
        await asyncio.sleep(0.5)
        clients.routes = 0
        began = time.perf_counter()
        await asyncio.to_thread(server.post, "/v1/routes/bench/promote", "{}")
        await clients.until(lambda: clients.routes >= number, 60)
        found.append(clients.last - began)
    return found


async def reconnect(server: Server) -> None:
    """Connect and disconnect until canceled."""
    while True:
        clients = Clients("127.0.0.1", server.xds, "bench", prefix="reconnecting")
        await clients.connect(1)
        await asyncio.sleep(0.02)
        clients.close()


async def measure(server: Server, number: int, count: int) -> dict[str, Any]:
    """Return the figures."""
    lenient = spec("bench", "*", 2 * count + 2).replace("spec:", "spec:\n  convergence: {quorum: 50}", 1)
    await asyncio.to_thread(server.post, "/v1/routes", lenient)
    good = Clients("127.0.0.1", server.xds, "bench")
    await good.connect(number)
    await good.until(lambda: good.routes >= number, 60)
    alone = await rounds(server, good, number, count)
    stuck = Clients("127.0.0.1", server.xds, "bench", Kind(reads=False), prefix="stuck")
    nacking = Clients("127.0.0.1", server.xds, "bench", Kind(refuses=True), prefix="nacking")
    await stuck.connect(1)
    await nacking.connect(1)
    reconnecting = asyncio.create_task(reconnect(server))
    await asyncio.sleep(1)
    beside = await rounds(server, good, number, count)
    reconnecting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reconnecting
    metrics = {
        line.split()[0]: float(line.split()[1])
        for line in (await asyncio.to_thread(server.text, "/metrics")).splitlines()
        if line.startswith("shiftplane_xds_") and " " in line and "{" not in line
    }
    print(
        f"seconds to the last ACK: without misbehaving proxies {[round(s, 3) for s in alone]},"
        f" with them {[round(s, 3) for s in beside]}"
    )
    found = {
        "clients": number,
        "alone_s": round(statistics.median(alone), 3),
        "beside_s": round(statistics.median(beside), 3),
        "ratio": round(statistics.median(beside) / statistics.median(alone), 2),
        "good_clients_lost": good.failed,
        "slow_closed": metrics.get("shiftplane_xds_slow_clients_closed_total", 0),
    }
    for clients in (good, stuck, nacking):
        clients.close()
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with serving() as server, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(server, options.clients, options.rounds))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
