"""A deployment on loopback: control plane, collector, backends and Envoys as processes."""

from __future__ import annotations

import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from demo.processes import Process, ReadyCheck, free_port
from tests.support.envoy import Envoy, start_envoy
from tests.support.launcher import start_module
from xds_server.cli.client import Api

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")
# A busy machine starts programs slowly.
_READY_SECONDS: Final = 60.0

__all__ = ["BackendProcess", "Plane", "eventually", "route"]

ROUTE = """\
apiVersion: shiftplane.dev/v1alpha1
kind: ModelRoute
metadata: {{name: chat}}
spec:
  proxies: {{group: chat}}
  match: {{path: {{prefix: /v1/}}}}
  backends:
{backends}
  stable: {stable}
  {candidate}
  attributes:
    user.id: {{header: x-user-id}}
  {strategy}
"""


@dataclass(frozen=True, slots=True)
class BackendProcess:
    """A simulated vLLM server in its own process."""

    process: Process
    address: str

    @property
    def url(self) -> str:
        return f"http://{self.address}"


@dataclass(slots=True)
class Plane:
    """The processes of one test; `close` stops all of them."""

    folder: Path
    xds: int = field(default_factory=free_port)
    http: int = field(default_factory=free_port)
    collector_grpc: int = field(default_factory=free_port)
    collector_http: int = field(default_factory=free_port)
    processes: list[Process] = field(default_factory=list)

    @property
    def api(self) -> Api:
        return Api(f"http://127.0.0.1:{self.http}")

    @property
    def collector_api(self) -> Api:
        return Api(f"http://127.0.0.1:{self.collector_http}")

    def start_control_plane(self, *flags: str, collector: bool = True) -> Process:
        words = [
            "serve",
            "--open",
            f"--xds=127.0.0.1:{self.xds}",
            f"--http=127.0.0.1:{self.http}",
            f"--store={self.folder / 'state.sqlite'}",
            *flags,
        ]
        if collector:
            words += [
                f"--collector-grpc=127.0.0.1:{self.collector_grpc}",
                f"--collector-http=http://127.0.0.1:{self.collector_http}",
            ]
        return self._start("control-plane", "xds_server.cli", words, f"http://127.0.0.1:{self.http}/readyz")

    def start_collector(self, *flags: str, settings: str = "") -> Process:
        if settings:
            file = self.folder / "collector.yaml"
            file.write_text(settings, encoding="utf-8")
            flags = (*flags, f"--config={file}")
        words = [
            "serve",
            f"--grpc=127.0.0.1:{self.collector_grpc}",
            f"--http=127.0.0.1:{self.collector_http}",
            f"--store={self.folder / 'pairs.sqlite'}",
            *flags,
        ]
        ready = f"http://127.0.0.1:{self.collector_http}/readyz"
        return self._start("collector", "mirror_collector.cli", words, ready)

    def start_backend(self, name: str, *flags: str, model: str = "chat-large") -> BackendProcess:
        port = free_port()
        words = [
            f"--port={port}",
            f"--name={name}",
            f"--model={model}",
            "--first-token=5ms",
            "--inter-token=1ms",
            "--max-model-len=100000000",
            *flags,
        ]
        ready = f"http://127.0.0.1:{port}/health"
        process = self._start(f"backend-{name}", "demo.simulated_vllm", words, ready)
        return BackendProcess(process, f"127.0.0.1:{port}")

    def start_envoy(self, node_id: str = "envoy-1", **facts: Any) -> Envoy:
        envoy = start_envoy(self.folder, xds_port=self.xds, node_id=node_id, **facts)
        self.processes.append(envoy.process)
        return envoy

    def apply(self, text: str) -> Any:
        return self.api.post_spec(text, "test.yaml", dry_run=False)

    def view(self, name: str = "chat") -> dict[str, Any]:
        return dict(self.api.get(f"/v1/routes/{name}"))

    def until(
        self, condition: Callable[[dict[str, Any]], bool], name: str = "chat", *, within: float = 20
    ) -> dict[str, Any]:
        """Poll the view of a route until it satisfies `condition`, and return it."""
        return eventually(lambda: self.view(name), condition, within=within)

    def summary(self, name: str = "chat") -> dict[str, Any]:
        """Return the summary of a route from the collector; empty before its first leg."""
        for route in self.collector_api.get("/v1/summary")["routes"]:
            if route["route"] == name:
                return dict(route)
        return {}

    def close(self) -> None:
        """Stop all programs at the same time; kill those that do not end."""
        for process in reversed(self.processes):
            process.signal(signal.SIGCONT)
            process.signal(signal.SIGTERM)
        for process in reversed(self.processes):
            try:
                process.popen.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()

    def _start(self, name: str, module: str, words: list[str], ready: str) -> Process:
        check = ReadyCheck(url=ready, timeout=_READY_SECONDS)
        process = start_module(module, *words, name=name, folder=self.folder, ready=check)
        self.processes.append(process)
        return process


def route(
    stable: tuple[str, str], candidate: tuple[str, str] | None = None, strategy: str = "", more: str = ""
) -> str:
    """Return a spec of route `chat`; backends are (name, address), `strategy` is its YAML value."""
    backends = [stable] if candidate is None else [stable, candidate]
    return ROUTE.format(
        backends="\n".join(f'    - {{name: {name}, endpoints: ["{address}"]}}' for name, address in backends),
        stable=stable[0],
        candidate="" if candidate is None else f"candidate: {candidate[0]}",
        strategy=(f"strategy: {strategy}" if strategy else "") + (f"\n  {more}" if more else ""),
    )


def eventually(read: Callable[[], T], condition: Callable[[T], bool], *, within: float = 20) -> T:
    """Poll `read` until its value satisfies `condition`, and return it; the error contains the last value."""
    deadline = time.monotonic() + within
    while True:
        value = read()
        if condition(value):
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s; the last value was {value}")
        time.sleep(0.05)
