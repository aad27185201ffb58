"""The system prompt as something that is rolled out: versions, who has which, and how it is put in."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from xds_server.spec.scalars import Part, Percent, Plain, Prose
from xds_server.spec.targeting import Stickiness

__all__ = ["Prompt", "PromptOverride", "PromptRollout", "PromptVersion"]


class PromptVersion(Part):
    """One text.

    Insert puts it before the messages, Replace takes the place of the system message there is (or inserts),
    Append adds it to the end of that message (or inserts).
    """

    system: Prose
    mode: Literal["Insert", "Replace", "Append"] = "Insert"


class PromptRollout(Part):
    """Which share of the users has which version; the default version has the rest."""

    stickiness: Stickiness
    weights: dict[Plain, Percent]


class PromptOverride(Part):
    """Users with one of these values have this version, whatever the rollout says."""

    attribute: Plain
    values: Annotated[tuple[Plain, ...], Field(strict=False, min_length=1, max_length=200)]
    version: Plain


class Prompt(Part):
    """Prompt versions of a route. Without a default, users outside the rollout keep their own messages."""

    versions: Annotated[dict[Plain, PromptVersion], Field(min_length=1, max_length=20)]
    default: Plain | None = None
    rollout: PromptRollout | None = None
    overrides: Annotated[tuple[PromptOverride, ...], Field(strict=False, max_length=50)] = ()
