"""The values that the store accepts and returns, and its errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xds_server.analysis.verdicts import AnalyzedBlock

if TYPE_CHECKING:
    from xds_server.access.audit import AuditEvent
    from xds_server.analysis.counts import Block
    from xds_server.analysis.verdicts import BlockContext
    from xds_server.rollout import Effect, Event, State

__all__ = [
    "Change",
    "ConflictError",
    "Cursor",
    "StoreError",
    "StoredBlock",
    "StoredEvent",
    "StoredRoute",
    "StoredRouteEvent",
    "StoredSpec",
]

Cursor = tuple[int, int]
"""A position in the history of all routes: the number of an event, and the place of a record within it."""


class StoreError(Exception):
    """Root of the store's errors; the message states the cause and, where it helps, what to do.

    StoreError
    └── ConflictError   another writer changed the route first
    """


class ConflictError(StoreError):
    """Another writer changed the route first; read it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An event of a route and the state that follows from it.

    `expected` is the number of the route's newest event that the writer has read, None for a new route.
    `text` and `file` are the text and file name of the spec if the event accepts one. `audit_event` is set if
    a user caused the change.
    """

    name: str
    expected: int | None
    event: Event
    actor: str
    at: float
    state: State
    effects: tuple[Effect, ...]
    text: str | None = None
    file: str | None = None
    audit_event: AuditEvent | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRoute:
    """A route with its spec and its latest state; `seq` is the number of its newest event."""

    name: str
    seq: int
    text: str
    file: str
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """A record of a route's history, with the rollout's state after it; weights are in basis points.

    The record of a route's deletion has no phase.
    """

    seq: int
    at: float
    actor: str
    what: str
    message: str
    phase: str | None = None
    generation: int | None = None
    revision: int | None = None
    weights: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRouteEvent:
    """A record of any route's history, with the spec at that time; `place` is its index within the event."""

    route: str
    place: int
    spec: str
    event: StoredEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSpec:
    """A spec that was accepted as this generation of a route."""

    generation: int
    text: str
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBlock:
    """A block of counts of a route, with the number of the rollout run it belongs to.

    `context` is what the analysis used besides the counts; None if an earlier version stored the block.
    """

    route: str
    run: int
    block: Block
    context: BlockContext | None = None

    @property
    def analyzed(self) -> AnalyzedBlock:
        """The block as the analysis reads it."""
        return AnalyzedBlock(run=self.run, block=self.block, context=self.context)
