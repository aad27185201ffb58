"""Envoy's CPU time per request and per streamed chunk: our canary listener beside a plain weighted split.

Both Envoys have one worker and the same two backends, and serve the same requests in alternating rounds. CPU
time is read from `/proc/PID/task/*/schedstat` (nanoseconds). The plain Envoy has a weighted split and
nothing else: no statistics, no filters.

    python bench/data_path.py --rounds 9
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from demo.processes import ReadyCheck, envoy_binary, free_port, start
from tests.support.plane import Plane, route

if TYPE_CHECKING:
    from collections.abc import Coroutine

_CONNECTIONS = 8
_CHUNKS = 300
_STREAMS = 32
_PAUSE_SECONDS = 0.002
_REQUEST = json.dumps(
    {"model": "chat-large", "messages": [{"role": "user", "content": "x" * 940}], "stream": False}
).encode()
_USAGE = {"prompt_tokens": 200, "completion_tokens": _CHUNKS}
_ANSWER = json.dumps(
    {
        "id": "chatcmpl-0123456789abcdef",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": "chat-large",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "y" * 700}, "finish_reason": "stop"}
        ],
        "usage": _USAGE,
    }
).encode()
_CHUNK = {
    "id": "chatcmpl-0123456789abcdef",
    "object": "chat.completion.chunk",
    "created": 1_760_000_000,
    "model": "chat-large",
    "choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": None}],
}


@dataclass(slots=True)
class Samples:
    """CPU microseconds of one Envoy, one value for each round."""

    per_request: list[float] = field(default_factory=list)
    per_chunk: list[float] = field(default_factory=list)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer requests on one connection: JSON of one kilobyte, or a stream if the path has `stream`."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(_content_length(head))
            if b"stream" not in head.split(b"\r\n", 1)[0]:
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                    % (len(_ANSWER), _ANSWER)
                )
                continue
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            )
            for _ in range(_CHUNKS - 1):
                writer.write(_chunk(json.dumps(_CHUNK)))
                await asyncio.sleep(_PAUSE_SECONDS)
            writer.write(_chunk(json.dumps({**_CHUNK, "choices": [], "usage": _USAGE})))
            writer.write(_chunk("[DONE]") + b"0\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.CancelledError):
        writer.close()


def _chunk(data: str) -> bytes:
    event = f"data: {data}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


async def request(entry: str, path: str, times: int) -> None:
    """Send requests one after another on one connection."""
    where = urlsplit(entry)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    head = (
        f"POST {path} HTTP/1.1\r\nhost: chat\r\ncontent-type: application/json\r\n"
        f"x-user-id: user-1\r\ncontent-length: {len(_REQUEST)}\r\n\r\n"
    ).encode()
    try:
        for _ in range(times):
            writer.write(head + _REQUEST)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(answer.decode(errors="replace"))
            if b"content-length" in answer.lower():
                await reader.readexactly(_content_length(answer))
            else:
                await reader.readuntil(b"\r\n0\r\n\r\n")
    finally:
        writer.close()


async def plain_requests(entry: str, times: int) -> None:
    """Send JSON requests over several connections."""
    await asyncio.gather(
        *(request(entry, "/v1/chat/completions", times // _CONNECTIONS) for _ in range(_CONNECTIONS))
    )


async def streams(entry: str) -> None:
    """Receive several streams at the same time."""
    await asyncio.gather(*(request(entry, "/v1/chat/completions?stream", 1) for _ in range(_STREAMS)))


async def measure(pid: int, work: Coroutine[Any, Any, None]) -> float:
    """Return the CPU microseconds that a process used during the work."""
    before = cpu_microseconds(pid)
    await work
    return cpu_microseconds(pid) - before


def cpu_microseconds(pid: int) -> float:
    """Return the CPU time that all threads of a process have used."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text(encoding="ascii").split()[0]) for task in tasks) / 1000


