"""Deleting what is too old or too much, in steps short enough that writing never waits long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mirror_collector.store.connection import Engine
    from mirror_collector.store.privacy import Privacy

__all__ = ["StoreLimits", "tidy"]

_STEP: Final = 100
"""Rows of each table deleted in one transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLimits:
    """What is kept."""

    retention: float = 7 * 86_400.0
    """Seconds a pair is kept; tallies are kept for good."""

    exposure_retention: float = 90 * 86_400.0
    """Seconds after its last request that a unit of an A/B test is remembered."""

    evidence_retention: float = 90 * 86_400.0
    """Seconds a block of evidence is kept."""

    session: float = 86_400.0
    """Seconds after its last pair that a user or session counts as the same in the evidence."""

    max_size: int = 2 << 30
    """Bytes of the store; the oldest pairs go first."""


def tidy(engine: Engine, limits: StoreLimits, privacy: Privacy, now: float, *, oversize: bool) -> int:
    """Delete one step's worth; returns rows deleted, 0 when there is nothing left to delete."""
    deleted = 0
    with engine.transaction():
        for route, policy in privacy.routes.items():
            if policy.retention is not None:
                deleted += engine.run(
                    "DELETE FROM pairs WHERE id IN"
                    " (SELECT id FROM pairs WHERE route = ? AND stored_at < ? ORDER BY id LIMIT ?)",
                    (route, now - policy.retention, _STEP),
                )
        retention = limits.retention if privacy.default.retention is None else privacy.default.retention
        own = (
            [] if oversize else [route for route, one in privacy.routes.items() if one.retention is not None]
        )
        others = f"WHERE route NOT IN ({', '.join('?' * len(own))})" if own else ""
        deleted += engine.run(
            "DELETE FROM pairs WHERE id IN (SELECT id FROM"  # noqa: S608 - marks only
            f" (SELECT id, stored_at FROM pairs {others} ORDER BY id LIMIT ?) AS oldest WHERE stored_at < ?)",
            (*own, _STEP, float("inf") if oversize else now - retention),
        )
        for table, keys, column, kept in (
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
            deleted += engine.run(
                f"DELETE FROM {table} WHERE ({keys}) IN"  # noqa: S608 - names of those above
                f" (SELECT {keys} FROM {table} WHERE {column} < ? LIMIT ?)",
                (now - kept, _STEP),
            )
        deleted += engine.run(
            "DELETE FROM judgements WHERE pair_id IN"
            " (SELECT pair_id FROM judgements WHERE pair_id NOT IN (SELECT id FROM pairs) LIMIT ?)",
            (_STEP,),
        )
    if deleted:
        engine.shrink()
    return deleted
