"""The reading side of the store: lists of pairs, single pairs, evidence, A/B tests and feedback."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from mirror_collector.store.codec import FLAGS, load_reply
from mirror_collector.store.encryption import MessageCipher
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
    "StoreReader",
    "StoredEvidenceBlock",
    "StoredExperiment",
    "StoredFeedback",
    "StoredLeg",
    "StoredPair",
]

_COLUMNS: Final = "id, started_at, stored_at, similarity, summary, flags"
_OPTIONAL_FILTER: Final = "(? = '' OR route = ?) AND (? = '' OR experiment = ?)"
_EXPOSURES: Final = f"""
SELECT route, experiment, variant, length(unit) > 0, COUNT(*), CAST(SUM(requests) AS BIGINT) FROM exposures
WHERE {_OPTIONAL_FILTER}
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3
"""  # noqa: S608 - fixed
_CROSSOVERS: Final = f"""
SELECT route, experiment, COUNT(*) FROM (
  SELECT route, experiment, unit FROM exposures
  WHERE {_OPTIONAL_FILTER} AND length(unit) > 0
  GROUP BY 1, 2, 3 HAVING COUNT(*) > 1
) AS crossed GROUP BY 1, 2
"""  # noqa: S608 - fixed
_SINGLE_VARIANT_UNITS: Final = f"""
SELECT route, experiment, unit, min(variant) AS variant, min(first_at) AS first_at FROM exposures
WHERE {_OPTIONAL_FILTER} AND length(unit) > 0
GROUP BY 1, 2, 3 HAVING COUNT(*) = 1
"""  # noqa: S608 - fixed
_USERS: Final = f"""
SELECT route, experiment, variant, COUNT(*) FROM ({_SINGLE_VARIANT_UNITS}) AS units GROUP BY 1, 2, 3
"""  # noqa: S608 - fixed
_CONVERSIONS: Final = f"""
SELECT e.route, e.experiment, e.variant, o.metric, COUNT(*) FROM ({_SINGLE_VARIANT_UNITS}) AS e
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
    """The results of one A/B test of a route.

    A unit is a user or session. `variants` has the number of units of each variant, and of their requests;
    `without_unit` is the number of requests without a unit. `crossovers` is the number of units exposed to
    more than one variant. All other units are counted in `users`, by variant, and those with a conversion in
    `outcomes`, by metric and variant.
    """

    route: str
    experiment: str
    variants: dict[str, tuple[int, int]]
    crossovers: int
    without_unit: int
    users: dict[str, int]
    outcomes: dict[str, dict[str, int]]


