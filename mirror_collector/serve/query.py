"""Query parameters of pair lists, as the API and the pages accept them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mirror_collector.store import FLAGS, Cursor, Order, PairQuery

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["pair_query"]

_MAX_LIMIT: Final = 500
_PARAMETERS: Final = ("route", "flags", "limit", "order", "before")


def pair_query(given: Mapping[str, str]) -> PairQuery:
    """Read which pairs are asked for; raises ValueError."""
    unknown = sorted(given.keys() - _PARAMETERS)
    if unknown:
        known = ", ".join(_PARAMETERS[:-1])
        raise ValueError(f"unknown parameter {unknown[0]!r}; known are {known} and {_PARAMETERS[-1]}")
    try:
        order = Order(given.get("order", "newest"))
    except ValueError:
        raise ValueError("order: must be newest or worst") from None
    limit = given.get("limit", "50")
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 3 and 1 <= int(limit) <= _MAX_LIMIT):
        raise ValueError(f"limit: must be 1 to {_MAX_LIMIT}")
    flags = frozenset(name for name in given.get("flags", "").split(",") if name)
    if flags - FLAGS.keys():
        strange = min(flags - FLAGS.keys())
        raise ValueError(f"flags: {strange!r} is unknown; known are {', '.join(FLAGS)}")
    before = None
    if given.get("before"):
        try:
            before = Cursor.parse(given["before"], order)
        except ValueError:
            raise ValueError("before: must be the `next` of a page in the same order") from None
    return PairQuery(
        route=given.get("route") or None, flags=flags, order=order, before=before, limit=int(limit)
    )
