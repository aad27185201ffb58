"""Counts of one leg in one block of time; counts add up over proxies, time and processes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

from xds_server.analysis.counts.buckets import DURATION_MS, FIRST_TOKEN_MS, TOKENS, Buckets
from xds_server.analysis.counts.json_fields import read_field
from xds_server.analysis.counts.outcomes import UNREAD, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "CELL_NUMBERS",
    "FAILURE_KINDS",
    "MAX_CELLS",
    "UNREAD_REASONS",
    "Block",
    "Counts",
    "Leg",
    "Role",
    "add_counts",
    "block_from_json",
    "block_to_json",
    "cell_counts",
    "counts_from_json",
    "counts_from_values",
    "counts_to_json",
    "counts_to_values",
    "group_by_route",
    "leg_from_json",
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


CELL_NUMBERS: Final = (
    "requests",
    "failed",
    "rejected",
    "client_errors",
    "left",
    "left_unanswered",
    "waiting",
)
"""The fields of `Counts` that are also counted by cell."""

Cells = tuple[tuple[int, ...], ...]
MAX_CELLS: Final = 100
"""More cells than any split has; a cell with a higher number is ignored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The requests of one leg, by class and by what was read of their answers.

    `requests` are the requests that ended, without those whose client left first. The latter are `left`;
    alone, they are no fault of the backend. `left_unanswered` is the part of `left` whose client left within
    five seconds and before the first byte of an answer. `waiting` counts each request that had no byte of an
    answer after five seconds, whatever class it has later. `retried` requests needed more than one attempt.

    `failed` requests ended with a 5xx, without a response, with a response that broke off, or with a faulty
    answer in spite of a status that reports success. Of the faulty answers, `in_band` contained an error,
    `invalid` ones declared JSON that could not be parsed, `format` ones had a content type that the API does
    not have, `unended` ones were streams without an end mark, and `empty` ones had no body or no event.
    `rejected` requests ended with a 3xx, or with a 4xx that is the backend's own refusal; `client_errors`
    ended with a 4xx about the request. All other `requests` are successes. `first_token_ms` and
    `duration_ms` cover the responses with a status below 400.

    `answers` are the answers of successes that were read; `metered` ones reported token usage, `unmetered`
    ones did not. `unread_*` are the successes whose answers were not read, by reason.

    Of the streams that reported their tokens, `streamed_tokens` are the completion tokens, `stream_ms` is the
    time from the first to the last byte, and `stream_metered_bytes` the size. `stream_unmetered` is the
    number of the other streams, and `stream_unmetered_bytes` their size.

    `cells` has the numbers `CELL_NUMBERS` of each cell of users, by cell; empty without a sticky split. Users
    that targets and rules assign are in no cell.
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
    unmetered: int = 0
    invalid: int = 0
    stream_ms: int = 0
    streamed_tokens: int = 0
    rejected: int = 0
    left_unanswered: int = 0
    waiting: int = 0
    retried: int = 0
    in_band: int = 0
    format: int = 0
    unended: int = 0
    empty: int = 0
    answers: int = 0
    unread_encoded: int = 0
    unread_unsized: int = 0
    unread_shape: int = 0
    unread_unsupported: int = 0
    unread_other: int = 0
    stream_metered_bytes: int = 0
    stream_unmetered: int = 0
    stream_unmetered_bytes: int = 0
    cells: Cells = ()

    @property
    def seen(self) -> int:
        """The requests of any class, plus `waiting`; 0 only if the leg had no traffic."""
        return self.requests + self.left + self.waiting

    @property
    def failures(self) -> dict[str, int]:
        """The failures in spite of a status that reports success, by kind; kinds without any are omitted."""
        found = {name: getattr(self, name) for name in FAILURE_KINDS}
        return {name: n for name, n in found.items() if n}

    @property
    def unread(self) -> dict[str, int]:
        """The successes that were not read, by reason; reasons without any are omitted."""
        found = {name: getattr(self, f"unread_{name}") for name in UNREAD_REASONS}
        return {name: n for name, n in found.items() if n}


FAILURE_KINDS: Final = ("in_band", "invalid", "format", "unended", "empty")
"""How an answer can be a failure in spite of a status that reports success."""

UNREAD_REASONS: Final = tuple(outcome.value for outcome in Outcome if outcome in UNREAD)
"""Why the answer of a successful request was not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The counts between `start` and `start + seconds` (seconds since the epoch)."""

    start: float
    seconds: float
    legs: Mapping[Leg, Counts]


_BUCKETS = ("first_token_ms", "duration_ms", "tokens")
_NUMBERS = tuple(field.name for field in fields(Counts) if field.name not in {*_BUCKETS, "cells"})
_SIZES = {
    "first_token_ms": len(FIRST_TOKEN_MS) + 1,
    "duration_ms": len(DURATION_MS) + 1,
    "tokens": len(TOKENS) + 1,
}
_LENGTH = len(_NUMBERS) + sum(_SIZES.values())


