"""Measure how fast a change reaches many proxies: N delta clients, one connection each.

The server is `shiftplane serve`. Prints connect time, then for one weight step and for one large change the
time to the last ACK, the server's CPU per push and its memory per idle stream. Server and clients share the
cores of this machine, so CPU per push is the most stable figure. The last line is JSON.

Example: python bench/xds_fanout.py --clients 5000 --rounds 5
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.clients.many import Clients, Kind
from demo.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_TICKS = os.sysconf("SC_CLK_TCK")
_SPEC = """\
apiVersion: shiftplane.dev/v1alpha1
kind: ModelRoute
metadata: {{name: {name}}}
spec:
  proxies: {{group: bench}}
  match: {{hosts: ["{host}"], path: {{prefix: /v1/}}}}
  backends:
    - {{name: v1, endpoints: ["127.0.0.1:9"]}}
    - {{name: v2, endpoints: ["127.0.0.1:10"]}}
  stable: v1
  candidate: v2
  strategy:
    canary:
      steps: [{steps}]
"""


def spec(name: str, host: str, rounds: int) -> str:
    """Return a route whose every promotion is one weight step."""
    steps = [f"{{setWeight: {number + 1}}}, {{pause: {{}}}}" for number in range(rounds + 1)]
    return _SPEC.format(name=name, host=host, steps=", ".join([*steps, "{setWeight: 100}"]))


class Server:
    """A control plane in a separate process, with its CPU time and memory from /proc."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.xds, self.http = free_port(), free_port()
        flags = [f"--workers={workers}"] if workers > 1 else []
        self._log = (folder / "serve.log").open("wb")
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "xds_server.cli", "serve", "--open"),
                *("--log-level=error", "--no-health-checks"),
                *(f"--xds=127.0.0.1:{self.xds}", f"--http=127.0.0.1:{self.http}"),
                *(f"--store={folder / 'state.sqlite'}", *flags),
            ],
            stderr=self._log,
            cwd=Path(__file__).resolve().parents[1],
        )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                self.get("/readyz")
            except OSError:
                time.sleep(0.05)
            else:
                return
        self.stop()
        raise TimeoutError((folder / "serve.log").read_text())

    def get(self, path: str) -> Any:
        """Return the JSON of a GET."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=30) as answer:
            return json.load(answer)

    def text(self, path: str) -> str:
        """Return the text of a GET."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=30) as answer:
            return str(answer.read().decode())

    def post(self, path: str, body: str) -> Any:
        """Return the JSON of a POST."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", body.encode())
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return json.load(answer)

    def _pids(self) -> list[int]:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return [self._process.pid, *map(int, children)]

    def cpu(self) -> float:
        """Return the CPU seconds used so far, workers included."""
        total = 0
        for pid in self._pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / _TICKS

    def rss(self, *, peak: bool = False) -> int:
        """Return the resident memory in KB, now or at its highest."""
        name, total = ("VmHWM:" if peak else "VmRSS:"), 0
        for pid in self._pids():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(name):
                    total += int(line.split()[1])
        return total

    def stop(self) -> None:
        """Terminate the process."""
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


@contextmanager
def serving(workers: int = 1) -> Iterator[Server]:
    """Run a control plane with an empty store."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), workers)
        try:
            yield server
        finally:
            server.stop()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def measure(server: Server, number: int, rounds: int) -> dict[str, Any]:
    """Return the figures of one run."""
    await asyncio.to_thread(server.post, "/v1/routes", spec("bench", "*", rounds))
    empty = server.rss()
    clients = Clients("127.0.0.1", server.xds, "bench", Kind())
    cpu = server.cpu()
    connecting = await clients.connect(number)
    began = time.perf_counter()
    await clients.until(lambda: clients.routes >= number or clients.failed > 0, 120)
    connecting += time.perf_counter() - began
    connect_cpu = (server.cpu() - cpu) * 1000 / number
    await asyncio.sleep(2)
    idle = (server.rss() - empty) / number
    print(
        f"{number} clients served in {connecting:.2f} s;"
        f" server per client {connect_cpu:.2f} ms CPU, {idle:.1f} KB RSS"
    )
    promote = "/v1/routes/bench/promote"
    step = [await _change(server, clients, number, promote, "{}") for _ in range(rounds)]
    big = []
    cpu_step = statistics.median(used for _, used, _, _ in step)
    for turn in range(max(3, rounds // 2)):
        routes = "---\n".join(spec(f"more-{n}", f"host-{turn}-{n}.test", 1) for n in range(20))
        big.append(await _change(server, clients, number, "/v1/routes", routes, quiet=0.5))
    found = {
        "clients": number,
        "failed": clients.failed,
        "connect_s": round(connecting, 2),
        "connect_cpu_ms": round(connect_cpu, 3),
        "rss_kb_per_stream": round(idle, 1),
        "last_ack_s": _spread([took for took, *_ in step]),
        "cpu_ms_per_push": round(cpu_step, 4),
        "pushes_per_s": round(number / statistics.median(took for took, *_ in step)),
        "bytes_per_push": round(statistics.median(size for *_, size in step) / number),
        "big_last_ack_s": _spread([took for took, *_ in big]),
        "big_cpu_ms_per_client": round(statistics.median(used for _, used, _, _ in big), 4),
        "big_messages_per_client": round(statistics.median(count for _, _, count, _ in big) / number, 2),
        "peak_rss_mb": round(server.rss(peak=True) / 1024),
    }
    clients.close()
    return found


async def _change(
    server: Server, clients: Clients, number: int, path: str, body: str, *, quiet: float = 0.0
) -> tuple[float, float, int, int]:
    """Make one change; return seconds to the last ACK, server CPU in ms per client, messages and bytes."""
    await asyncio.sleep(0.5)
    clients.routes, messages, size, cpu = 0, clients.messages, clients.bytes_in, server.cpu()
    began = time.perf_counter()
    await asyncio.to_thread(server.post, path, body)
    await clients.until(lambda: clients.routes >= number, 60)
    took = clients.last - began
    await asyncio.sleep(0.5 + quiet)
    print(f"  {path}: last ACK after {took:.3f} s")
    used = (server.cpu() - cpu) * 1000 / number
    return took, used, clients.messages - messages, clients.bytes_in - size


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "min": round(min(values), 3),
        "median": round(statistics.median(values), 3),
        "max": round(max(values), 3),
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", "--acceptors", type=int, default=1)
    options = parser.parse_args()
    with serving(options.workers) as server, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(server, options.clients, options.rounds))
    print(json.dumps({"workers": options.workers, **found}))


if __name__ == "__main__":
    main()
