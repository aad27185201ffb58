"""Versions of the system prompt, and the users that receive each version."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from xds_server.spec.scalars import LongText, Percent, ShortText, SpecModel
from xds_server.spec.targeting import Stickiness

__all__ = ["Prompt", "PromptOverride", "PromptRollout", "PromptVersion"]


class PromptVersion(SpecModel):
    """A system prompt, and how it is injected into a request."""

    system: LongText
    """The text of the system prompt."""

    mode: Literal["Insert", "Replace", "Append"] = "Insert"
    """`Insert` adds a system message before all messages. `Replace` replaces the existing system message, and
    `Append` extends it; both insert a system message if there is none.
    """


class PromptRollout(SpecModel):
    """The split of users between prompt versions."""

    stickiness: Stickiness
    """The attribute that keeps a user on the same version."""

    weights: dict[ShortText, Percent]
    """Percentages of users by version, at most 100 in total. The other users receive the default version."""


class PromptOverride(SpecModel):
    """A fixed version for users with specific attribute values, independent of the rollout."""

    attribute: ShortText
    """The name of an entry of `attributes`."""

    values: Annotated[tuple[ShortText, ...], Field(strict=False, min_length=1, max_length=200)]
    """The attribute values of the users."""

    version: ShortText
    """The version that these users receive."""


class Prompt(SpecModel):
    """Versions of the system prompt, and the users that receive each version."""

    versions: Annotated[dict[ShortText, PromptVersion], Field(min_length=1, max_length=20)]
    """The versions by name."""

    default: ShortText | None = None
    """The version for users without an override and outside the rollout. Without a default, their messages
    are not changed.
    """

    rollout: PromptRollout | None = None
    """The split of users between versions."""

    overrides: Annotated[tuple[PromptOverride, ...], Field(strict=False, max_length=50)] = ()
    """Fixed versions for specific users. The first match applies."""