def counts_to_values(counts: Counts) -> list[int]:
    """Return all numbers of the counts in field order; those of cells come last."""
    found = [getattr(counts, name) for name in _NUMBERS]
    for name in _BUCKETS:
        found.extend(getattr(counts, name))
    for row in counts.cells:
        found.extend(row)
    return found


def counts_from_values(values: Sequence[int]) -> Counts:
    """Return the counts that `counts_to_values` flattened.

    Raises:
        ValueError: The number of values is wrong, for example because another version returned them.
    """
    rest, width = list(values), len(CELL_NUMBERS)
    if len(rest) < _LENGTH or (len(rest) - _LENGTH) % width:
        raise ValueError(f"counts have {_LENGTH} values and {width} for each cell, got {len(rest)}")
    found: dict[str, Any] = dict(zip(_NUMBERS, rest, strict=False))
    at = len(_NUMBERS)
    for name in _BUCKETS:
        found[name], at = tuple(rest[at : at + _SIZES[name]]), at + _SIZES[name]
    cells = tuple(tuple(rest[start : start + width]) for start in range(at, len(rest), width))
    return Counts(**found, cells=cells)


def cell_counts(row: Sequence[int]) -> Counts:
    """Return the counts of one cell, given a row of `Counts.cells`."""
    known: dict[str, Any] = dict(zip(CELL_NUMBERS, row, strict=True))
    return Counts(**known)


def add_counts(one: Counts, other: Counts) -> Counts:
    """Return the sum of two counts of the same leg."""
    sums: dict[str, Any] = {name: getattr(one, name) + getattr(other, name) for name in _NUMBERS}
    rows: dict[str, Any] = {
        name: tuple(a + b for a, b in zip(getattr(one, name), getattr(other, name), strict=True))
        for name in _BUCKETS
    }
    return Counts(**sums, **rows, cells=_add_cells(one.cells, other.cells))


def _add_cells(one: Cells, other: Cells) -> Cells:
    if not one or not other:
        return one or other
    none = (0,) * len(CELL_NUMBERS)
    return tuple(
        tuple(a + b for a, b in zip(row, more, strict=True))
        for row, more in zip_longest(one, other, fillvalue=none)
    )


def group_by_route(legs: Mapping[Leg, Counts]) -> dict[str, dict[Leg, Counts]]:
    """Return the legs of each route."""
    found: dict[str, dict[Leg, Counts]] = {}
    for leg, counts in legs.items():
        found.setdefault(leg.route, {})[leg] = counts
    return found


def block_to_json(block: Block) -> dict[str, Any]:
    """Return a block as plain JSON values, with the counts of each leg as `counts_to_json` returns them."""
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
    return Block(
        start=read_field(document, "start", float),
        seconds=read_field(document, "seconds", float),
        legs=dict(map(_leg_with_counts, read_field(document, "legs", _list))),
    )


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def leg_from_json(item: Any) -> Leg:
    """Return the leg that an item of a block names.

    Raises:
        ValueError: The item does not name a leg.
    """
    return Leg(
        route=read_field(item, "route", str),
        variant=read_field(item, "variant", str),
        role=read_field(item, "role", Role),
    )


def _leg_with_counts(item: Any) -> tuple[Leg, Counts]:
    leg = leg_from_json(item)
    try:
        return leg, counts_from_json(item)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"the counts of backend {leg.variant!r} are not all whole numbers") from error


def _trimmed(row: Buckets) -> list[int]:
    """Return numbers without trailing zeros."""
    last = max((place for place, count in enumerate(row) if count), default=-1)
    return list(row[: last + 1])


def counts_to_json(counts: Counts) -> dict[str, Any]:
    """Return counts as plain JSON values, without numbers that are 0 and trailing zeros of buckets."""
    return {
        **{name: n for name in _NUMBERS if (n := getattr(counts, name))},
        **{name: _trimmed(row) for name in _BUCKETS if any(row := getattr(counts, name))},
        **({"cells": [_trimmed(row) for row in counts.cells]} if counts.cells else {}),
    }


def counts_from_json(item: Mapping[str, Any]) -> Counts:
    """Return the counts that `counts_to_json` of this or an earlier version wrote."""
    found: dict[str, Any] = {name: int(item.get(name, 0)) for name in _NUMBERS}
    for name, size in _SIZES.items():
        row = [int(count) for count in item.get(name, ())][:size]
        found[name] = (*row, *(0,) * (size - len(row)))
    return Counts(**found, cells=_cells_from_json(item.get("cells", ())))


def _cells_from_json(rows: Sequence[Sequence[int]]) -> Cells:
    width = len(CELL_NUMBERS)
    known = [[int(count) for count in row][:width] for row in rows[:MAX_CELLS]]
    return tuple((*row, *(0,) * (width - len(row))) for row in known)
