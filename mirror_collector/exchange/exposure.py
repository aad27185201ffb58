"""That a user was served by a variant of an A/B test: no leg, no body, nothing to pair."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mirror_collector.exchange.model import RouteName, Variant

__all__ = ["Exposure", "Exposures", "Feedback", "Outcome"]

_MOST: Final = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """One request of a test; `unit` is whose it was, empty where the request did not say."""

    route: RouteName
    experiment: str
    variant: Variant
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A user did what is counted, whichever variant that is the doing of; `unit` is named as in requests."""

    route: RouteName
    metric: str
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What was said of an answer: by the id of its request, or of whatever a user got.

    `value` is 1 or 0 for a thumb up or down, else a rating. The same `id` counts once.
    """

    id: str
    route: RouteName
    metric: str
    value: float
    request_id: str = ""
    unit: str = ""
    variant: str = ""
    """Who answered, where the sender knows; else it is found by the request id."""


@dataclass(slots=True)
class Exposures:
    """How many requests each unit sent to each variant, until somebody takes them; bounded in units.

    What finds no room is counted in `lost` and not held up.
    """

    requests: Counter[Exposure] = field(default_factory=Counter)
    lost: int = 0

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self.requests)

    def add(self, exposure: Exposure) -> None:
        """Count a request."""
        if exposure in self.requests or len(self.requests) < _MOST:
            self.requests[exposure] += 1
        else:
            self.lost += 1
