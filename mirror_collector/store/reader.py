"""The reading side of the store: pages of pairs, and single pairs with their bodies."""

from __future__ import annotations

import json
import math
import sqlite3
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from mirror_collector.store.schema import StoreError, connect

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "Cursor",
    "Order",
    "Page",
    "PairQuery",
    "Reader",
    "StoredExperiment",
    "StoredLeg",
    "StoredPair",
]

_COLUMNS: Final = "id, started_at, stored_at, similarity, summary"


_EXPOSED: Final = """
SELECT route, experiment, variant, unit != x'', COUNT(*), SUM(requests) FROM exposures
WHERE (?1 IS NULL OR route = ?1) AND (?2 IS NULL OR experiment = ?2)
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3
"""
_CROSSED: Final = """
SELECT route, experiment, COUNT(*) FROM (
  SELECT route, experiment, unit FROM exposures
  WHERE (?1 IS NULL OR route = ?1) AND (?2 IS NULL OR experiment = ?2) AND unit != x''
  GROUP BY 1, 2, 3 HAVING COUNT(*) > 1
) GROUP BY 1, 2
"""


_LOYAL: Final = """
SELECT route, experiment, unit, min(variant) AS variant, min(first_at) AS first_at FROM exposures
WHERE (?1 IS NULL OR route = ?1) AND (?2 IS NULL OR experiment = ?2) AND unit != x''
GROUP BY 1, 2, 3 HAVING COUNT(*) = 1
"""
_USERS: Final = f"SELECT route, experiment, variant, COUNT(*) FROM ({_LOYAL}) GROUP BY 1, 2, 3"  # noqa: S608 - fixed
_DONE: Final = f"""
SELECT e.route, e.experiment, e.variant, o.metric, COUNT(*) FROM ({_LOYAL}) e
JOIN outcomes o ON o.route = e.route AND o.unit = e.unit AND o.last_at >= e.first_at
GROUP BY 1, 2, 3, 4
"""  # noqa: S608 - fixed


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredExperiment:
    """An A/B test of a route: units and requests by variant, and what cannot be counted for one.

    `crossovers` are units that met more than one variant; `without_unit` are requests that named nobody.
    `users` are the units of each variant that met no other, `outcomes` how many of them did what is counted,
    by metric.
    """

    route: str
    experiment: str
    variants: dict[str, tuple[int, int]]
    crossovers: int
    without_unit: int
    users: dict[str, int]
    outcomes: dict[str, dict[str, int]]


