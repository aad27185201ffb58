"""Real vLLM servers as processes: started side by side, waited for, ended by their own id.

A server also ends when whatever started it dies: `demo.processes` sees to it, and `site` to its children.
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
"""How long servers may take until they answer; 30 to 120 s are usual."""

_POLL: Final = 0.5
_UNANSWERED_GRACE: Final = 2.0
_SAY_EVERY: Final = 10.0
_LOG_LINE: Final = re.compile(r"(?:INFO|WARNING|ERROR)\s[\d-]+\s[\d:]+\s\[[^\]]+\]\s+(\S.*)")


class RealVllm:
    """One vLLM server that was started; `launch` makes it."""

    def __init__(self, config: ServerConfig, process: Process) -> None:
        """Take charge of a process that was just started."""
        self.config = config
        self.process = process
        self.began = time.monotonic()
        self._answered = False

    @property
    def base_url(self) -> str:
        """Where it answers, without a path."""
        return self.config.base_url

    def ready(self) -> bool:
        """Return whether it answers for its model just now.

        Raises:
            ProcessError: It has ended.
        """
        if not self.process.running:
            raise ProcessError(
                f"vLLM {self.config.name} ended with {self.process.popen.returncode}; "
                f"its log {self.process.log} ends so:\n{self.process.tail()}"
            )
        answers = http_ready(f"{self.base_url}/health") and self.config.name in self._models()
        self._answered = self._answered or answers
        return answers

    def doing(self) -> str:
        """Return the last thing its log says, without the clutter before it."""
        found = _LOG_LINE.findall(self.process.tail(40))
        return str(found[-1]) if found else "loading Python modules"

    def stop(self, *, grace: float | None = None) -> None:
        """End it: politely first, for `grace` seconds or what its own shutdown timeout takes."""
        # One that has answered nobody has nothing to finish, and may not hear the signal while it loads.
        usual = self.config.shutdown_timeout + 10 if self._answered else _UNANSWERED_GRACE
        self.process.stop(grace=usual if grace is None else grace)

    def _models(self) -> list[str]:
        try:
            with urllib.request.urlopen(f"{self.base_url}/v1/models", timeout=2) as answer:  # noqa: S310
                return [str(model["id"]) for model in json.load(answer)["data"]]
        except (OSError, ValueError, KeyError):
            return []


def cores() -> tuple[int, ...]:
    """Return the cores this process may compute on."""
    return tuple(sorted(os.sched_getaffinity(0)))


def launch(config: ServerConfig, folder: Path) -> RealVllm:
    """Start one server with its log in `folder`, and return at once.

    The thread that calls this must outlive the server: Linux ends it together with that thread.

    Raises:
        ProcessError: Nothing is prepared in its root, or its port or core is not to be had.
    """
    if left := Preparation(config.root).left():
        raise ProcessError(
            f"vLLM is not prepared in {config.root} (left to do: {', '.join(left)}): "
            f"run `python -m demo.real_vllm prepare --dir {config.root}`"
        )
    if config.core not in cores():
        raise ProcessError(f"core {config.core} is not there; allowed: {', '.join(map(str, cores()))}")
    check_port(config)
    name = f"vllm-{config.name}"
    (folder / f"{name}.log").unlink(missing_ok=True)  # `doing` reads it, and means this run
    return RealVllm(config, start(name, server_command(config), folder=folder))


def wait_ready(
    servers: Sequence[RealVllm],
    *,
    timeout: float = STARTING_SECONDS,
    say: Callable[[str], None] = print,
    give_up: Callable[[], bool] = lambda: False,
) -> bool:
    """Wait until all servers answer, and say now and then how far they are.

    Returns:
        Whether all answer; False only when `give_up` said so.

    Raises:
        ProcessError: One of them ended, or they were not ready in time; none is ended here.
    """
    began = said = time.monotonic()
    waiting = list(servers)
    while waiting:
        if give_up():
            return False
        for server in tuple(waiting):
            if server.ready():
                waiting.remove(server)
                say(f"vLLM {server.config.name} answers after {time.monotonic() - server.began:.0f} s")
        now = time.monotonic()
        if waiting and now - began > timeout:
            late = ", ".join(f"{server.config.name} ({server.process.log})" for server in waiting)
            raise ProcessError(f"vLLM not ready within {timeout:.0f} s: {late}")
        if waiting and now - said >= _SAY_EVERY:
            said = now
            for server in waiting:
                say(f"vLLM {server.config.name}: {now - server.began:.0f} s, {server.doing()[:90]}")
        time.sleep(_POLL if waiting else 0)
    return True


def start_pair(
    root: Path,
    ports: tuple[int, int],
    folder: Path,
    *,
    say: Callable[[str], None] = print,
    give_up: Callable[[], bool] = lambda: False,
) -> tuple[RealVllm, RealVllm]:
    """Start an old and a new server, each on a core of its own where there are two, and wait for both.

    Both serve the same weights: `smol-a` picks the likeliest token each time, `smol-b` avoids repeating
    itself, so that their answers to one question differ, and in the same way every time.

    Raises:
        ProcessError: They cannot start here, did not, or `give_up` said so; none is left running.
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
        if not wait_ready(servers, say=say, give_up=give_up):
            raise ProcessError("the start of the two vLLM servers was given up")  # noqa: TRY301
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
    """Refuse an address that cannot be listened on.

    Raises:
        ProcessError: It says why.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.host, config.port))
        except OSError as error:
            raise ProcessError(f"{config.host}:{config.port} cannot be used: {error.strerror}") from error