def plain_config(ports: tuple[int, int], entry: int, admin: int) -> dict[str, Any]:
    """Return a static bootstrap with a weighted split over two backends and nothing else."""
    clusters = [
        {
            "name": f"v{number}",
            "type": "STATIC",
            "load_assignment": {
                "cluster_name": f"v{number}",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
            },
        }
        for number, port in enumerate(ports, 1)
    ]
    split = {"clusters": [{"name": "v1", "weight": 95}, {"name": "v2", "weight": 5}]}
    prefix = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{prefix}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "plain",
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{prefix}.http.router.v3.Router"},
            }
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"prefix": "/"}, "route": {"weighted_clusters": split, "timeout": "0s"}}
                    ],
                }
            ]
        },
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {
        "admin": {"address": _address(admin)},
        "static_resources": {
            "clusters": clusters,
            "listeners": [{"name": "entry", "address": _address(entry), "filter_chains": [chain]}],
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


async def run(folder: Path, rounds: int, requests: int) -> dict[str, Any]:
    """Start backends and both Envoys, and return the figures."""
    servers = [await asyncio.start_server(serve, "127.0.0.1", 0) for _ in range(2)]
    first, second = (server.sockets[0].getsockname()[1] for server in servers)
    plane = Plane(folder)
    try:
        await asyncio.to_thread(plane.start_control_plane, "--no-health-checks", collector=False)
        canary = "{canary: {steps: [{setWeight: 5}, {pause: {}}]}}"
        spec = route(("v1", f"127.0.0.1:{first}"), ("v2", f"127.0.0.1:{second}"), canary)
        await asyncio.to_thread(plane.apply, spec)
        ours = await asyncio.to_thread(plane.start_envoy)
        await asyncio.to_thread(plane.until, lambda view: view["weights"]["v2"] == 5)
        entry, admin = free_port(), free_port()
        file = folder / "plain.json"
        file.write_text(json.dumps(plain_config((first, second), entry, admin)), encoding="utf-8")
        plain = await asyncio.to_thread(
            start,
            "plain",
            [envoy_binary(), "-c", file, "--concurrency", "1", "--use-dynamic-base-id", "-l", "error"],
            folder=folder,
            ready=ReadyCheck(url=f"http://127.0.0.1:{admin}/ready"),
        )
        plane.processes.append(plain)
        both = {
            "plain": (plain.pid, f"http://127.0.0.1:{entry}", Samples()),
            "ours": (ours.process.pid, ours.entry, Samples()),
        }
        for number in range(rounds + 1):
            for name, (pid, where, samples) in both.items():
                one = await measure(pid, plain_requests(where, requests))
                chunk = await measure(pid, streams(where))
                if number:  # The first round warms up.
                    samples.per_request.append(one / requests)
                    samples.per_chunk.append(chunk / (_STREAMS * _CHUNKS))
                    print(f"{name}: {samples.per_request[-1]:.0f} µs of CPU per request, ", end="")
                    print(f"{samples.per_chunk[-1]:.2f} µs per chunk", flush=True)
    finally:
        plane.close()
        for server in servers:
            server.close()
    return figures(both["plain"][2], both["ours"][2])


def figures(plain: Samples, ours: Samples) -> dict[str, Any]:
    """Return medians, and the ratio of each pair of rounds as median with its smallest and largest value."""
    found: dict[str, Any] = {}
    for what in ("per_request", "per_chunk"):
        one, other = getattr(plain, what), getattr(ours, what)
        ratios = [b / a for a, b in zip(one, other, strict=True)]
        found[f"{what}_us"] = {
            "plain": round(statistics.median(one), 2),
            "ours": round(statistics.median(other), 2),
        }
        found[f"{what}_ratio"] = [
            round(value, 2) for value in (min(ratios), statistics.median(ratios), max(ratios))
        ]
    return found


def main() -> None:
    """Print the figures; the last line is JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9, help="Rounds per Envoy.")
    parser.add_argument("--requests", type=int, default=2000, help="JSON requests per round.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="shiftplane-") as folder:
        print(json.dumps(asyncio.run(run(Path(folder), options.rounds, options.requests))))


if __name__ == "__main__":
    main()
