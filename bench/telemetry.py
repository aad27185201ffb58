"""The cost of counts from a thousand proxies, and of one update of all verdicts.

Simulated proxies, one connection each, send messages as an Envoy does for a route with two backends. The
control plane is a process of its own; its CPU time is read from the system.

    python bench/telemetry.py --proxies 1000 --seconds 30
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc.aio
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.plane import Plane, route
from xds_server.analysis.counts import DURATION_MS, FIRST_TOKEN_MS, TOKENS, Block, Buckets, Counts, Leg
from xds_server.analysis.verdicts import (
    CandidateEvidence,
    Guardrail,
    Policy,
    add_block,
    analyze,
    start_evidence,
)
from xds_server.xds.wire import metrics_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_METHOD = "/envoy.service.metrics.v3.MetricsService/StreamMetrics"
_INTERVAL = 1.0
_ROUTES = 100
_METRICS = ("success-rate", "ttft-p50", "ttft-p99", "tokens-per-request")


def message(node: str = "") -> bytes:
    """Return a proxy's message: counts of two backends, and forty of Envoy's own counters."""
    families = [_envoy_counter(f"cluster.chat.upstream_rq_{number}") for number in range(40)]
    for variant in ("v1", "v2"):
        cluster = wire.Label(name="cluster", value=f"chat/{variant}")
        code = wire.Label(name="code", value="200")
        families.append(_counter("requests", 50, cluster, code))
        families += [
            _counter(name, 5000, cluster)
            for name in (
                "bytes",
                "metered",
                "prompt_tokens",
                "completion_tokens",
                "metered_bytes",
                "stream_ms",
            )
        ]
        for name, edges in (
            ("first_token_ms", FIRST_TOKEN_MS),
            ("duration_ms", DURATION_MS),
            ("tokens", TOKENS),
        ):
            histogram = wire.Histogram(sample_count=50)
            for index, edge in enumerate(edges):
                histogram.bucket.add(upper_bound=edge, cumulative_count=min(50, index))
            metric = wire.Metric(label=[cluster], histogram=histogram)
            families.append(wire.Family(name=f"llm.{name}", metric=[metric]))
    identifier = wire.Identifier(node=wire.Node(id=node, cluster="chat")) if node else None
    return wire.Message(identifier=identifier, families=families).SerializeToString()


def _counter(name: str, value: float, *labels: wire.Label) -> wire.Family:
    return wire.Family(
        name=f"llm.{name}", metric=[wire.Metric(label=labels, counter=wire.Counter(value=value))]
    )


def _envoy_counter(name: str) -> wire.Family:
    label = wire.Label(name="envoy.cluster_name", value="chat/v1")
    return wire.Family(name=name, metric=[wire.Metric(label=[label], counter=wire.Counter(value=1))])


async def send(port: int, number: int, end: float) -> None:
    """Act as one proxy: connect, then send a message per interval."""
    later = message()

    async def messages() -> AsyncIterator[bytes]:
        yield message(f"proxy-{number}")
        await asyncio.sleep(_INTERVAL * (number % 100) / 100)
        while time.monotonic() < end:
            yield later
            await asyncio.sleep(_INTERVAL)

    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        await channel.stream_unary(_METHOD)(messages())


def cpu_seconds(pid: int) -> float:
    """Return the CPU time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def flood(proxies: int, seconds: float) -> dict[str, Any]:
    """Let proxies send counts for a while; return the cost for the control plane."""
    with tempfile.TemporaryDirectory(prefix="shiftplane-") as folder:
        plane = Plane(Path(folder))
        try:
            process = plane.start_control_plane("--no-health-checks", collector=False)
            plane.apply(
                route(("v1", "127.0.0.1:1"), ("v2", "127.0.0.1:1"), "{canary: {steps: [{setWeight: 5}]}}")
            )
            end = time.monotonic() + seconds + _INTERVAL
            senders = [asyncio.create_task(send(plane.xds, number, end)) for number in range(proxies)]
            await asyncio.sleep(_INTERVAL)  # All proxies are connected and send at their interval.
            pid = process.pid
            before, began = cpu_seconds(pid), time.monotonic()
            await asyncio.sleep(seconds)
            used, took = cpu_seconds(pid) - before, time.monotonic() - began
            costs = await asyncio.to_thread(plane.view)
            await asyncio.gather(*senders)
        finally:
            plane.close()
    return {
        "proxies": proxies,
        "message_bytes": len(message()),
        "cpu_share_of_a_core": round(used / took, 3),
        "counted": sum(cost["requests"] for cost in costs["costs"]),
    }


def update_milliseconds(rounds: int = 20) -> float:
    """Return the milliseconds of one update of all verdicts: a hundred routes with four metrics each."""
    rng = np.random.default_rng(1)
    policy = Policy(guardrails=tuple(Guardrail.of(name) for name in _METRICS))
    control = Leg(route="r", variant="v1")
    states: list[CandidateEvidence] = [
        start_evidence(policy, Leg(route="r", variant="v2"), control) for _ in range(_ROUTES)
    ]
    blocks = [
        Block(
            start=10.0 * k,
            seconds=10,
            legs={Leg(route="r", variant="v2"): _counts(rng, 25), control: _counts(rng, 475)},
        )
        for k in range(rounds)
    ]
    took = []
    for block in blocks:
        began = time.perf_counter()
        states = [add_block(evidence, policy, block) for evidence in states]
        for evidence in states:
            analyze(evidence, policy, block.start + block.seconds)
        took.append(1000 * (time.perf_counter() - began))
    return float(np.median(took))


def _counts(rng: np.random.Generator, n: int) -> Counts:
    return Counts(
        requests=n,
        failed=int(rng.binomial(n, 0.01)),
        first_token_ms=_row(rng, n, FIRST_TOKEN_MS),
        tokens=_row(rng, n, TOKENS),
        metered=n,
    )


def _row(rng: np.random.Generator, n: int, edges: tuple[float, ...]) -> Buckets:
    places = np.searchsorted(edges, rng.lognormal(5, 0.5, n))
    return tuple(int(count) for count in np.bincount(places, minlength=len(edges) + 1))


def main() -> None:
    """Print both figures, and one JSON object in the last line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--proxies", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20)
    args = parser.parse_args()
    update = update_milliseconds()
    print(
        f"one update of all verdicts, {_ROUTES} routes with {len(_METRICS)} metrics: {update:.1f} ms",
        flush=True,
    )
    found = asyncio.run(flood(args.proxies, args.seconds))
    share, size = found["cpu_share_of_a_core"], found["message_bytes"]
    print(f"{args.proxies} proxies: {share:.1%} of a core, {size} bytes a message")
    print(json.dumps({"verdicts_ms": round(update, 1), **found}))


if __name__ == "__main__":
    main()
