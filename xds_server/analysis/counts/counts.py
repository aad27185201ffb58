"""Counts of one leg in one block of time; counts add up over proxies, time and processes."""

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
    "add_counts",
    "block_from_json",
    "block_to_json",
    "counts_from_json",
    "counts_from_values",
    "counts_to_json",
    "counts_to_values",
    "group_by_route",
]


class Role(Enum):
    """Whether a leg served users or was a mirrored copy."""

    PRIMARY = "primary"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """The requests that are counted together: those of one variant of a route, in one role."""

    route: str
    variant: str
    role: Role = Role.PRIMARY


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The requests of one leg, by result.

    `requests` are all that ended, except those whose client disconnected first: these are `left` and do not
    reflect on the backend. `failed` ended with a 5xx, without a response, or with a response that broke off;
    `client_errors` with a 4xx. First-token time and duration cover the responses that did not fail. `metered`
    responses reported token usage, `unmetered` ones did not; `metered_bytes` and `unmetered_bytes` are their
    sizes. `invalid` responses declared JSON, or a stream of it, and could not be parsed. `stream_ms` is the
    time between the first and the last byte of `streamed_tokens`.
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
    """The counts between `start` and `start + seconds` (seconds since the epoch)."""

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


def counts_to_values(counts: Counts) -> list[int]:
    """Return all numbers of the counts in field order."""
    found = [getattr(counts, name) for name in _NUMBERS]
    for name in _BUCKETS:
        found.extend(getattr(counts, name))
    return found


def counts_from_values(values: Sequence[int]) -> Counts:
    """Return the counts that `counts_to_values` flattened.

    Raises:
        ValueError: The number of values is that of another version.
    """
    rest = list(values)
    if len(rest) != _LENGTH:
        raise ValueError(f"counts have {_LENGTH} values, got {len(rest)}")
    found: dict[str, Any] = dict(zip(_NUMBERS, rest, strict=False))
    at = len(_NUMBERS)
    for name in _BUCKETS:
        found[name], at = tuple(rest[at : at + _SIZES[name]]), at + _SIZES[name]
    return Counts(**found)


def add_counts(one: Counts, other: Counts) -> Counts:
    """Return the sum of two counts of the same leg."""
    sums: dict[str, Any] = {name: getattr(one, name) + getattr(other, name) for name in _NUMBERS}
    rows: dict[str, Any] = {
        name: tuple(a + b for a, b in zip(getattr(one, name), getattr(other, name), strict=True))
        for name in _BUCKETS
    }
    return Counts(**sums, **rows)


def group_by_route(legs: Mapping[Leg, Counts]) -> dict[str, dict[Leg, Counts]]:
    """Return the legs of each route."""
    found: dict[str, dict[Leg, Counts]] = {}
    for leg, counts in legs.items():
        found.setdefault(leg.route, {})[leg] = counts
    return found


def block_to_json(block: Block) -> dict[str, Any]:
    """Return a block as plain JSON values; zeros are omitted."""
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


def block_from_json(document: Mapping[str, Any]) -> Block:
    """Return the block that `block_to_json` of this or an earlier version wrote.

    Raises:
        ValueError: The document is not a block.
    """
    try:
        return Block(
            start=float(document["start"]),
            seconds=float(document["seconds"]),
            legs={_leg(item): counts_from_json(item) for item in document["legs"]},
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a block of counts: {error}") from error


def _trimmed(row: Buckets) -> list[int]:
    """Return buckets without trailing zeros."""
    last = max(place for place, count in enumerate(row) if count)
    return list(row[: last + 1])


def _leg(item: Mapping[str, Any]) -> Leg:
    return Leg(route=str(item["route"]), variant=str(item["variant"]), role=Role(item["role"]))


def counts_to_json(counts: Counts) -> dict[str, Any]:
    """Return counts as plain JSON values; zeros are omitted."""
    return {
        **{name: n for name in _NUMBERS if (n := getattr(counts, name))},
        **{name: _trimmed(row) for name in _BUCKETS if any(row := getattr(counts, name))},
    }


def counts_from_json(item: Mapping[str, Any]) -> Counts:
    """Return the counts that `counts_to_json` of this or an earlier version wrote."""
    found: dict[str, Any] = {name: int(item.get(name, 0)) for name in _NUMBERS}
    for name, size in _SIZES.items():
        row = [int(count) for count in item.get(name, ())][:size]
        found[name] = (*row, *(0,) * (size - len(row)))
    return Counts(**found)
