"""The live routes: the specs and rollout states that proxies are served from right now."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from xds_server import rollout
from xds_server.engine.caller import anything
from xds_server.engine.errors import UnknownRouteError
from xds_server.spec import digest
from xds_server.view import EventView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from xds_server.spec import Document, ModelRoute
    from xds_server.store import StoredEvent

__all__ = ["EVENTS_KEPT", "LiveRoute", "RouteTable", "allowed_actions", "event_view"]

EVENTS_KEPT: Final = 20
"""Number of lines of each route's history that are kept in memory for the pages."""


@dataclass(slots=True, kw_only=True)
class LiveRoute:
    """One route. `seq` is the store's number of its newest event; None before it is stored."""

    document: Document
    state: rollout.State
    seq: int | None
    events: deque[EventView] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))
    _allowed: tuple[rollout.State, tuple[str, ...]] | None = None

    def allowed(self, now: float) -> tuple[str, ...]:
        """Return the actions that an operator can take now.

        Trying every action takes as long as building the rest of the route's view. The result is therefore
        cached per state: no action becomes possible by time alone.
        """
        if self._allowed is None or self._allowed[0] is not self.state:
            self._allowed = self.state, allowed_actions(self.state, now)
        return self._allowed[1]

    @property
    def route(self) -> ModelRoute:
        """The spec."""
        return self.document.route

    @property
    def name(self) -> str:
        """The name of the route."""
        return self.document.route.metadata.name

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the route; rights are granted by them."""
        return self.document.route.metadata.labels

    @property
    def tag(self) -> str:
        """The entity tag of the spec; changes whenever the spec does."""
        return f"{self.state.generation}-{digest(self.route)[:12]}"

    @property
    def group(self) -> str:
        """The group of proxies that serves the route."""
        return self.document.route.spec.proxies.group


class RouteTable:
    """All live routes by name. Only the committer changes it; everything else reads."""

    def __init__(self) -> None:
        self._routes: dict[str, LiveRoute] = {}

    def get(self, name: str, *, visible: Callable[[Mapping[str, str]], bool] = anything) -> LiveRoute:
        """Return a route.

        Raises:
            UnknownRouteError: There is no such route; the message lists those whose labels are `visible`.
        """
        live = self._routes.get(name)
        if live is None:
            known = ", ".join(self.names(visible)) or "none"
            raise UnknownRouteError(f"there is no route {name!r}; routes: {known}")
        return live

    def find(self, name: str) -> LiveRoute | None:
        """Return a route, or None."""
        return self._routes.get(name)

    def __iter__(self) -> Iterator[LiveRoute]:
        return iter(tuple(self._routes.values()))

    def __len__(self) -> int:
        return len(self._routes)

    def names(self, visible: Callable[[Mapping[str, str]], bool] = anything) -> list[str]:
        """Return the names of the routes whose labels are `visible`, sorted."""
        return sorted(name for name, live in self._routes.items() if visible(live.labels))

    def with_changes(self, changed: Mapping[str, LiveRoute]) -> tuple[LiveRoute, ...]:
        """Return the routes as they would be after a change, without changing anything."""
        return tuple({**self._routes, **changed}.values())

    def put(self, live: LiveRoute) -> None:
        """Add or replace a route."""
        self._routes[live.name] = live

    def remove(self, name: str) -> None:
        """Remove a route."""
        del self._routes[name]


def allowed_actions(state: rollout.State, now: float) -> tuple[str, ...]:
    """Return the actions that would change something now."""
    found = []
    for action in rollout.Action:
        try:
            command = rollout.Command(command=action, actor="any operator", reason="dry run")
            after, _ = rollout.step(state, command, now)
        except rollout.CommandNotAllowedError:
            continue
        if after != state:
            found.append(action.value)
    return tuple(found)


def event_view(event: StoredEvent) -> EventView:
    """Return a stored line of history as pages and API show it."""
    return EventView(
        seq=event.seq,
        at=event.at,
        kind=event.what,
        actor=event.actor,
        message=event.message,
        phase=event.phase,
        generation=event.generation,
        revision=event.revision,
        weights={variant: share / 100 for variant, share in event.weights},
    )