class Order(Enum):
    """Sort order of a list of pairs."""

    NEWEST = "newest"
    WORST = "worst"
    """Lowest similarity first; pairs without a similarity are excluded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Position in a list of pairs; the next page starts after this pair."""

    pair_id: int
    similarity: float | None = None
    """Only set if the order is `Order.WORST`."""

    def __str__(self) -> str:
        return str(self.pair_id) if self.similarity is None else f"{self.similarity!r}:{self.pair_id}"

    @classmethod
    def parse(cls, text: str, order: Order) -> Cursor:
        """Parse the text form of a cursor; raises ValueError."""
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
    """Filters, order and position of a list of pairs; a pair must have all `flags` (names in `FLAGS`)."""

    route: str | None = None
    flags: frozenset[str] = frozenset()
    variants: tuple[str, str] | None = None
    order: Order = Order.NEWEST
    before: Cursor | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of pairs as JSON objects; `next_cursor` leads to the next page and is None on the last page."""

    pairs: tuple[dict[str, Any], ...]
    next_cursor: Cursor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLeg:
    """A stored leg: its JSON without bodies, and its bodies.

    A body is empty if it is not stored or cannot be decrypted. `reply` is the parsed answer; None if no part
    of it is stored, or if it cannot be decrypted.
    """

    document: dict[str, Any]
    request: bytes
    response: bytes
    reply: Reply | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPair:
    """A stored pair: its JSON as shown in lists, its legs by role, and its judgements."""

    summary: dict[str, Any]
    legs: dict[str, StoredLeg]
    judgements: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvidenceBlock:
    """A stored evidence block; `begins` in seconds since the epoch, `counts` as JSON."""

    route: str
    primary_variant: str
    shadow_variant: str
    comparator: int
    begins: int
    seq: int
    counts: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFeedback:
    """Feedback on the answers of one variant; `variant` is empty if it could not be determined."""

    route: str
    metric: str
    variant: str
    count: int
    total: float
    positive: int


class StoreReader:
    """A read-only connection to the store; belongs to the thread that opened it."""

    def __init__(self, location: Location, cipher: MessageCipher | None = None) -> None:
        self._connection = connect(location, read_only=True)
        self._cipher = cipher or MessageCipher()

    def page(self, query: PairQuery) -> Page:
        """Return a page of pairs; raises StoreError."""
        conditions: list[str] = []
        values: list[Any] = []
        if query.route is not None:
            conditions.append("route = ?")
            values.append(query.route)
        if query.flags:
            bits = sum(FLAGS[name] for name in query.flags)
            conditions.append("(flags & ?) = ?")
            values += [bits, bits]
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
        rows = self._connection.query(
            # The statement is built from fixed text only; all values from outside are bound parameters.
            f"SELECT {_COLUMNS} FROM pairs {where} ORDER BY {order} LIMIT ?",  # noqa: S608
            (*values, query.limit + 1),
        )
        more = len(rows) > query.limit
        rows = rows[: query.limit]
        next_cursor = None
        if more:
            similarity = rows[-1][3] if query.order is Order.WORST else None
            next_cursor = Cursor(pair_id=rows[-1][0], similarity=similarity)
        return Page(pairs=tuple(_summary(*row) for row in rows), next_cursor=next_cursor)

    def exposures(self, route: str | None, experiment: str | None) -> list[StoredExperiment]:
        """Return the results of A/B tests; None for `route` or `experiment` selects all."""
        values = (route or "", route or "", experiment or "", experiment or "")
        exposure_rows, crossover_rows, user_rows, conversion_rows = (
            self._connection.query(statement, values)
            for statement in (_EXPOSURES, _CROSSOVERS, _USERS, _CONVERSIONS)
        )
        variants: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
        without_unit: dict[tuple[str, str], int] = {}
        for name, test, variant, has_unit, units, requests in exposure_rows:
            counts = variants.setdefault((name, test), {})
            if has_unit:
                counts[variant] = (units, requests)
            else:
                without_unit[name, test] = without_unit.get((name, test), 0) + requests
        crossovers = {(name, test): count for name, test, count in crossover_rows}
        users: dict[tuple[str, str], dict[str, int]] = {}
        for name, test, variant, count in user_rows:
            users.setdefault((name, test), {})[variant] = count
        outcomes: dict[tuple[str, str], dict[str, dict[str, int]]] = {}
        for name, test, variant, metric, count in conversion_rows:
            outcomes.setdefault((name, test), {}).setdefault(metric, {})[variant] = count
        return [
            StoredExperiment(
                users=users.get(key, {}),
                outcomes=outcomes.get(key, {}),
                route=key[0],
                experiment=key[1],
                variants=counts,
                crossovers=crossovers.get(key, 0),
                without_unit=without_unit.get(key, 0),
            )
            for key, counts in variants.items()
        ]

    def feedback(self, route: str | None) -> list[StoredFeedback]:
        """Return feedback by variant, of one route or all."""
        rows = self._connection.query(_FEEDBACK, (route or "", route or ""))
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

    def evidence(self, after: int, *, limit: int = 500) -> list[StoredEvidenceBlock]:
        """Return about `limit` blocks with a sequence number above `after`, lowest number first.

        Blocks with the same sequence number are always returned together.
        """
        last = self._connection.query(
            "SELECT MAX(seq) FROM (SELECT seq FROM evidence WHERE seq > ? ORDER BY seq LIMIT ?) AS next",
            (after, limit),
        )[0][0]
        if last is None:
            return []
        rows = self._connection.query(
            "SELECT route, primary_variant, shadow_variant, comparator, block, seq, counts FROM evidence"
            " WHERE seq > ? AND seq <= ? ORDER BY seq",
            (after, last),
        )
        return [
            StoredEvidenceBlock(
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
        """Return one pair with its bodies, or None if it does not exist; raises StoreError."""
        rows = self._connection.query(f"SELECT {_COLUMNS} FROM pairs WHERE id = ?", (pair_id,))  # noqa: S608 - fixed
        if not rows:
            return None
        judgement_rows = self._connection.query(
            "SELECT prompt, model, judgement, at FROM judgements WHERE pair_id = ? ORDER BY at", (pair_id,)
        )
        return StoredPair(
            summary=(summary := _summary(*rows[0])),
            legs=self._legs(pair_id, summary.get("path", "")),
            judgements=tuple(
                {"prompt": prompt, "model": model, "judgement": judgement, "at": at}
                for prompt, model, judgement, at in judgement_rows
            ),
        )

    def all_pairs(self, route: str | None, after: int = 0) -> Iterator[StoredPair]:
        """Yield all pairs with their bodies, oldest first, including pairs stored meanwhile."""
        while rows := self._connection.query(
            f"SELECT {_COLUMNS} FROM pairs WHERE id > ? AND (? = '' OR route = ?) ORDER BY id LIMIT 100",  # noqa: S608 - fixed
            (after, route or "", route or ""),
        ):
            for row in rows:
                summary = _summary(*row)
                yield StoredPair(summary=summary, legs=self._legs(row[0], summary.get("path", "")))
            after = rows[-1][0]

    def _legs(self, pair_id: int, path: str) -> dict[str, StoredLeg]:
        rows = self._connection.query(
            "SELECT role, leg, request, response FROM legs WHERE pair_id = ?", (pair_id,)
        )
        legs = {
            role: self._leg(json.loads(leg), bytes(request), bytes(response), path)
            for role, leg, request, response in rows
        }
        primary_request = legs["primary"].request if "primary" in legs else b""
        return {
            role: replace(legs[role], request=primary_request) if _same_request(legs[role]) else legs[role]
            for role in sorted(legs, key=_ROLES.index)
        }

    def _leg(self, document: dict[str, Any], request: bytes, response: bytes, path: str) -> StoredLeg:
        messages = document.get("messages", {})
        if messages.get("sealed"):
            decrypted_request, decrypted_response = (
                self._cipher.decrypt(request),
                self._cipher.decrypt(response),
            )
            if decrypted_request is None or decrypted_response is None:
                undecryptable = {**document, "messages": {**messages, "unopened": True}}
                return StoredLeg(document=undecryptable, request=b"", response=b"", reply=None)
            request, response = decrypted_request, decrypted_response
        stored = messages.get("kept", "bodies") == "bodies" and messages.get("response") != "unreadable"
        reply = load_reply(document, response, path) if stored else None
        return StoredLeg(document=document, request=request, response=response, reply=reply)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


_ROLES: Final = ("primary", "shadow", "noise")


def _same_request(leg: StoredLeg) -> bool:
    """Whether a leg has the primary leg's request, which is stored only once, with the primary leg."""
    return bool(leg.document.get("messages", {}).get("request") == "same")


def _summary(
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
