"""The programs of the demo: model servers, collector, control plane and two Envoys on loopback ports."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from demo.processes import Process, ProcessError, ReadyCheck, envoy_binary, free_port, start

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Backend", "Ports", "Programs", "inject_fault", "start_simulated"]

ENVOYS: Final = 2
# For a busy machine; on an idle one, the control plane is ready after three seconds.
_START_SECONDS: Final = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A model server: its name in the spec, its address, its model's name, and its label in the output."""

    name: str
    address: str
    model: str
    label: str

    @property
    def url(self) -> str:
        """The server's base URL."""
        return f"http://{self.address}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The port of every listener: the documented port if it is free, another one if not."""

    xds: int
    http: int
    collector_grpc: int
    collector_http: int
    entries: tuple[int, ...]
    admins: tuple[int, ...]

    @classmethod
    def pick(cls) -> Ports:
        """Choose free ports."""
        return cls(
            xds=_port(18_000),
            http=_port(18_001),
            collector_grpc=_port(18_002),
            collector_http=_port(18_003),
            entries=tuple(_port(10_000 + n) for n in range(ENVOYS)),
            admins=tuple(_port(9_901 + n) for n in range(ENVOYS)),
        )


@dataclass(slots=True, kw_only=True)
class Programs:
    """The running programs, in the order they were started."""

    folder: Path
    ports: Ports
    processes: list[Process] = field(default_factory=list)

    @property
    def api(self) -> str:
        """The control plane's base URL."""
        return f"http://127.0.0.1:{self.ports.http}"

    @property
    def collector(self) -> str:
        """The collector's base URL."""
        return f"http://127.0.0.1:{self.ports.collector_http}"

    @property
    def entries(self) -> tuple[str, ...]:
        """The base URLs that users send requests to, one per Envoy."""
        return tuple(f"http://127.0.0.1:{port}" for port in self.ports.entries)

    def start(self, name: str, command: Sequence[str | Path], ready: ReadyCheck | None = None) -> Process:
        """Start one program, so that `stop` ends it, and wait until it is ready.

        Raises:
            ProcessError: The program ended, or was not ready in time.
        """
        process = start(name, command, folder=self.folder)
        self.processes.append(process)
        if ready is not None:
            process.wait_ready(ready)
        return process

    def start_collector(self) -> None:
        """Start the collector with an empty store."""
        ports = self.ports
        self.start(
            "mirror-collector",
            [
                *_module("mirror_collector.cli"),
                "serve",
                f"--grpc=127.0.0.1:{ports.collector_grpc}",
                f"--http=127.0.0.1:{ports.collector_http}",
                f"--store={self.folder / 'pairs.sqlite'}",
            ],
            ReadyCheck(url=f"{self.collector}/readyz", timeout=_START_SECONDS),
        )

    def start_control_plane(self) -> None:
        """Start the control plane with an empty store."""
        ports = self.ports
        self.start(
            "shiftplane",
            [
                *_module("xds_server.cli"),
                "serve",
                "--open",
                f"--xds=127.0.0.1:{ports.xds}",
                f"--http=127.0.0.1:{ports.http}",
                f"--store={self.folder / 'state.sqlite'}",
                f"--collector-grpc=127.0.0.1:{ports.collector_grpc}",
                f"--collector-http={self.collector}",
            ],
            ReadyCheck(url=f"{self.api}/readyz", timeout=_START_SECONDS),
        )

    def start_envoys(self) -> None:
        """Start the Envoys and wait until each has received its first snapshot."""
        for number, (entry, admin) in enumerate(zip(self.ports.entries, self.ports.admins, strict=True), 1):
            file = self.folder / f"gateway-{number}.yaml"
            bootstrap = self.start(
                f"bootstrap-{number}",
                [
                    *_module("xds_server.cli"),
                    "bootstrap",
                    "--stats-interval=0.5",
                    "--group=demo",
                    f"--node-id=gateway-{number}",
                    f"--xds=127.0.0.1:{self.ports.xds}",
                    f"--entry=127.0.0.1:{entry}",
                    f"--admin=127.0.0.1:{admin}",
                    f"--out={file}",
                ],
            )
            _wait_done(bootstrap)
            self.processes.remove(bootstrap)
            self.start(
                f"gateway-{number}",
                [
                    envoy_binary(),
                    "-c",
                    file,
                    "--use-dynamic-base-id",
                    "--concurrency",
                    "1",
                    "-l",
                    "warning",
                ],
                ReadyCheck(url=f"http://127.0.0.1:{admin}/ready", timeout=_START_SECONDS),
            )

    def ended(self) -> list[Process]:
        """Return the programs that ended before `stop`; in a good run there are none."""
        return [process for process in self.processes if not process.running]

    def check(self) -> None:
        """Check that all programs are running.

        Raises:
            ProcessError: A program ended.
        """
        for process in self.ended():
            code = process.popen.returncode
            raise ProcessError(
                f"{process.name} ended with exit code {code}, log {process.log}:\n{process.tail()}"
            )

    def stop(self) -> None:
        """End all programs, last started first; if one does not end, the others are still ended."""
        for process in reversed(self.processes):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.stop()
        self.processes.clear()


def _wait_done(process: Process) -> None:
    """Wait until a program has done its work.

    Raises:
        ProcessError: The program failed, or was not done in time.
    """
    try:
        code = process.popen.wait(_START_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ProcessError(f"{process.name} was not done within {_START_SECONDS:g} s") from error
    if code != 0:
        raise ProcessError(f"{process.name} ended with exit code {code}:\n{process.tail()}")


def start_simulated(programs: Programs, name: str, *, flavour: str, model: str) -> Backend:
    """Start a simulated vLLM server and return it once it is ready."""
    port = free_port()
    programs.start(
        f"simulated-{name}",
        [
            *_module("demo.simulated_vllm"),
            f"--port={port}",
            f"--name={name}",
            f"--model={model}",
            f"--flavour={flavour}",
            # Nearly all of the time is before the first token, so that the one-token answers of the split
            # sample take about as long as the others. Otherwise the many fast answers would lower the usual
            # duration of v2, which the analysis of v3 is compared with.
            "--first-token=150ms",
            "--inter-token=0.3ms",
        ],
        ReadyCheck(url=f"http://127.0.0.1:{port}/health", timeout=_START_SECONDS),
    )
    return Backend(
        name=name, address=f"127.0.0.1:{port}", model=model, label=f"{name} (simulated vLLM, model {model})"
    )


def inject_fault(backend: Backend, mode: str) -> None:
    """Make a fault hit every request to a simulated server; ``mode`` is a value of ``FaultMode``."""
    body = json.dumps({"mode": mode, "rate": 1.0}).encode()
    request = urllib.request.Request(  # noqa: S310 - a loopback URL built above
        f"{backend.url}/_sim/faults", data=body, headers={"content-type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=30).close()  # noqa: S310


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", name]


def _port(preferred: int) -> int:
    with socket.socket() as probe:
        # The programs set SO_REUSEADDR too: a port whose old connections are in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            return free_port()
    return preferred
