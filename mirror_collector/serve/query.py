"""Parsing of the parameters of requests for pairs, for the API and the pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mirror_collector.store import FLAGS, Cursor, Order, PairQuery

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["pair_id", "pair_query"]

_MAX_LIMIT: Final = 500
_PARAMETERS: Final = ("route", "flags", "limit", "order", "before")


def pair_id(text: str) -> int | None:
    """Parse the id of a pair; None unless it has 1 to 18 digits, which fit into a 64-bit integer."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def pair_query(parameters: Mapping[str, str]) -> PairQuery:
    """Parse the query parameters of a list of pairs; raises ValueError for the first invalid one."""
    unknown = sorted(parameters.keys() - _PARAMETERS)
    if unknown:
        raise ValueError(f"unknown parameter {unknown[0]!r}; allowed parameters: {', '.join(_PARAMETERS)}")
    try:
        order = Order(parameters.get("order", "newest"))
    except ValueError:
        raise ValueError("order: must be newest or worst") from None
    limit = parameters.get("limit", "50")
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 3 and 1 <= int(limit) <= _MAX_LIMIT):
        raise ValueError(f"limit: must be a number from 1 to {_MAX_LIMIT}")
    flags = frozenset(name for name in parameters.get("flags", "").split(",") if name)
    if flags - FLAGS.keys():
        raise ValueError(f"flags: unknown flag {min(flags - FLAGS.keys())!r}; allowed: {', '.join(FLAGS)}")
    before = None
    if parameters.get("before"):
        try:
            before = Cursor.parse(parameters["before"], order)
        except ValueError:
            raise ValueError("before: must be the `next` value of a page in the same order") from None
    return PairQuery(
        route=parameters.get("route") or None, flags=flags, order=order, before=before, limit=int(limit)
    )
