"""What is going on now: spans that are open, and the one that others belong to.

A change of the control plane is a span: `apply`, `command` or `move`. Inside are `keep`, what it took to
store it, and `publish`, what it took to build worlds and offer them. How long proxies then take to hold a
world is a span of the same trace, `converge`, which ends later than its parent.
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
class _Open:
    """A span that has not ended."""

    trace: str
    id: str
    began: int


_current: Final[ContextVar[_Open | None]] = ContextVar("shiftplane_span", default=None)
"""The span that what happens now belongs to."""


class Tracer:
    """Makes spans and hands them over as they end; never waits, never fails."""

    def __init__(
        self,
        take: Callable[[Span], None],
        *,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """`take` receives each span when it ends; `clock` returns nanoseconds since the epoch."""
        self._take = take
        self._clock = clock
        self._waiting: dict[str, _Open] = {}

    @contextmanager
    def span(self, name: str, **fields: str | int) -> Iterator[None]:
        """Make a span of what happens inside."""
        around = _current.get()
        own = _Open(
            trace=secrets.token_hex(16) if around is None else around.trace,
            id=secrets.token_hex(8),
            began=self._clock(),
        )
        token, error = _current.set(own), ""
        try:
            yield
        except BaseException as failure:
            error = type(failure).__name__
            raise
        finally:
            _current.reset(token)
            self._take(
                Span(
                    trace=own.trace,
                    id=own.id,
                    parent="" if around is None else around.id,
                    name=name,
                    began=own.began,
                    ended=self._clock(),
                    fields=fields,
                    error=error,
                )
            )

    def published(self, group: str, convergence: Convergence) -> None:
        """Start the `converge` span of a group's new snapshot; end the span of the snapshot before."""
        around = _current.get()
        if around is not None:
            self._end(group, convergence, superseded=True)
            self._waiting[group] = around
            self.group_changed(group, convergence)

    def group_changed(self, group: str, convergence: Convergence) -> None:
        """End the `converge` span of a group once all of its proxies are synced."""
        if group in self._waiting and convergence.acked == convergence.connected:
            self._end(group, convergence, superseded=False)

    def _end(self, group: str, found: Convergence, *, superseded: bool) -> None:
        waiting = self._waiting.pop(group, None)
        if waiting is None:
            return
        self._take(
            Span(
                trace=waiting.trace,
                id=secrets.token_hex(8),
                parent=waiting.id,
                name="converge",
                began=waiting.began,
                ended=self._clock(),
                fields={
                    "group": group,
                    "version": found.version,
                    "proxies": found.connected,
                    "acked": found.acked,
                    "superseded": superseded,
                },
                error="refused" if found.nacked else "",
            )
        )
