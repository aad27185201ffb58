"""What a rollout says about its route at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xds_server import rollout

if TYPE_CHECKING:
    from xds_server.spec import ModelRoute

__all__ = ["Traffic"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Traffic:
    """A route and where its rollout stands.

    `splits` say whose slots are whose, `mirror` which share of the requests is copied (basis points). While
    `killed`, one backend serves everyone. `dead` backends are known to have no living endpoint.

    Two are equal if they speak of the same route object: specs are frozen, and looking into a thousand of
    them for one that changed would cost more than planning that one.
    """

    route: ModelRoute
    splits: tuple[rollout.Split, ...]
    mirror: int
    killed: bool = False
    dead: frozenset[str] = frozenset()

    @classmethod
    def of(cls, route: ModelRoute, state: rollout.State) -> Traffic:
        """Return what the state of its rollout says about a route."""
        return cls(
            route=route,
            splits=state.splits,
            mirror=state.mirror,
            killed=state.kill is not None,
            dead=frozenset(state.dead),
        )

    @classmethod
    def at(cls, route: ModelRoute, weight: int, mirror: int = 0) -> Traffic:
        """Return the traffic of a fresh rollout that gives its candidate `weight` basis points."""
        accepted = rollout.SpecAccepted(
            route=route.metadata.name, program=rollout.program(route), digest="", actor=""
        )
        state, _ = rollout.step(None, accepted, 0.0)
        wanted = {} if route.spec.candidate is None else {route.spec.candidate: weight}
        split = rollout.Split(name=rollout.STRATEGY_SPLIT, segments=rollout.reallocate((), route.spec.stable, wanted))
        others = tuple(other for other in state.splits if other.name != rollout.STRATEGY_SPLIT)
        return cls(route=route, splits=(split, *others), mirror=mirror)

    def segments(self, name: str) -> tuple[rollout.Segment, ...]:
        """Return the layout of a split; empty for one there is none of."""
        return next((split.segments for split in self.splits if split.name == name), ())

    def __eq__(self, other: object) -> bool:
        """Compare the route by identity."""
        return isinstance(other, Traffic) and self.route is other.route and self._stands == other._stands

    def __hash__(self) -> int:
        """Agree with equality."""
        return hash((id(self.route), self._stands))

    @property
    def _stands(self) -> tuple[object, ...]:
        return self.splits, self.mirror, self.killed, self.dead
