"""What a store keeps and gives back, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xds_server.access.audit import AuditEvent
    from xds_server.analysis.counts import Block
    from xds_server.rollout import Effect, Event, State

__all__ = [
    "Change",
    "ConflictError",
    "Mark",
    "StoreError",
    "StoredBlock",
    "StoredEvent",
    "StoredLine",
    "StoredRoute",
    "StoredSpec",
]

Mark = tuple[int, int]
"""A line of history: the number of its event, and its place within it."""


class StoreError(Exception):
    """Root of what the store refuses; the message says what to do.

    StoreError
    └── ConflictError   somebody else changed the route first
    """


class ConflictError(StoreError):
    """Somebody else changed the route first; read it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An event of a route and the state it led to.

    `expected` is the number of the newest event the writer knows, None for a new route; `text` and `file` are
    the spec when the event brought one.
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
    deed: AuditEvent | None = None
    """What somebody did, where it was somebody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRoute:
    """A route as it was last kept; `seq` is the number of its newest event."""

    name: str
    seq: int
    text: str
    file: str
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """One line of history, and how the rollout stood after it; weights are basis points.

    The deletion of a route has no phase.
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
class StoredLine:
    """One line of the history of any route, with the spec it had then; `place` counts an event's lines."""

    route: str
    place: int
    spec: str
    event: StoredEvent

    @property
    def mark(self) -> Mark:
        """Where it stands."""
        return self.event.seq, self.place


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSpec:
    """A spec that was accepted once."""

    generation: int
    text: str
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBlock:
    """What was counted of a route in some seconds, during one of its runs."""

    route: str
    run: int
    block: Block
