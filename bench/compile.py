"""Time and bytes of an edit: one changed route of 1, 10, 100 and 1,000, from spec to resources.

Three setups: all routes in one group of proxies with separate virtual hosts, in one group with a single route
table, and in groups of ten routes each; and one changed endpoint of a cluster with 1,000. The last line is
JSON: `ms` is the median over rounds, `bytes` the amount sent to every proxy of the group.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from xds_server import ir
from xds_server.compiler import compile_resources
from xds_server.plan import RouteTraffic
from xds_server.sources import load_scripts
from xds_server.spec import ModelRoute, load
from xds_server.xds.snapshot import Snapshot, build, changes

ROUNDS = 7
ENTRY = ir.Address(host="127.0.0.1", port=10_000)
SCRIPTS = load_scripts()
SPEC = """\
apiVersion: shiftplane.dev/v1alpha1
kind: ModelRoute
metadata: {{name: route-{number}}}
spec:
  proxies: {{group: {group}}}
  match: {{hosts: ["host-{number}.test"], path: {{prefix: /v1/}}}}
  backends:
    - {{name: v1, endpoints: [{endpoints}]}}
    - {{name: v2, endpoints: ["10.0.1.2:8000"]}}
  stable: v1
  candidate: v2
  strategy: {{canary: {{steps: [{{setWeight: 5}}, {{pause: {{}}}}, {{setWeight: 100}}]}}}}
"""


def route(number: int, group: str, endpoints: int = 1, shift: int = 0) -> ModelRoute:
    """Return one route; `shift` changes its last endpoint."""
    listed = [f'"10.{n >> 8}.{n & 255}.1:8000"' for n in range(endpoints - 1)]
    text = SPEC.format(
        number=number, group=group, endpoints=", ".join([*listed, f'"10.9.9.{shift + 1}:8000"'])
    )
    return load(text, file="bench").routes[0]


def compile_snapshot(
    traffic: list[RouteTraffic], group: str, former: Snapshot | None, *, apart: bool
) -> Snapshot:
    """Return the snapshot of a group."""
    proxies = ir.NodeClass(group=group, entry=ENTRY, virtual_hosts_apart=apart)
    return build(compile_resources(proxies, traffic, SCRIPTS, collector=None), former)


def sent(old: Snapshot, new: Snapshot) -> int:
    """Return the bytes a delta client is sent to get from one snapshot to the other."""
    return sum(
        len(entry.delta)
        for kind, names in changes(old, new).items()
        for name in names
        if (entry := new.of(kind).get(name)) is not None
    )


def edits(states: list[list[RouteTraffic]], group: str, *, apart: bool = False) -> dict[str, Any]:
    """Return the median time of compiling the next state, and the bytes that the last change sends."""
    former = compile_snapshot(states[0], group, None, apart=apart)
    times, size = [], 0
    for traffic in states[1:]:
        gc.collect()
        began = time.perf_counter()
        after = compile_snapshot(traffic, group, former, apart=apart)
        times.append(1000 * (time.perf_counter() - began))
        size, former = sent(former, after), after
    return {"ms": round(statistics.median(times), 2), "bytes": size}


def weights(routes: list[ModelRoute]) -> list[list[RouteTraffic]]:
    """Return states in which the first route's weight rises."""
    rest = [RouteTraffic.with_weight(other, 500) for other in routes[1:]]
    return [[RouteTraffic.with_weight(routes[0], 100 * n), *rest] for n in range(1, ROUNDS + 2)]


def main() -> None:
    """Print the figures."""
    found: dict[str, Any] = {}
    for count in (1, 10, 100, 1_000):
        apart = edits(weights([route(n, "all") for n in range(count)]), "all", apart=True)
        whole = edits(weights([route(n, "all") for n in range(count)]), "all")
        split = edits(weights([route(n, f"group-{n // 10}") for n in range(count)]), "group-0")
        found[str(count)] = {"one_group_apart": apart, "one_group": whole, "ten_a_group": split}
        print(
            f"1 of {count:>5} routes changed: one group with separate virtual hosts {apart['ms']:6.2f} ms,"
            f" {apart['bytes']:>5,} bytes; with one table {whole['ms']:6.2f} ms, {whole['bytes']:>7,} bytes;"
            f" groups of ten routes {split['ms']:6.2f} ms, {split['bytes']:>5,} bytes"
        )
    moved = [[RouteTraffic.with_weight(route(0, "all", 1_000, shift), 500)] for shift in range(ROUNDS + 1)]
    found["endpoints_1000"] = edits(moved, "all")
    last = found["endpoints_1000"]
    print(f"1 of 1,000 endpoints changed: {last['ms']} ms, {last['bytes']:,} bytes")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
