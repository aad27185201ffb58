"""Observes the engine: starts the delivery of new events as notifications, passes spans to the tracer."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from xds_server.notifications.delivery import Outbox
    from xds_server.traces import Tracer
    from xds_server.view import Convergence

__all__ = ["Observers"]


class Observers:
    """The engine's observer; `tracer` is None where no spans are exported."""

    def __init__(self, outbox: Outbox, tracer: Tracer | None) -> None:
        self._outbox = outbox
        self._tracer = tracer

    def span(self, name: str, **fields: str | int) -> AbstractContextManager[None]:
        """Return a context manager that traces what runs inside it."""
        return nullcontext() if self._tracer is None else self._tracer.span(name, **fields)

    def event_recorded(self) -> None:
        """Start the delivery of the new event."""
        self._outbox.wake()

    def published(self, group: str, convergence: Convergence) -> None:
        """Start the span that ends when the group's proxies are synced."""
        if self._tracer is not None:
            self._tracer.published(group, convergence)

    def group_changed(self, group: str, convergence: Convergence) -> None:
        """End the span that `published` started, if the group's proxies are synced."""
        if self._tracer is not None:
            self._tracer.group_changed(group, convergence)
