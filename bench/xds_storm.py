"""Measure a reconnect storm: thousands of proxies connect at once, with a 61 KB first request like Envoy's.

Prints the number of served proxies, the time and the peak memory of the server. The last line is JSON.

Example: python bench/xds_storm.py --clients 3000
"""

from __future__ import annotations

import argparse
import asyncio
import json
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

_NODE_BYTES = 61_000


async def measure(server: Server, number: int) -> dict[str, Any]:
    """Return the figures of one storm, and of a second one after all connections were cut."""
    await asyncio.to_thread(server.post, "/v1/routes", spec("bench", "*", 1))
    storms = []
    for turn in range(2):
        clients = Clients(
            "127.0.0.1", server.xds, "bench", Kind(node_bytes=_NODE_BYTES), prefix=f"storm-{turn}"
        )
        began, cpu = time.perf_counter(), server.cpu()
        await clients.connect(number, at_once=number)
        await clients.until(lambda own=clients: own.routes + own.failed >= number, 120)  # type: ignore[misc]
        storms.append(
            {
                "served": clients.routes,
                "cancelled": clients.failed,
                "seconds": round(time.perf_counter() - began, 2),
                "cpu_ms_per_client": round((server.cpu() - cpu) * 1000 / number, 2),
            }
        )
        print(f"storm {turn + 1}: {storms[-1]}")
        clients.close()
    return {
        "clients": number,
        "first_request_bytes": _NODE_BYTES,
        "storms": storms,
        "peak_rss_mb": round(server.rss(peak=True) / 1024),
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--workers", "--acceptors", type=int, default=1)
    options = parser.parse_args()
    with serving(options.workers) as server, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(server, options.clients))
    print(json.dumps({"workers": options.workers, **found}))


if __name__ == "__main__":
    main()