class Order(Enum):
    """How a list of pairs is sorted."""

    NEWEST = "newest"
    WORST = "worst"
    """The least similar first; pairs that say nothing about quality are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where the next page begins: after this pair."""

    pair_id: int
    similarity: float | None = None
    """Only where the order is `Order.WORST`."""

    def __str__(self) -> str:
        return str(self.pair_id) if self.similarity is None else f"{self.similarity!r}:{self.pair_id}"

    @classmethod
    def parse(cls, text: str, order: Order) -> Cursor:
        """Read what ``str`` gave; raises ValueError for anything else."""
        similarity, _, pair_id = text.rpartition(":")
        if (order is Order.WORST) != bool(similarity) or len(text) > 64:
            raise ValueError("not a cursor of this order")
        number = int(pair_id)
        if not 0 <= number < 1 << 63:
            raise ValueError("not a cursor")
        if order is Order.NEWEST:
            return cls(pair_id=number)
        value = float(similarity)
        if not math.isfinite(value):
            raise ValueError("not a cursor")
        return cls(pair_id=number, similarity=value)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairQuery:
    """Which pairs, in which order, from where on."""

    route: str | None = None
    order: Order = Order.NEWEST
    before: Cursor | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some pairs as JSON objects, and where the next page begins; None at the end."""

    pairs: tuple[dict[str, Any], ...]
    following: Cursor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLeg:
    """One leg: a JSON object without its bodies, and the bodies."""

    document: dict[str, Any]
    request: bytes
    response: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPair:
    """One pair as it is listed, and its legs by role."""

    listed: dict[str, Any]
    legs: dict[str, StoredLeg]


class Reader:
    """A second connection, for reading only; belongs to the thread that opened it."""

    def __init__(self, path: Path) -> None:
        try:
            self._connection = connect(path, read_only=True)
        except sqlite3.Error as error:
            raise StoreError(f"cannot read the store {path}: {error}") from error

    def page(self, query: PairQuery) -> Page:
        """List pairs; raises StoreError."""
        conditions: list[str] = []
        values: list[Any] = []
        if query.route is not None:
            conditions.append("route = ?")
            values.append(query.route)
        if query.order is Order.WORST:
            conditions.append("similarity IS NOT NULL")
        if query.before is not None and query.order is Order.WORST:
            conditions.append("(similarity > ? OR (similarity = ? AND id < ?))")
            values += [query.before.similarity, query.before.similarity, query.before.pair_id]
        elif query.before is not None:
            conditions.append("id < ?")
            values.append(query.before.pair_id)
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        order = "similarity, id DESC" if query.order is Order.WORST else "id DESC"
        rows = self._rows(
            # Only fixed text is put together here; what comes from outside is bound.
            f"SELECT {_COLUMNS} FROM pairs {where} ORDER BY {order} LIMIT ?",  # noqa: S608
            (*values, query.limit + 1),
        )
        more = len(rows) > query.limit
        rows = rows[: query.limit]
        following = None
        if more:
            similarity = rows[-1][3] if query.order is Order.WORST else None
            following = Cursor(pair_id=rows[-1][0], similarity=similarity)
        return Page(pairs=tuple(_listed(*row) for row in rows), following=following)

    def exposures(self, route: str | None, experiment: str | None) -> list[StoredExperiment]:
        """Return what is known of A/B tests, of one route or experiment or of all."""
        found: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
        nameless: dict[tuple[str, str], int] = {}
        try:
            rows = self._connection.execute(_EXPOSED, (route, experiment)).fetchall()
            crossed = self._connection.execute(_CROSSED, (route, experiment)).fetchall()
            loyal = self._connection.execute(_USERS, (route, experiment)).fetchall()
            done = self._connection.execute(_DONE, (route, experiment)).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"cannot read exposures: {error}") from error
        for name, test, variant, named, units, requests in rows:
            key = (name, test)
            mine = found.setdefault(key, {})
            if named:
                mine[variant] = (units, requests)
            else:
                nameless[key] = nameless.get(key, 0) + requests
        moved = {(name, test): count for name, test, count in crossed}
        users: dict[tuple[str, str], dict[str, int]] = {}
        for name, test, variant, count in loyal:
            users.setdefault((name, test), {})[variant] = count
        outcomes: dict[tuple[str, str], dict[str, dict[str, int]]] = {}
        for name, test, variant, metric, count in done:
            outcomes.setdefault((name, test), {}).setdefault(metric, {})[variant] = count
        return [
            StoredExperiment(
                users=users.get(key, {}),
                outcomes=outcomes.get(key, {}),
                route=key[0],
                experiment=key[1],
                variants=variants,
                crossovers=moved.get(key, 0),
                without_unit=nameless.get(key, 0),
            )
            for key, variants in found.items()
        ]

    def pair(self, pair_id: int) -> StoredPair | None:
        """One pair with its bodies, or None where there is none of that id; raises StoreError."""
        rows = self._rows(f"SELECT {_COLUMNS} FROM pairs WHERE id = ?", (pair_id,))  # noqa: S608 - fixed
        if not rows:
            return None
        legs = self._rows("SELECT role, leg, request, response FROM legs WHERE pair_id = ?", (pair_id,))
        return StoredPair(
            listed=_listed(*rows[0]),
            legs={
                role: StoredLeg(document=json.loads(leg), request=request, response=response)
                for role, leg, request, response in legs
            },
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _rows(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"cannot read the store: {error}") from error


def _listed(
    pair_id: int, started_at: float, stored_at: float, similarity: float | None, summary: str
) -> dict[str, Any]:
    return {
        "id": str(pair_id),
        "started_at": started_at,
        "stored_at": stored_at,
        "similarity": similarity,
        **json.loads(summary),
    }
