"""Deletion of expired rows, in transactions short enough not to delay writing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mirror_collector.store.connection import Connection
    from mirror_collector.store.privacy import PrivacyPolicy

__all__ = ["StoreLimits", "delete_expired"]

_ROWS_PER_STEP: Final = 100
"""Maximum number of rows that one statement selects for deletion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLimits:
    """Retention times in seconds, and the maximum size of the store."""

    retention: float = 7 * 86_400.0
    """Retention of pairs; totals are never deleted."""

    exposure_retention: float = 90 * 86_400.0
    """Retention of feedback, exposures and conversions. The exposures of a user or session to one variant,
    and its conversions of one metric, are kept for this time after the last of them."""

    evidence_retention: float = 90 * 86_400.0
    """Retention of evidence blocks."""

    session: float = 86_400.0
    """Time after its last pair during which a user or session is not counted again in the evidence."""

    max_size: int = 2 << 30
    """Maximum size of the store in bytes; beyond it, the oldest pairs are deleted."""


def delete_expired(
    connection: Connection, limits: StoreLimits, policy: PrivacyPolicy, now: float, *, oversize: bool
) -> int:
    """Delete one batch of expired rows; return the number of deleted rows, 0 if none is left.

    With `oversize`, the oldest pairs are deleted even if they are not expired.
    """
    deleted = 0
    with connection.transaction():
        for route, route_policy in policy.routes.items():
            if route_policy.retention is not None:
                deleted += connection.execute(
                    "DELETE FROM pairs WHERE id IN"
                    " (SELECT id FROM pairs WHERE route = ? AND stored_at < ? ORDER BY id LIMIT ?)",
                    (route, now - route_policy.retention, _ROWS_PER_STEP),
                )
        retention = limits.retention if policy.default.retention is None else policy.default.retention
        excluded = (
            []
            if oversize
            else [
                route for route, route_policy in policy.routes.items() if route_policy.retention is not None
            ]
        )
        other_routes = f"WHERE route NOT IN ({', '.join('?' * len(excluded))})" if excluded else ""
        deleted += connection.execute(
            "DELETE FROM pairs WHERE id IN (SELECT id FROM"  # noqa: S608 - placeholders only
            f" (SELECT id, stored_at FROM pairs {other_routes} ORDER BY id LIMIT ?) AS oldest"
            " WHERE stored_at < ?)",
            (*excluded, _ROWS_PER_STEP, float("inf") if oversize else now - retention),
        )
        for table, keys, column, max_age in (
            ("exposures", "route, experiment, unit, variant", "last_at", limits.exposure_retention),
            ("outcomes", "route, metric, unit", "last_at", limits.exposure_retention),
            ("feedback", "id", "at", limits.exposure_retention),
            ("seen_units", "route, primary_variant, shadow_variant, unit", "last_at", limits.session),
            (
                "evidence",
                "route, primary_variant, shadow_variant, comparator, block",
                "block",
                limits.evidence_retention,
            ),
        ):
            deleted += connection.execute(
                f"DELETE FROM {table} WHERE ({keys}) IN"  # noqa: S608 - fixed names
                f" (SELECT {keys} FROM {table} WHERE {column} < ? LIMIT ?)",
                (now - max_age, _ROWS_PER_STEP),
            )
        deleted += connection.execute(
            "DELETE FROM judgements WHERE pair_id IN"
            " (SELECT pair_id FROM judgements WHERE pair_id NOT IN (SELECT id FROM pairs) LIMIT ?)",
            (_ROWS_PER_STEP,),
        )
    if deleted:
        connection.reclaim_space()
    return deleted
