"""Tracks which stages of a preparation are done, which was interrupted, and which are pending.

No I/O: the progress is a value that is converted from and to JSON text. A stage is done only if it was
recorded under the same key and its product still exists; all stages after one that is not done are repeated.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

__all__ = ["EMPTY", "Progress", "StageName", "pending_stages"]


class StageName(StrEnum):
    """The stages, in the order in which they run."""

    ENVIRONMENT = "environment"
    DOWNLOAD = "download"
    PACKAGES = "packages"
    SERVER = "server"
    WEIGHTS = "weights"
    MODEL = "model"
    TRIAL = "trial"


_ORDER: Final = tuple(StageName)

_RESTART: Final = {StageName.PACKAGES: StageName.ENVIRONMENT, StageName.SERVER: StageName.ENVIRONMENT}
"""Stages that are repeated from an earlier stage if they were interrupted: a package that was unpacked only
in part looks installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The finished stages, each with its key, and the stage that was begun but not finished."""

    done: Mapping[StageName, str]
    begun: StageName | None = None

    def begin(self, stage: StageName) -> Progress:
        """Return the progress with `stage` begun; it and all later stages are no longer done."""
        kept = {name: key for name, key in self.done.items() if _ORDER.index(name) < _ORDER.index(stage)}
        return Progress(done=kept, begun=stage)

    def finish(self, stage: StageName, key: str) -> Progress:
        """Return the progress with `stage` done."""
        return replace(self, done={**self.done, stage: key}, begun=None)

    def text(self) -> str:
        """Return the progress as JSON text."""
        document = {"done": {name.value: key for name, key in self.done.items()}, "begun": self.begun}
        return json.dumps(document, indent=2) + "\n"

    @classmethod
    def parse(cls, text: str) -> Progress:
        """Parse the JSON text; invalid text gives an empty progress, so that all stages are repeated."""
        try:
            document = json.loads(text)
            done = {StageName(name): str(key) for name, key in document["done"].items()}
            begun = document["begun"]
            return cls(done=done, begun=None if begun is None else StageName(begun))
        except (ValueError, KeyError, TypeError, AttributeError):
            return EMPTY


EMPTY: Final = Progress(done={})


def pending_stages(
    progress: Progress, keys: Mapping[StageName, str], present: AbstractSet[StageName]
) -> tuple[StageName, ...]:
    """Return the pending stages, in order.

    Args:
        progress: The recorded progress.
        keys: The current key of each stage, made from its recipe.
        present: The stages whose product exists.
    """
    for number, stage in enumerate(_ORDER):
        if progress.done.get(stage) == keys[stage] and stage in present:
            continue
        if stage is progress.begun and stage in _RESTART:
            return _ORDER[_ORDER.index(_RESTART[stage]) :]
        return _ORDER[number:]
    return ()
