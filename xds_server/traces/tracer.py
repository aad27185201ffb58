"""Create spans for the control plane's changes, and track the span that is currently open.

A change is a root span: `apply`, `command` (with a child `move`), or `move` alone if no operator requested
the change. Below it are `keep`, the write to the store, and `publish`, the build and publication of
snapshots. The time until the proxies have acknowledged a snapshot is the span `converge` of the same trace,
which ends after its parent.
"""

from __future__ import annotations

import secrets
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from xds_server.traces.model import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from xds_server.view import Convergence

__all__ = ["Tracer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _OpenSpan:
    """A span that has not ended."""

    trace_id: str
    span_id: str
    start_time: int


_current: Final[ContextVar[_OpenSpan | None]] = ContextVar("shiftplane_span", default=None)
"""The parent of the next span in this context."""


class Tracer:
    """Create spans, and pass each to `on_end` when it ends; never blocks and never raises."""

    def __init__(
        self,
        on_end: Callable[[Span], None],
        *,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """`clock` returns nanoseconds since the epoch."""
        self._on_end = on_end
        self._clock = clock
        self._converging: dict[str, _OpenSpan] = {}

    @contextmanager
    def span(self, name: str, **attributes: str | int) -> Iterator[None]:
        """Create a span for the enclosed code."""
        parent = _current.get()
        span = _OpenSpan(
            trace_id=secrets.token_hex(16) if parent is None else parent.trace_id,
            span_id=secrets.token_hex(8),
            start_time=self._clock(),
        )
        token, error = _current.set(span), ""
        try:
            yield
        except BaseException as failure:
            error = type(failure).__name__
            raise
        finally:
            _current.reset(token)
            self._on_end(
                Span(
                    trace_id=span.trace_id,
                    span_id=span.span_id,
                    parent_id="" if parent is None else parent.span_id,
                    name=name,
                    start_time=span.start_time,
                    end_time=self._clock(),
                    attributes=attributes,
                    error=error,
                )
            )

    def published(self, group: str, convergence: Convergence) -> None:
        """Start a `converge` span for a group's new snapshot, and end the span of the previous snapshot.

        Without an open span, whose child the new one would be, do nothing.
        """
        parent = _current.get()
        if parent is not None:
            self._end_convergence(group, convergence, superseded=True)
            self._converging[group] = parent
            self.group_changed(group, convergence)

    def group_changed(self, group: str, convergence: Convergence) -> None:
        """End a group's `converge` span if all of its connected proxies have acknowledged the snapshot."""
        if group in self._converging and convergence.acked == convergence.connected:
            self._end_convergence(group, convergence, superseded=False)

    def _end_convergence(self, group: str, convergence: Convergence, *, superseded: bool) -> None:
        parent = self._converging.pop(group, None)
        if parent is None:
            return
        self._on_end(
            Span(
                trace_id=parent.trace_id,
                span_id=secrets.token_hex(8),
                parent_id=parent.span_id,
                name="converge",
                start_time=parent.start_time,
                end_time=self._clock(),
                attributes={
                    "group": group,
                    "version": convergence.version,
                    "proxies": convergence.connected,
                    "acked": convergence.acked,
                    "superseded": superseded,
                },
                error="refused" if convergence.nacked else "",
            )
        )
