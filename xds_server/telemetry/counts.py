"""Counts of one leg in one block of time. Everything adds up: over proxies, over time, over processes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, Any

from xds_server.telemetry.buckets import DURATION_MS, FIRST_TOKEN_MS, TOKENS, Buckets

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Block", "Counts", "Leg", "Role", "added"]


class Role(Enum):
    """Whether a leg served a user or was a copy."""

    PRIMARY = "primary"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """Whose requests were counted."""

    route: str
    variant: str
    role: Role = Role.PRIMARY


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What became of the requests of one leg.

    `requests` are all that ended, but for those whose client went away first: they are `left`, and say
    nothing of a backend. `failed` of them ended with a 5xx, without an answer, or with an answer that broke
    off; `client_errors` with a 4xx. First-token time and duration are those of answers that did not fail.
    `metered` answers told their tokens and `unmetered` ones did not; `metered_bytes` and `unmetered_bytes`
    are what they sent; `invalid` ones said that they were JSON, or a stream of it, and were not. `stream_ms`
    is the time between the first and the last byte of `streamed_tokens`.
    """

    requests: int = 0
    failed: int = 0
    client_errors: int = 0
    left: int = 0
    first_token_ms: Buckets = (0,) * (len(FIRST_TOKEN_MS) + 1)
    duration_ms: Buckets = (0,) * (len(DURATION_MS) + 1)
    metered: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    tokens: Buckets = (0,) * (len(TOKENS) + 1)
    metered_bytes: int = 0
    unmetered: int = 0
    unmetered_bytes: int = 0
    invalid: int = 0
    stream_ms: int = 0
    streamed_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What was counted between `start` and `start + seconds` (seconds since the epoch)."""

    start: float
    seconds: float
    legs: Mapping[Leg, Counts]


_BUCKETS = ("first_token_ms", "duration_ms", "tokens")
_NUMBERS = tuple(field.name for field in fields(Counts) if field.name not in _BUCKETS)


def added(one: Counts, other: Counts) -> Counts:
    """Return the sum of two counts of the same leg."""
    sums: dict[str, Any] = {name: getattr(one, name) + getattr(other, name) for name in _NUMBERS}
    rows: dict[str, Any] = {
        name: tuple(a + b for a, b in zip(getattr(one, name), getattr(other, name), strict=True))
        for name in _BUCKETS
    }
    return Counts(**sums, **rows)
