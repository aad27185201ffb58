"""Which stages of a preparation are done, which was cut off, and which are left to do.

Pure: the ledger is a value, read from and written as JSON text. A stage counts as done only when it was
recorded under the same key and what it made is still there; all that follows a stage not done is done anew.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

__all__ = ["EMPTY", "Ledger", "StageName", "pending"]


class StageName(StrEnum):
    """The stages, in their order."""

    ENVIRONMENT = "environment"
    DOWNLOAD = "download"
    PACKAGES = "packages"
    SERVER = "server"
    WEIGHTS = "weights"
    MODEL = "model"
    TRIAL = "trial"


_ORDER: Final = tuple(StageName)

_RESTART: Final = {StageName.PACKAGES: StageName.ENVIRONMENT, StageName.SERVER: StageName.ENVIRONMENT}
"""A package that was cut off while it was unpacked looks installed; only a fresh environment is sure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The stages that were done, each with the key it was done under, and the one that was begun last."""

    done: Mapping[StageName, str]
    begun: StageName | None = None

    def begin(self, stage: StageName) -> Ledger:
        """Record that `stage` is at work; it and all later ones are no longer done."""
        kept = {name: key for name, key in self.done.items() if _ORDER.index(name) < _ORDER.index(stage)}
        return Ledger(done=kept, begun=stage)

    def finish(self, stage: StageName, key: str) -> Ledger:
        """Record that `stage` is done."""
        return replace(self, done={**self.done, stage: key}, begun=None)

    def text(self) -> str:
        """As JSON."""
        document = {"done": {name.value: key for name, key in self.done.items()}, "begun": self.begun}
        return json.dumps(document, indent=2) + "\n"

    @classmethod
    def parse(cls, text: str) -> Ledger:
        """Read what `text` wrote; anything else is an empty ledger, which is safe: all is done anew."""
        try:
            document = json.loads(text)
            done = {StageName(name): str(key) for name, key in document["done"].items()}
            begun = document["begun"]
            return cls(done=done, begun=None if begun is None else StageName(begun))
        except (ValueError, KeyError, TypeError, AttributeError):
            return EMPTY


EMPTY: Final = Ledger(done={})


def pending(
    ledger: Ledger, keys: Mapping[StageName, str], present: AbstractSet[StageName]
) -> tuple[StageName, ...]:
    """Return the stages left to do, in order.

    Args:
        ledger: What was recorded.
        keys: What each stage would be recorded under today: its recipe.
        present: The stages whose product is still there.
    """
    for number, stage in enumerate(_ORDER):
        if ledger.done.get(stage) == keys[stage] and stage in present:
            continue
        if stage is ledger.begun and stage in _RESTART:
            return _ORDER[_ORDER.index(_RESTART[stage]) :]
        return _ORDER[number:]
    return ()
