"""The pages: an overview, lists of pairs, and one pair with its answers side by side.

The pages show the same data as the API. Pages for clients that may not read messages contain no message text.
"""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import jinja2
from aiohttp import web

from mirror_collector.serve.auth import ACCESS_ROLE, AccessRole
from mirror_collector.serve.pages.diff import word_diff
from mirror_collector.serve.pages.timeline import interval, timeline
from mirror_collector.serve.query import pair_id, pair_query
from mirror_collector.serve.views import feedback_view, pair_view, summary_view
from mirror_collector.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirror_collector.compare import CollectorTotals
    from mirror_collector.store import Store

__all__ = ["page_routes"]

_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}
_FILTERS: Final = (
    ("Worst first", {"order": "worst"}),
    ("Refused", {"flags": "refused"}),
    ("Different tool calls", {"flags": "tool_calls"}),
    ("At least twice as long", {"flags": "longer"}),
    ("At most half as long", {"flags": "shorter"}),
    ("Failed", {"flags": "failed"}),
    ("Unread", {"flags": "unread"}),
    ("Empty", {"flags": "empty"}),
    ("Invalid JSON", {"flags": "invalid_json"}),
    ("Different language", {"flags": "language"}),
    ("Client disconnected", {"flags": "client_left"}),
)
_PER_PAGE: Final = "30"
_NO_VALUE: Final = "\N{EN DASH}"
_MAX_MESSAGE: Final = 60_000
"""Maximum number of characters of one message on a page."""

MEASURE_LABELS: Final = {
    "exact": "the same answer",
    "rouge_l": "common words (ROUGE-L)",
    "edit": "common characters",
    "meaning": "the same meaning (word embeddings)",
    "finish_reason": "the same finish reason",
    "tool_calls": "the same tool calls",
    "language": "the same language",
    "vector": "the same direction of embeddings (cosine)",
    "ranking": "the same order of results (rank correlation)",
    "top_result": "the same first result",
    "scores": "close scores",
    "transcript": "the same words of a transcript",
    "document": "close fields of a document",
}
TRAIT_LABELS: Final = {
    "failed": "failed",
    "unreadable": "unreadable",
    "empty": "empty",
    "refused": "refused",
    "cut": "cut off by the token limit",
    "invalid_json": "invalid JSON where JSON was requested",
    "invalid_calls": "invalid tool calls",
}
FLAG_LABELS: Final = {
    "failed": "the shadow failed",
    "unreadable": "the shadow's answer is empty, corrupt, or no answer of this API",
    "unread": "an answer could not be read: this pair is no evidence of equality",
    "empty": "the shadow's answer is empty",
    "refused": "the shadow refused",
    "cut": "the token limit cut off the shadow's answer",
    "invalid_json": "JSON was requested, and the shadow's JSON is invalid",
    "invalid_calls": "a tool call of the shadow is invalid: unknown tool, or invalid or missing arguments",
    "tool_calls": "different tool calls",
    "longer": "at least twice as long as the primary's answer",
    "shorter": "at most half as long as the primary's answer",
    "language": "different language",
    "finish_reason": "different finish reason",
    "client_left": "the client disconnected: the comparison excludes this pair",
    "limited": "limits on shadow traffic prevented the shadow's answer: the comparison excludes this pair",
    "different": "different answer",
}


def page_routes(store: Store, totals: Callable[[], CollectorTotals]) -> list[web.RouteDef]:
    """Return the routes of the pages; `totals` returns the current totals."""
    pages = _Pages(store, totals)
    return [
        web.get("/", pages.overview),
        web.get("/pairs", pages.pairs),
        web.get("/pairs/{id}", pages.pair),
    ]


class _Pages:
    def __init__(self, store: Store, totals: Callable[[], CollectorTotals]) -> None:
        self._store = store
        self._totals = totals
        folder = files("mirror_collector.serve.pages") / "templates"
        loader = jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8"))
        self._templates = jinja2.Environment(
            loader=loader,
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(number=_number, ms=_ms, utc=_utc, percent=_percentage, query=urlencode)
        self._templates.globals.update(
            interval=interval,
            measure_labels=MEASURE_LABELS,
            trait_labels=TRAIT_LABELS,
            flag_labels=FLAG_LABELS,
            filters=_FILTERS,
        )

    async def overview(self, _request: web.Request) -> web.Response:
        summary = summary_view(self._totals())
        try:
            feedback = [feedback_view(one) for one in await self._store.feedback(None)]
        except StoreError as error:
            return self._error(503, str(error))
        return self._page("overview.html", summary=summary, feedback=feedback, failure=self._store.failure)

    async def pairs(self, request: web.Request) -> web.Response:
        parameters = dict(request.query)
        try:
            query = pair_query({"limit": _PER_PAGE, **parameters})
            page = await self._store.page(query)
        except ValueError as error:
            return self._error(400, str(error))
        except StoreError as error:
            return self._error(503, str(error))
        selected = {
            name: value for name, value in parameters.items() if name in {"route", "flags", "order"} and value
        }
        next_page = None if page.next_cursor is None else {**selected, "before": str(page.next_cursor)}
        routes = sorted(self._totals().routes)
        return self._page(
            "pairs.html", pairs=page.pairs, selected=selected, next_page=next_page, routes=routes
        )

    async def pair(self, request: web.Request) -> web.Response:
        number = pair_id(request.match_info["id"])
        try:
            stored = None if number is None else await self._store.pair(number)
        except StoreError as error:
            return self._error(503, str(error))
        if stored is None:
            return self._error(
                404, "There is no such pair; it may have been deleted after its retention time."
            )
        may_read = request[ACCESS_ROLE] >= AccessRole.READER
        pair = pair_view(stored, bodies=may_read)
        legs = [pair[role] for role in ("primary", "shadow", "noise") if role in pair]
        return self._page(
            "pair.html",
            pair=pair,
            legs=legs,
            timeline=timeline(legs),
            texts=_texts(pair) if may_read else None,
            may_read=may_read,
        )

    def _error(self, status: int, message: str) -> web.Response:
        return self._page("error.html", status=status, message=message)

    def _page(self, name: str, *, status: int = 200, **values: Any) -> web.Response:
        body = self._templates.get_template(name).render(**values)
        return web.Response(text=body, content_type="text/html", status=status, headers=_HEADERS)


def _texts(pair: dict[str, Any]) -> dict[str, Any] | None:
    """Return the request, the replies and their differences; None if no messages are stored."""
    replies: dict[str, Any] = {
        role: (pair.get(role) or {}).get("reply") for role in ("primary", "shadow", "noise")
    }
    if replies["primary"] is None or replies["shadow"] is None:
        return None
    primary: str = replies["primary"]["text"][:_MAX_MESSAGE]
    shadow: str = replies["shadow"]["text"][:_MAX_MESSAGE]
    left, right = word_diff(primary, shadow)
    noise = None
    if replies["noise"] is not None:
        noise = word_diff(primary, replies["noise"]["text"][:_MAX_MESSAGE])[1]
    request = (pair["primary"]["request"]["text"] or "")[:_MAX_MESSAGE]
    return {"left": left, "right": right, "noise": noise, "request": request, "replies": replies}


def _number(value: float | None, digits: int = 2) -> str:
    return _NO_VALUE if value is None else f"{value:,.{digits}f}"


def _ms(value: float | None) -> str:
    return _NO_VALUE if value is None else f"{value:,.0f} ms"


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _percentage(count: float, of: float) -> str:
    return _NO_VALUE if not of else f"{100 * count / of:.1f} %"
