"""From single answers to what is known of a backend: which of its endpoints live (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from xds_server.rollout.events import Health

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["UNCHECKED", "EndpointHealth", "HealthState", "after_check", "summed"]

_NAMED: Final = 3


class HealthState(Enum):
    """What is known of an endpoint."""

    UNKNOWN = "unknown"
    ALIVE = "alive"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointHealth:
    """What is known of one endpoint: `noes` failures in a row, the last of them in words."""

    vital: HealthState = HealthState.UNKNOWN
    noes: int = 0
    words: str = ""

    @property
    def wavering(self) -> bool:
        """Whether the next answer may decide: it is worth asking soon."""
        return self.vital is HealthState.UNKNOWN or (self.vital is HealthState.ALIVE and self.noes > 0)


UNCHECKED: Final = EndpointHealth()


def after_check(pulse: EndpointHealth, failure: str | None, threshold: int) -> EndpointHealth:
    """Return what is known after one more answer: None for a good one, the failure in words otherwise.

    One good answer is life; `threshold` failures in a row are death.
    """
    if failure is None:
        return EndpointHealth(vital=HealthState.ALIVE)
    noes = min(pulse.noes + 1, threshold)
    return EndpointHealth(
        vital=HealthState.DEAD if noes >= threshold else pulse.vital, noes=noes, words=failure
    )


def summed(backend: str, pulses: Collection[EndpointHealth]) -> Health | None:
    """Return what there is to say of a backend; None while it is not decided.

    One living endpoint is enough to know; without any, all must have been found dead.
    """
    alive = sum(pulse.vital is HealthState.ALIVE for pulse in pulses)
    if not alive and any(pulse.vital is HealthState.UNKNOWN for pulse in pulses):
        return None
    words = sorted({pulse.words for pulse in pulses if pulse.vital is HealthState.DEAD})
    return Health(backend=backend, healthy=alive, total=len(pulses), detail="; ".join(words[:_NAMED]))
