"""The reading side of the store: pages of pairs, single pairs with their bodies, evidence, outcomes."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from mirror_collector.store.codec import FLAGS, reply_of
from mirror_collector.store.encryption import Vault
from mirror_collector.store.location import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mirror_collector.exchange import Reply
    from mirror_collector.store.location import Location

__all__ = [
    "Cursor",
    "Order",
    "Page",
    "PairQuery",
    "Reader",
    "StoredBlock",
    "StoredExperiment",
    "StoredFeedback",
    "StoredLeg",
    "StoredPair",
]

_COLUMNS: Final = "id, started_at, stored_at, similarity, summary, flags"
_ALL_OR_ONE: Final = "(? = '' OR route = ?) AND (? = '' OR experiment = ?)"
_EXPOSED: Final = f"""
SELECT route, experiment, variant, length(unit) > 0, COUNT(*), CAST(SUM(requests) AS BIGINT) FROM exposures
WHERE {_ALL_OR_ONE}
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3
"""  # noqa: S608 - fixed
_CROSSED: Final = f"""
SELECT route, experiment, COUNT(*) FROM (
  SELECT route, experiment, unit FROM exposures
  WHERE {_ALL_OR_ONE} AND length(unit) > 0
  GROUP BY 1, 2, 3 HAVING COUNT(*) > 1
) AS crossed GROUP BY 1, 2
"""  # noqa: S608 - fixed
_LOYAL: Final = f"""
SELECT route, experiment, unit, min(variant) AS variant, min(first_at) AS first_at FROM exposures
WHERE {_ALL_OR_ONE} AND length(unit) > 0
GROUP BY 1, 2, 3 HAVING COUNT(*) = 1
"""  # noqa: S608 - fixed
_USERS: Final = f"SELECT route, experiment, variant, COUNT(*) FROM ({_LOYAL}) AS loyal GROUP BY 1, 2, 3"  # noqa: S608 - fixed
_DONE: Final = f"""
SELECT e.route, e.experiment, e.variant, o.metric, COUNT(*) FROM ({_LOYAL}) AS e
JOIN outcomes o ON o.route = e.route AND o.unit = e.unit AND o.last_at >= e.first_at
GROUP BY 1, 2, 3, 4
"""  # noqa: S608 - fixed
_FEEDBACK: Final = """
SELECT f.route, f.metric, COALESCE(NULLIF(f.variant, ''), p.primary_variant, '') AS variant,
  COUNT(*), SUM(f.value), SUM(CASE WHEN f.value > 0 THEN 1 ELSE 0 END)
FROM feedback f LEFT JOIN pairs p
  ON p.route = f.route AND p.request_id = f.request_id AND f.request_id <> ''
WHERE (? = '' OR f.route = ?)
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


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
    """Which pairs, in which order, from where on. `flags` are names of `FLAGS`, all of which must hold."""

    route: str | None = None
    flags: frozenset[str] = frozenset()
    variants: tuple[str, str] | None = None
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
    """One leg: a JSON object without its bodies, and the bodies as far as they were kept and can be opened.

    `reply` is the answer put together; None where nothing of it was kept.
    """

    document: dict[str, Any]
    request: bytes
    response: bytes
    reply: Reply | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPair:
    """One pair as it is listed, and its legs by role."""

    listed: dict[str, Any]
    legs: dict[str, StoredLeg]
    judgements: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBlock:
    """A block of evidence: whose, since when (seconds since the epoch), and its counts as JSON."""

    route: str
    primary_variant: str
    shadow_variant: str
    comparator: int
    begins: int
    seq: int
    counts: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFeedback:
    """What was said of the answers of one variant; `variant` is empty where nobody knows whose they were."""

    route: str
    metric: str
    variant: str
    count: int
    total: float
    positive: int


