"""A route with the part of its rollout state that determines its traffic (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xds_server import rollout

if TYPE_CHECKING:
    from xds_server.spec import ModelRoute

__all__ = ["RouteTraffic"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RouteTraffic:
    """A route and the state of its rollout.

    `splits` assign slots to variants, `mirror` is the mirrored share of requests (basis points). While
    `killed`, one backend serves all users. `dead` backends have no healthy endpoint, or were withdrawn.

    Routes are compared by identity: specs are frozen, and comparing a thousand of them would cost more than
    planning the one that changed.
    """

    route: ModelRoute
    splits: tuple[rollout.Split, ...]
    mirror: int
    killed: bool = False
    dead: frozenset[str] = frozenset()

    @classmethod
    def from_state(cls, route: ModelRoute, state: rollout.State) -> RouteTraffic:
        """Return the traffic of a route in this rollout state."""
        return cls(
            route=route,
            splits=state.splits,
            mirror=state.mirror,
            killed=state.kill is not None,
            dead=frozenset((*state.dead, *state.withdrawn)),
        )

    @classmethod
    def with_weight(cls, route: ModelRoute, weight: int, mirror: int = 0) -> RouteTraffic:
        """Return the traffic of a new rollout whose candidate has `weight` basis points."""
        accepted = rollout.SpecAccepted(
            route=route.metadata.name, program=rollout.program(route), digest="", actor=""
        )
        state, _ = rollout.step(None, accepted, 0.0)
        weights = {} if route.spec.candidate is None else {route.spec.candidate: weight}
        split = rollout.Split(
            name=rollout.STRATEGY_SPLIT, segments=rollout.reallocate((), route.spec.stable, weights)
        )
        others = tuple(other for other in state.splits if other.name != rollout.STRATEGY_SPLIT)
        return cls(route=route, splits=(split, *others), mirror=mirror)

    def segments(self, name: str) -> tuple[rollout.Segment, ...]:
        """Return the layout of a split; empty if there is no such split."""
        return rollout.segments_of(self.splits, name)

    def __eq__(self, other: object) -> bool:
        """Compare the route by identity and the rest by value."""
        return (
            isinstance(other, RouteTraffic) and self.route is other.route and self._rollout == other._rollout
        )

    def __hash__(self) -> int:
        """Return a hash consistent with equality."""
        return hash((id(self.route), self._rollout))

    @property
    def _rollout(self) -> tuple[object, ...]:
        return self.splits, self.mirror, self.killed, self.dead
