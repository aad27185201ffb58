"""From single answers to what is known of a backend: which of its endpoints live (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from xds_server.rollout.events import Health

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["UNSEEN", "Pulse", "Vital", "felt", "summed"]

_NAMED: Final = 3


class Vital(Enum):
    """What is known of an endpoint."""

    UNKNOWN = "unknown"
    ALIVE = "alive"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """What is known of one endpoint: `noes` failures in a row, the last of them in words."""

    vital: Vital = Vital.UNKNOWN
    noes: int = 0
    words: str = ""

    @property
    def wavering(self) -> bool:
        """Whether the next answer may decide: it is worth asking soon."""
        return self.vital is Vital.UNKNOWN or (self.vital is Vital.ALIVE and self.noes > 0)


UNSEEN: Final = Pulse()


def felt(pulse: Pulse, failure: str | None, threshold: int) -> Pulse:
    """Return what is known after one more answer: None for a good one, the failure in words otherwise.

    One good answer is life; `threshold` failures in a row are death.
    """
    if failure is None:
        return Pulse(vital=Vital.ALIVE)
    noes = min(pulse.noes + 1, threshold)
    return Pulse(vital=Vital.DEAD if noes >= threshold else pulse.vital, noes=noes, words=failure)


def summed(backend: str, pulses: Collection[Pulse]) -> Health | None:
    """Return what there is to say of a backend; None while it is not decided.

    One living endpoint is enough to know; without any, all must have been found dead.
    """
    alive = sum(pulse.vital is Vital.ALIVE for pulse in pulses)
    if not alive and any(pulse.vital is Vital.UNKNOWN for pulse in pulses):
        return None
    words = sorted({pulse.words for pulse in pulses if pulse.vital is Vital.DEAD})
    return Health(backend=backend, healthy=alive, total=len(pulses), detail="; ".join(words[:_NAMED]))