class Reader:
    """A second connection, for reading only; belongs to the thread that opened it."""

    def __init__(self, location: Location, vault: Vault | None = None) -> None:
        self._engine = connect(location, read_only=True)
        self._vault = vault or Vault()

    def page(self, query: PairQuery) -> Page:
        """List pairs; raises StoreError."""
        conditions: list[str] = []
        values: list[Any] = []
        if query.route is not None:
            conditions.append("route = ?")
            values.append(query.route)
        if query.flags:
            wanted = sum(FLAGS[name] for name in query.flags)
            conditions.append("(flags & ?) = ?")
            values += [wanted, wanted]
        if query.variants is not None:
            conditions.append("primary_variant = ? AND shadow_variant = ?")
            values += query.variants
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
        rows = self._engine.rows(
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
        ask = (route or "", route or "", experiment or "", experiment or "")
        rows, crossed, loyal, done = (
            self._engine.rows(query, ask) for query in (_EXPOSED, _CROSSED, _USERS, _DONE)
        )
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

    def feedback(self, route: str | None) -> list[StoredFeedback]:
        """Return what was said of answers, by variant."""
        rows = self._engine.rows(_FEEDBACK, (route or "", route or ""))
        return [
            StoredFeedback(
                route=name,
                metric=metric,
                variant=variant,
                count=count,
                total=float(total),
                positive=int(positive),
            )
            for name, metric, variant, count, total, positive in rows
        ]

    def evidence(self, after: int, *, limit: int = 500) -> list[StoredBlock]:
        """Return blocks written after `after`, oldest first; those of one write are never torn apart."""
        last = self._engine.rows(
            "SELECT MAX(seq) FROM (SELECT seq FROM evidence WHERE seq > ? ORDER BY seq LIMIT ?) AS next",
            (after, limit),
        )[0][0]
        if last is None:
            return []
        rows = self._engine.rows(
            "SELECT route, primary_variant, shadow_variant, comparator, block, seq, counts FROM evidence"
            " WHERE seq > ? AND seq <= ? ORDER BY seq",
            (after, last),
        )
        return [
            StoredBlock(
                route=route,
                primary_variant=primary,
                shadow_variant=shadow,
                comparator=comparator,
                begins=block,
                seq=seq,
                counts=json.loads(counts),
            )
            for route, primary, shadow, comparator, block, seq, counts in rows
        ]

    def pair(self, pair_id: int) -> StoredPair | None:
        """One pair with its bodies, or None where there is none of that id; raises StoreError."""
        rows = self._engine.rows(f"SELECT {_COLUMNS} FROM pairs WHERE id = ?", (pair_id,))  # noqa: S608 - fixed
        if not rows:
            return None
        judged = self._engine.rows(
            "SELECT prompt, model, judgement, at FROM judgements WHERE pair_id = ? ORDER BY at", (pair_id,)
        )
        return StoredPair(
            listed=_listed(*rows[0]),
            legs=self._legs(pair_id),
            judgements=tuple(
                {"prompt": prompt, "model": model, "judgement": judgement, "at": at}
                for prompt, model, judgement, at in judged
            ),
        )

    def every(self, route: str | None, after: int = 0) -> Iterator[StoredPair]:
        """Yield all pairs with their bodies, oldest first; those that come meanwhile too."""
        while rows := self._engine.rows(
            f"SELECT {_COLUMNS} FROM pairs WHERE id > ? AND (? = '' OR route = ?) ORDER BY id LIMIT 100",  # noqa: S608 - fixed
            (after, route or "", route or ""),
        ):
            for row in rows:
                yield StoredPair(listed=_listed(*row), legs=self._legs(row[0]))
            after = rows[-1][0]

    def _legs(self, pair_id: int) -> dict[str, StoredLeg]:
        rows = self._engine.rows(
            "SELECT role, leg, request, response FROM legs WHERE pair_id = ?", (pair_id,)
        )
        legs = {
            role: self._leg(json.loads(leg), bytes(request), bytes(response))
            for role, leg, request, response in rows
        }
        asked = legs["primary"].request if "primary" in legs else b""
        return {
            role: replace(legs[role], request=asked) if _same_request(legs[role]) else legs[role]
            for role in sorted(legs, key=_ROLES.index)
        }

    def _leg(self, document: dict[str, Any], request: bytes, response: bytes) -> StoredLeg:
        messages = document.get("messages", {})
        if messages.get("sealed"):
            asked, answered = self._vault.open(request), self._vault.open(response)
            if asked is None or answered is None:
                lost = {**document, "messages": {**messages, "unopened": True}}
                return StoredLeg(document=lost, request=b"", response=b"", reply=None)
            request, response = asked, answered
        known = messages.get("kept", "bodies") == "bodies" and messages.get("response") != "unreadable"
        reply = reply_of(document, response) if known else None
        return StoredLeg(document=document, request=request, response=response, reply=reply)

    def close(self) -> None:
        """Close the connection."""
        self._engine.close()


_ROLES: Final = ("primary", "shadow", "noise")


def _same_request(leg: StoredLeg) -> bool:
    return bool(leg.document.get("messages", {}).get("request") == "same")


def _listed(
    pair_id: int, started_at: float, stored_at: float, similarity: float | None, summary: str, flags: int
) -> dict[str, Any]:
    return {
        "id": str(pair_id),
        "started_at": started_at,
        "stored_at": stored_at,
        "similarity": similarity,
        "flags": [name for name, bit in FLAGS.items() if flags & bit],
        **json.loads(summary),
    }
