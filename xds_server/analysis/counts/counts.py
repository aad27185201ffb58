"""Counts of one leg in one block of time. Everything adds up: over proxies, over time, over processes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, Any

from xds_server.analysis.counts.buckets import DURATION_MS, FIRST_TOKEN_MS, TOKENS, Buckets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "Block",
    "Counts",
    "Leg",
    "Role",
    "added",
    "block_of_json",
    "block_to_json",
    "by_route",
    "counts_of_json",
    "counts_to_json",
    "of_values",
    "to_values",
]


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
_SIZES = {
    "first_token_ms": len(FIRST_TOKEN_MS) + 1,
    "duration_ms": len(DURATION_MS) + 1,
    "tokens": len(TOKENS) + 1,
}
_LENGTH = len(_NUMBERS) + sum(_SIZES.values())


def to_values(counts: Counts) -> list[int]:
    """Return all numbers of a count in the order of its fields."""
    found = [getattr(counts, name) for name in _NUMBERS]
    for name in _BUCKETS:
        found.extend(getattr(counts, name))
    return found


def of_values(values: Sequence[int]) -> Counts:
    """Return the count that `to_values` took apart.

    Raises:
        ValueError: Another version took it apart.
    """
    rest = list(values)
    if len(rest) != _LENGTH:
        raise ValueError(f"a count has {_LENGTH} values, not {len(rest)}")
    found: dict[str, Any] = dict(zip(_NUMBERS, rest, strict=False))
    at = len(_NUMBERS)
    for name in _BUCKETS:
        found[name], at = tuple(rest[at : at + _SIZES[name]]), at + _SIZES[name]
    return Counts(**found)


def added(one: Counts, other: Counts) -> Counts:
    """Return the sum of two counts of the same leg."""
    sums: dict[str, Any] = {name: getattr(one, name) + getattr(other, name) for name in _NUMBERS}
    rows: dict[str, Any] = {
        name: tuple(a + b for a, b in zip(getattr(one, name), getattr(other, name), strict=True))
        for name in _BUCKETS
    }
    return Counts(**sums, **rows)


def by_route(legs: Mapping[Leg, Counts]) -> dict[str, dict[Leg, Counts]]:
    """Return the legs of each route."""
    found: dict[str, dict[Leg, Counts]] = {}
    for leg, counts in legs.items():
        found.setdefault(leg.route, {})[leg] = counts
    return found


def block_to_json(block: Block) -> dict[str, Any]:
    """Return a block as plain JSON values; what is nothing is left out."""
    return {
        "start": block.start,
        "seconds": block.seconds,
        "legs": [
            {
                "route": leg.route,
                "variant": leg.variant,
                "role": leg.role.value,
                **counts_to_json(counts),
            }
            for leg, counts in block.legs.items()
        ],
    }


def block_of_json(document: Mapping[str, Any]) -> Block:
    """Return the block that `block_to_json` wrote, also one of an earlier version.

    Raises:
        ValueError: It is none.
    """
    try:
        return Block(
            start=float(document["start"]),
            seconds=float(document["seconds"]),
            legs={_leg(item): counts_of_json(item) for item in document["legs"]},
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a block of counts: {error}") from error


def _trimmed(row: Buckets) -> list[int]:
    """Return buckets without the zeros at their end."""
    last = max(place for place, count in enumerate(row) if count)
    return list(row[: last + 1])


def _leg(item: Mapping[str, Any]) -> Leg:
    return Leg(route=str(item["route"]), variant=str(item["variant"]), role=Role(item["role"]))


def counts_to_json(counts: Counts) -> dict[str, Any]:
    """Return a count as plain JSON values; what is nothing is left out."""
    return {
        **{name: n for name in _NUMBERS if (n := getattr(counts, name))},
        **{name: _trimmed(row) for name in _BUCKETS if any(row := getattr(counts, name))},
    }


def counts_of_json(item: Mapping[str, Any]) -> Counts:
    """Return the count `counts_to_json` wrote, also that of an earlier version."""
    found: dict[str, Any] = {name: int(item.get(name, 0)) for name in _NUMBERS}
    for name, size in _SIZES.items():
        row = [int(count) for count in item.get(name, ())][:size]
        found[name] = (*row, *(0,) * (size - len(row)))
    return Counts(**found)
