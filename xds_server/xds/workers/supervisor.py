"""Keep a worker process running: restart it when it exits, and kill it when it hangs.

A worker that hangs keeps its proxies' connections open and accepts new ones, but does not serve them. A
worker counts as hung after a number of checks without a message from it, and not after a time: if this
process was suspended or busy, its workers are not at fault.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Callable, Sequence

    from xds_server.xds.workers.connection import WorkerConnection

__all__ = ["WorkerSupervisor", "WorkerTimeouts"]

_RESTART_SECONDS: Final = 1.0
_TERMINATE_SECONDS: Final = 5.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTimeouts:
    """The interval between checks, and the limits of consecutive checks without a message from a worker.

    At `unresponsive_checks` the worker no longer counts as serving; at `kill_checks` it is killed. A worker
    that does not accept proxies yet is killed at `start_checks`. A worker reports every second.
    """

    check_seconds: float = 1.0
    unresponsive_checks: int = 5
    kill_checks: int = 10
    start_checks: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSupervisor:
    """Starts and checks one worker.

    `connection_of` returns the connection of the worker with the given process id. `started` returns whether
    all workers have started to listen on the xDS port.
    """

    command: Sequence[str]
    timeouts: WorkerTimeouts
    connection_of: Callable[[int], WorkerConnection | None]
    started: Callable[[], bool]

    async def run(self) -> None:
        """Keep one worker running until canceled.

        Raises:
            OSError: The worker could not be started, or exited before all workers listened.
        """
        while True:
            process = await asyncio.create_subprocess_exec(*self.command)
            try:
                code = await self._watch(process)
                if not self.started():
                    # A restart would fail the same way, so the start of the whole program fails.
                    raise OSError("a worker exited before it listened on the xDS port; see its error above")
                log.error(
                    "worker_exited",
                    code=code,
                    consequence="its proxies reconnect to other workers; the worker is restarted",
                )
                await asyncio.sleep(_RESTART_SECONDS)
            finally:
                if process.returncode is None:
                    await _terminate(process)

    async def _watch(self, process: Process) -> int:
        """Wait until a worker exits and return its exit code; kill it if it hangs."""
        exiting = asyncio.ensure_future(process.wait())
        missed = 0
        try:
            while not exiting.done():
                await asyncio.wait({exiting}, timeout=self.timeouts.check_seconds)
                connection = self.connection_of(process.pid)
                received = connection is not None and connection.take_received()
                missed = 0 if received else missed + 1
                if not exiting.done():
                    self._check(process, connection, missed)
            return exiting.result()
        finally:
            exiting.cancel()

    def _check(self, process: Process, connection: WorkerConnection | None, missed: int) -> None:
        if connection is not None:
            unresponsive = missed >= self.timeouts.unresponsive_checks
            if unresponsive and not connection.unresponsive:
                log.warning("worker_unresponsive", pid=process.pid, proxies=connection.connected)
            connection.unresponsive = unresponsive
        limit = self.timeouts.start_checks if connection is None else self.timeouts.kill_checks
        if missed == limit:
            log.error(
                "worker_killed",
                pid=process.pid,
                consequence="its proxies keep their configuration and reconnect to other workers",
            )
            with contextlib.suppress(ProcessLookupError):
                process.kill()


async def _terminate(process: Process) -> None:
    """Terminate a process, and kill it after 5 s: a suspended process does not handle SIGTERM."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    # Not asyncio.timeout: in early releases of Python 3.11 it never expires in a task that was canceled.
    exiting = asyncio.ensure_future(process.wait())
    await asyncio.wait({exiting}, timeout=_TERMINATE_SECONDS)
    if not exiting.done():
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    await exiting
