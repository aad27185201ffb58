"""Records of A/B tests: exposures of users to variants, conversions, and feedback on answers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mirror_collector.exchange.model import RouteName, Variant

__all__ = ["Conversion", "Exposure", "ExposureCounts", "Feedback"]

_MAX_ENTRIES: Final = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """One request of an A/B test; `unit` is its user or session, empty if the request has none."""

    route: RouteName
    experiment: str
    variant: Variant
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """A conversion of a user; `unit` names the user as requests do.

    The conversion has no variant of its own: it counts for the variant to which the user was exposed.
    """

    route: RouteName
    metric: str
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """Feedback on the answer to one request, or on the answers one user received.

    `value` is 1 or 0 for thumbs up or down, else a rating. Feedback with a known `id` is ignored.
    """

    id: str
    route: RouteName
    metric: str
    value: float
    request_id: str = ""
    unit: str = ""
    variant: str = ""
    """Variant that answered; if empty, the primary variant of the pair with this request id is used."""


@dataclass(slots=True)
class ExposureCounts:
    """Number of requests by exposure, until they are written to the store; distinct exposures are limited."""

    requests: Counter[Exposure] = field(default_factory=Counter)
    dropped: int = 0
    """Requests that were not counted because the limit was reached."""

    def __bool__(self) -> bool:
        """Whether any request was counted."""
        return bool(self.requests)

    def add(self, exposure: Exposure) -> None:
        """Count one request."""
        if exposure in self.requests or len(self.requests) < _MAX_ENTRIES:
            self.requests[exposure] += 1
        else:
            self.dropped += 1
