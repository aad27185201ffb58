"""Start programs of this project by forking a process that has already imported them.

Importing the control plane and translating a first spec takes five seconds of CPU time on a small machine,
and most tests with a real Envoy start one. The launcher does both once per test process; each start is then
a fork. The forked process has its own session, environment, folder, output and signal dispositions, as an
executed one has. Two things differ: modules that a program imports lazily are already loaded, and all forks
share one hash seed. A test to which either matters starts the program with `demo.processes.start`.

Without Linux, or with `SHIFTPLANE_TESTS_LAUNCHER=off`, programs are executed.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from demo.processes import Process, ReadyCheck, start
from tests.support.signals import reset_signals

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["start_module"]

_ROOT: Final = Path(__file__).resolve().parents[2]
# What the programs import by the time they are ready.
_IMPORTED: Final = (
    "xds_server.app",
    "xds_server.cli.serve",
    "mirror_collector.app",
    "mirror_collector.cli",
    "mirror_collector.logs",
    "demo.simulated",
    "demo.loops",
    "demo.units",
)
_PR_SET_PDEATHSIG: Final = 1
_LENGTH: Final = struct.Struct("!I")
_STATUS: Final = struct.Struct("!i")


def start_module(
    module: str, *arguments: str, name: str, folder: Path, ready: ReadyCheck | None = None
) -> Process:
    """Run `python -m module arguments` with its output in `folder/name.log`, and wait until it is ready.

    Raises:
        ProcessError: The program ended, or was not ready in time.
    """
    if sys.platform != "linux" or os.environ.get("SHIFTPLANE_TESTS_LAUNCHER") == "off":
        return start(name, [sys.executable, "-m", module, *arguments], folder=folder, ready=ready)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{name}.log"
    process = Process(name=name, popen=_launcher().fork(module, arguments, log), log=log)
    if ready is not None:
        process.wait_ready(ready)
    return process


@dataclass(slots=True)
class Forked:
    """A process of the launcher; the part of `subprocess.Popen` that `Process` uses.

    `status` is the read end of a pipe to which the launcher writes the return code.
    """

    pid: int
    status: int
    returncode: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def poll(self) -> int | None:
        """Return the return code, or None while the process runs."""
        return self._read(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process has ended.

        Raises:
            subprocess.TimeoutExpired: It still runs after `timeout` seconds.
        """
        found = self._read(timeout)
        if found is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return found

    def send_signal(self, number: int) -> None:
        """Send a signal; a process that has ended receives none."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _read(self, timeout: float | None) -> int | None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            with selectors.DefaultSelector() as selector:
                selector.register(self.status, selectors.EVENT_READ)
                if not selector.select(left):
                    return None
            with self._lock:
                if self.returncode is None:
                    raw = os.read(self.status, _STATUS.size)
                    # The pipe of a launcher that was killed is closed; its processes are killed with it.
                    self.returncode = _STATUS.unpack(raw)[0] if raw else -signal.SIGKILL
                    os.close(self.status)
        return self.returncode


class _Launcher:
    """The connection of a test process to its launcher."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._lock = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.launcher", str(theirs.fileno())],
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._socket = ours
        atexit.register(self._close)

    def fork(self, module: str, arguments: Sequence[str], log: Path) -> Forked:
        """Start a program; return when it has a process id."""
        request = {
            "module": module,
            "arguments": list(map(str, arguments)),
            "environment": dict(os.environ),
            "folder": str(Path.cwd()),
        }
        raw = json.dumps(request).encode()
        status, their_status = os.pipe()
        with log.open("ab") as sink, self._lock:
            sent = [sink.fileno(), their_status]
            socket.send_fds(self._socket, [_LENGTH.pack(len(raw))], sent)
            self._socket.sendall(raw)
            os.close(their_status)
            (pid,) = _STATUS.unpack(_received(self._socket, _STATUS.size))
        return Forked(pid=pid, status=status)

    def _close(self) -> None:
        """End the launcher, and with it every process that is left."""
        self._socket.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()


@functools.cache
def _launcher() -> _Launcher:
    return _Launcher()


def _received(connection: socket.socket, size: int) -> bytes:
    raw = b""
    while len(raw) < size:
        part = connection.recv(size - len(raw))
        if not part:
            raise ConnectionError("the launcher of programs has ended; see its error in the output")
        raw += part
    return raw


def _serve(control: socket.socket) -> dict[str, Any] | None:
    """Fork a process per request until the connection is closed.

    Returns the request in a forked process, and None in the launcher after the connection was closed.
    """
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    launcher = os.getpid()
    while True:
        for key, _ in selector.select():
            if key.data is not None:
                selector.unregister(key.fd)
                _report(key.fd, *key.data)
                continue
            head, descriptors, _, _ = socket.recv_fds(control, _LENGTH.size, 2)
            if not head:
                return None
            request: dict[str, Any] = json.loads(_received(control, _LENGTH.unpack(head)[0]))
            log, status = descriptors
            pid = os.fork()
            if pid == 0:
                selector.close()
                control.close()
                _become(request, log, launcher)
                return request
            os.close(log)
            selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, status))
            control.sendall(_STATUS.pack(pid))


def _report(pidfd: int, pid: int, status: int) -> None:
    """Send the return code of a process that has ended."""
    os.close(pidfd)
    _, code = os.waitpid(pid, 0)
    with suppress(BrokenPipeError):
        os.write(status, _STATUS.pack(os.waitstatus_to_exitcode(code)))
    os.close(status)


def _become(request: dict[str, Any], log: int, launcher: int) -> None:
    """Give a forked process the environment, working folder, session and streams of an executed one."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != launcher:
        os._exit(1)
    os.setsid()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, 1_024)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = [request["module"], *request["arguments"]]


def _main() -> None:
    from tests.support.goldens import cases, resources_of  # noqa: PLC0415 - imports half of the control plane

    reset_signals()
    # One thread: a lock that another thread holds during a fork would never be released in the child.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    for module in _IMPORTED:
        importlib.import_module(module)
    with suppress(ModuleNotFoundError):
        importlib.import_module("uvloop")
    for case in cases():
        resources_of(case)  # The first translation builds what betterproto2 caches, 1.3 seconds.
    gc.collect()
    gc.freeze()
    request = _serve(socket.socket(fileno=int(sys.argv[1])))
    if request is not None:
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
