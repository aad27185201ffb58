"""Keeps one acceptor process running: starts it again when it ends, and ends it when it hangs.

An acceptor that hangs holds its proxies' connections and takes new ones, and tells nobody anything. What
counts is how often this process looked and found nothing said, not the time that went by: when it was stopped
itself, or busy, that is not its acceptors' doing.
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
_END_SECONDS: Final = 5.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTimeouts:
    """How often to look, and after how many looks in vain an acceptor does not count, and is ended.

    One that has not begun to listen has `start` of them. An acceptor reports every second.
    """

    seconds: float = 1.0
    silent: int = 5
    hung: int = 10
    start: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSupervisor:
    """`link_of` finds the feed of a process by its id; `started` says that all acceptors once listened."""

    command: Sequence[str]
    patience: WorkerTimeouts
    link_of: Callable[[int], WorkerConnection | None]
    started: Callable[[], bool]

    async def run(self) -> None:
        """Keep one acceptor running until cancelled.

        Raises:
            OSError: It could not even begin.
        """
        while True:
            process = await asyncio.create_subprocess_exec(*self.command)
            try:
                code = await self._watch(process)
                if not self.started():
                    # Starting it again would fail again: whoever starts this is told instead.
                    raise OSError("an acceptor ended before it could listen; its words are above")
                log.error(
                    "acceptor_ended", code=code, consequence="its proxies look for another; started again"
                )
                await asyncio.sleep(_RESTART_SECONDS)
            finally:
                if process.returncode is None:
                    await _end(process)

    async def _watch(self, process: Process) -> int:
        """Return how an acceptor ended; one that says nothing for too long is ended."""
        ending = asyncio.ensure_future(process.wait())
        looks = 0
        try:
            while not ending.done():
                await asyncio.wait({ending}, timeout=self.patience.seconds)
                link = self.link_of(process.pid)
                looks = 0 if link is not None and link.take_heard() else looks + 1
                if not ending.done():
                    self._judge(process, link, looks)
            return ending.result()
        finally:
            ending.cancel()

    def _judge(self, process: Process, link: WorkerConnection | None, looks: int) -> None:
        if link is not None:
            silent = looks >= self.patience.silent
            if silent and not link.silent:
                log.warning("acceptor_silent", pid=process.pid, proxies=link.connected)
            link.silent = silent
        if looks == (self.patience.start if link is None else self.patience.hung):
            log.error(
                "acceptor_hung",
                pid=process.pid,
                consequence="it is killed; its proxies keep what they have and look for another",
            )
            with contextlib.suppress(ProcessLookupError):
                process.kill()


async def _end(process: Process) -> None:
    """End a process in a bounded time: one that is stopped does not hear that it should go."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    # No asyncio.timeout: in early releases of Python 3.11 it does not end in a task that was cancelled.
    ending = asyncio.ensure_future(process.wait())
    await asyncio.wait({ending}, timeout=_END_SECONDS)
    if not ending.done():
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    await ending
