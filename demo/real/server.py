"""Runs real vLLM servers as processes: starts them, waits until they are ready, and ends them.

A server also ends when its parent process dies (`demo.processes`), and so do its own children (`site`).
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Final

from demo.processes import Process, ProcessError, http_ready, start
from demo.real.command import ServerConfig, memory_problem, server_command
from demo.real.prepare import Preparation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "STARTING_SECONDS",
    "RealVllm",
    "check_port",
    "cores",
    "launch",
    "start_pair",
    "stop_all",
    "wait_ready",
]

STARTING_SECONDS: Final = 300.0
"""Limit for the start of a server; 30 to 120 s are usual."""

_POLL: Final = 0.5
_LOADING_GRACE: Final = 2.0
_REPORT_INTERVAL: Final = 10.0
_LOG_LINE: Final = re.compile(r"(?:INFO|WARNING|ERROR)\s[\d-]+\s[\d:]+\s\[[^\]]+\]\s+(\S.*)")


class RealVllm:
    """One started vLLM server; created by `launch`."""

    def __init__(self, config: ServerConfig, process: Process) -> None:
        """Wrap a process that was just started."""
        self.config = config
        self.process = process
        self.began = time.monotonic()
        self._was_ready = False

    @property
    def base_url(self) -> str:
        """The base URL of the server, without a path."""
        return self.config.base_url

    def ready(self) -> bool:
        """Return whether the server is healthy and lists its model.

        Raises:
            ProcessError: The server has ended.
        """
        if not self.process.running:
            raise ProcessError(
                f"vLLM {self.config.name} ended with exit code {self.process.popen.returncode}; "
                f"the end of its log {self.process.log}:\n{self.process.tail()}"
            )
        ready = http_ready(f"{self.base_url}/health") and self.config.name in self._models()
        self._was_ready = self._was_ready or ready
        return ready

    def last_message(self) -> str:
        """Return the last message of the log, without its timestamp and logger."""
        found = _LOG_LINE.findall(self.process.tail(40))
        return str(found[-1]) if found else "loading Python modules"

    def stop(self, *, grace: float | None = None) -> None:
        """End the server with SIGTERM, and with SIGKILL after `grace` seconds.

        The default of `grace` is the shutdown timeout plus 10 s, or 2 s while the server loads.
        """
        # A server that was never ready has no answers to finish, and may ignore SIGTERM while it loads.
        default = self.config.shutdown_timeout + 10 if self._was_ready else _LOADING_GRACE
        self.process.stop(grace=default if grace is None else grace)

    def _models(self) -> list[str]:
        try:
            with urllib.request.urlopen(f"{self.base_url}/v1/models", timeout=2) as response:  # noqa: S310
                return [str(model["id"]) for model in json.load(response)["data"]]
        except (OSError, ValueError, KeyError):
            return []


def cores() -> tuple[int, ...]:
    """Return the CPU cores that this process may use."""
    return tuple(sorted(os.sched_getaffinity(0)))


def launch(config: ServerConfig, folder: Path) -> RealVllm:
    """Start one server with its log in `folder`, and return at once.

    The calling thread must outlive the server: Linux kills the server when that thread ends.

    Raises:
        ProcessError: The root is not prepared, the port is in use, or the core is not available.
    """
    if pending := Preparation(config.root).pending():
        raise ProcessError(
            f"vLLM is not prepared in {config.root} (pending stages: {', '.join(pending)}): "
            f"run `python -m demo.real_vllm prepare --dir {config.root}`"
        )
    if config.core not in cores():
        raise ProcessError(f"core {config.core} is not available; allowed: {', '.join(map(str, cores()))}")
    check_port(config)
    name = f"vllm-{config.name}"
    (folder / f"{name}.log").unlink(missing_ok=True)  # `last_message` must not read the log of an earlier run
    return RealVllm(config, start(name, server_command(config), folder=folder))


def wait_ready(
    servers: Sequence[RealVllm],
    *,
    timeout: float = STARTING_SECONDS,
    report: Callable[[str], None] = print,
    give_up: Callable[[], bool] = lambda: False,
) -> bool:
    """Wait until all servers are ready, and report their progress every 10 s.

    Returns:
        Whether all are ready; False only when `give_up` returned True.

    Raises:
        ProcessError: One of them ended, or one was not ready in time; the others keep running.
    """
    began = reported = time.monotonic()
    waiting = list(servers)
    while waiting:
        if give_up():
            return False
        for server in tuple(waiting):
            if server.ready():
                waiting.remove(server)
                report(f"vLLM {server.config.name} is ready after {time.monotonic() - server.began:.0f} s")
        now = time.monotonic()
        if waiting and now - began > timeout:
            late = ", ".join(f"{server.config.name} ({server.process.log})" for server in waiting)
            raise ProcessError(f"vLLM servers not ready within {timeout:.0f} s: {late}")
        if waiting and now - reported >= _REPORT_INTERVAL:
            reported = now
            for server in waiting:
                report(f"vLLM {server.config.name}: {now - server.began:.0f} s, {server.last_message()[:90]}")
        time.sleep(_POLL if waiting else 0)
    return True


def start_pair(
    root: Path,
    ports: tuple[int, int],
    folder: Path,
    *,
    report: Callable[[str], None] = print,
    give_up: Callable[[], bool] = lambda: False,
) -> tuple[RealVllm, RealVllm]:
    """Start a stable and a candidate server, on different cores if there are two, and wait for both.

    Both serve the same weights: `smol-a` decodes greedily, `smol-b` with a repetition penalty, so that their
    answers to one prompt differ, in the same way every time.

    Raises:
        ProcessError: A server failed to start, or `give_up` returned True; none keeps running.
    """
    meminfo = Path("/proc/meminfo")
    if problem := memory_problem(meminfo.read_text(encoding="utf-8") if meminfo.exists() else "", 2):
        raise ProcessError(problem)
    root, usable = root.resolve(), cores()
    configs = (
        ServerConfig(root=root, name="smol-a", port=ports[0], core=usable[0], generation={"temperature": 0}),
        ServerConfig(
            root=root,
            name="smol-b",
            port=ports[1],
            core=usable[-1],
            generation={"temperature": 0, "repetition_penalty": 1.05},
        ),
    )
    servers: list[RealVllm] = []
    try:
        for config in configs:
            servers.append(launch(config, folder))  # noqa: PERF401 - the first is stopped when the second fails
        if not wait_ready(servers, report=report, give_up=give_up):
            raise ProcessError("the start of the two vLLM servers was canceled")  # noqa: TRY301
    except BaseException:
        stop_all(servers, grace=0)
        raise
    return servers[0], servers[1]


def stop_all(servers: Sequence[RealVllm], *, grace: float | None = None) -> None:
    """End all servers at the same time."""
    for server in servers:
        server.process.signal(signal.SIGTERM)
    for server in servers:
        server.stop(grace=grace)


def check_port(config: ServerConfig) -> None:
    """Check that the server can listen on its address.

    Raises:
        ProcessError: The address cannot be used; the message gives the reason.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.host, config.port))
        except OSError as error:
            raise ProcessError(f"{config.host}:{config.port} cannot be used: {error.strerror}") from error
