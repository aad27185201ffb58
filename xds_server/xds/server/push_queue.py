"""The queue of streams with a response to send, and the bounded number of writes in progress.

A stream is in the queue at most once. When it reaches the front, its session composes a response from the
newest snapshot, so a slow client takes one place in the queue and skips the snapshots it missed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from xds_server.xds.server.counters import Counters
    from xds_server.xds.server.stream import Stream

__all__ = ["PushQueue"]

_MAX_WRITES: Final = 64
_SLOW_SECONDS: Final = 0.25

log = structlog.get_logger()


class PushQueue:
    """Writes responses to streams, at most 64 at a time and one at a time for each stream."""

    def __init__(
        self,
        next_response: Callable[[Stream], bytes | None],
        *,
        on_idle: Callable[[Stream], None],
        counters: Counters,
        clock: Callable[[], float],
        write_seconds: float,
    ) -> None:
        """`next_response` returns the next response of a stream; `on_idle` is called if there is none.

        `clock` is monotonic. A client that does not read a response within `write_seconds` is disconnected.
        """
        self._next_response = next_response
        self._on_idle = on_idle
        self._counters = counters
        self._clock = clock
        self._write_seconds = write_seconds
        self._running = False
        self._waiting: deque[Stream] = deque()
        self._writes: dict[asyncio.Task[None], tuple[Stream, float]] = {}
        self._slow: dict[asyncio.Task[None], tuple[Stream, float]] = {}

    def start(self) -> None:
        """Start to write; before this, streams only queue."""
        self._running = True
        self._start_writes()

    def stop(self) -> None:
        """Cancel all writes."""
        self._running = False
        for write in (*self._writes, *self._slow):
            write.cancel()

    def add(self, stream: Stream) -> None:
        """Queue a stream if it has work and is not queued yet."""
        if not stream.queued and stream.session.has_work:
            stream.queued = True
            stream.queued_at = self._clock()
            self._waiting.append(stream)
            self._start_writes()

    def check_slow_writes(self, now: float) -> None:
        """Disconnect clients that did not read in time; `now` is the event loop's time.

        A write that takes longer than 0.25 s no longer counts against the limit of 64, so clients that do not
        read delay those that do only briefly.
        """
        for write in [w for w, (_, since) in self._writes.items() if now - since > _SLOW_SECONDS]:
            self._slow[write] = self._writes.pop(write)
        late = [(w, s) for w, (s, since) in self._slow.items() if now - since > self._write_seconds]
        for write, stream in late:
            del self._slow[write]
            stream.queued = False
            self._counters.slow_clients_closed += 1
            log.warning("slow_client_disconnected", **stream.log_fields, after_seconds=self._write_seconds)
            stream.writer.cancel()
        self._start_writes()

    def _start_writes(self) -> None:
        """Start writes up to the limit; each write that ends starts the next."""
        while self._waiting and self._running and len(self._writes) < _MAX_WRITES:
            stream = self._waiting.popleft()
            self._counters.queue_seconds.observe(self._clock() - stream.queued_at)
            self._write(stream)

    def _write(self, stream: Stream) -> None:
        """Start to write the next response of a stream, if there is one."""
        message = self._next_response(stream)
        if message is None:
            stream.queued = False
            self._on_idle(stream)
            return
        self._counters.pushes += 1
        self._counters.bytes_sent += len(message)
        # Nothing awaits this task: a client that does not read occupies a place for a bounded time only.
        loop = asyncio.get_running_loop()
        write = loop.create_task(stream.writer.write(message))
        self._writes[write] = stream, loop.time()
        write.add_done_callback(self._finish)

    def _finish(self, write: asyncio.Task[None]) -> None:
        found = self._writes.pop(write, None) or self._slow.pop(write, None)
        failed = write.cancelled() or write.exception() is not None
        if found is not None:
            stream = found[0]
            # A write fails only after its stream has ended; the handler that reads the stream closes it.
            if failed:
                stream.queued = False
            else:
                self._write(stream)
        self._start_writes()
