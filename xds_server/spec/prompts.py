"""The system prompt as something that is rolled out: versions, who has which, and how it is put in."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from xds_server.spec.scalars import Part, Percent, Plain, Prose
from xds_server.spec.targeting import Stickiness

__all__ = ["Prompt", "PromptOverride", "PromptRollout", "PromptVersion"]


class PromptVersion(Part):
    """One text, and where it goes."""

    system: Prose
    """The text."""

    mode: Literal["Insert", "Replace", "Append"] = "Insert"
    """`Insert` puts it before the messages, `Replace` takes the place of the system message there is (or
    inserts), `Append` adds it to the end of that message (or inserts).
    """


class PromptRollout(Part):
    """Which share of the users has which version; the default version has the rest."""

    stickiness: Stickiness
    """By what users stay with their version."""

    weights: dict[Plain, Percent]
    """Percentages of the users by version, 100 in all at most; the default version has the rest."""


class PromptOverride(Part):
    """Users with one of these values have this version, whatever the rollout says."""

    attribute: Plain
    """An entry of `attributes`."""

    values: Annotated[tuple[Plain, ...], Field(strict=False, min_length=1, max_length=200)]
    """Users with one of these are meant."""

    version: Plain
    """What they have, whatever the rollout says."""


class Prompt(Part):
    """Versions of the system prompt, and who has which."""

    versions: Annotated[dict[Plain, PromptVersion], Field(min_length=1, max_length=20)]
    """Texts by name."""

    default: Plain | None = None
    """Who is not in the rollout has this version; without one they keep their own messages."""

    rollout: PromptRollout | None = None
    """Which share of the users has which version."""

    overrides: Annotated[tuple[PromptOverride, ...], Field(strict=False, max_length=50)] = ()
    """Who has a version for certain, the first that fits."""
