"""The pages: an overview, lists of pairs, and one pair side by side.

Everything shown comes from where the API has it. Who may not read messages sees figures only: nothing of a
message is put into a page for them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import jinja2
from aiohttp import web

from mirror_collector.serve.auth import ROLE, Role
from mirror_collector.serve.pages.diff import word_diff
from mirror_collector.serve.pages.timeline import interval, timeline
from mirror_collector.serve.query import pair_query
from mirror_collector.serve.views import feedback_view, pair_view, summary_view
from mirror_collector.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirror_collector.compare import Ledger
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
    ("worst", "Worst first", {"order": "worst"}),
    ("refused", "Refusals", {"flags": "refused"}),
    ("tool_calls", "Other tool calls", {"flags": "tool_calls"}),
    ("longer", "Twice as long", {"flags": "longer"}),
    ("shorter", "Half as long", {"flags": "shorter"}),
    ("failed", "Failures", {"flags": "failed"}),
    ("empty", "Empty", {"flags": "empty"}),
    ("invalid_json", "Broken JSON", {"flags": "invalid_json"}),
    ("language", "Other language", {"flags": "language"}),
    ("client_left", "Client left", {"flags": "client_left"}),
)
_PER_PAGE: Final = "30"
_NOTHING: Final = "\N{EN DASH}"
_LONGEST: Final = 60_000
"""Characters of one message on a page."""

MEASURE_WORDS: Final = {
    "exact": "the same text",
    "rouge_l": "words in common (ROUGE-L)",
    "edit": "characters in common",
    "meaning": "meaning (word embeddings)",
    "finish_reason": "the same end",
    "tool_calls": "the same tool calls",
    "language": "the same language",
}
TRAIT_WORDS: Final = {
    "failed": "failed",
    "empty": "empty",
    "refused": "refused",
    "cut": "cut off by the token limit",
    "invalid_json": "broken JSON where JSON was asked for",
    "invalid_calls": "broken tool arguments",
}
WHY: Final = {
    "failed": "the shadow failed",
    "empty": "the shadow said nothing",
    "refused": "the shadow refused",
    "cut": "the shadow was cut off by its token limit",
    "invalid_json": "JSON was asked for and the shadow's is broken",
    "invalid_calls": "the arguments of the shadow's tool calls are no JSON object",
    "tool_calls": "other tools, or other arguments",
    "longer": "at least twice as long",
    "shorter": "at most half as long",
    "language": "another language",
    "finish_reason": "another finish reason",
    "client_left": "the client left: this pair counts for nothing",
    "limited": "our own limits cut the copy off: this pair counts for nothing",
    "different": "another text",
}


def page_routes(store: Store, ledger: Callable[[], Ledger]) -> list[web.RouteDef]:
    """Return the routes of the pages."""
    pages = _Pages(store, ledger)
    return [
        web.get("/", pages.overview),
        web.get("/pairs", pages.pairs),
        web.get("/pairs/{id}", pages.pair),
    ]


class _Pages:
    def __init__(self, store: Store, ledger: Callable[[], Ledger]) -> None:
        self._store = store
        self._ledger = ledger
        folder = files("mirror_collector.serve.pages") / "templates"
        loader = jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8"))
        self._templates = jinja2.Environment(
            loader=loader,
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(number=_number, ms=_ms, clock=_clock, percent=_share, query=urlencode)
        self._templates.globals.update(
            interval=interval, measures=MEASURE_WORDS, traits=TRAIT_WORDS, why=WHY, filters=_FILTERS
        )

    async def overview(self, request: web.Request) -> web.Response:
        summary = summary_view(self._ledger())
        try:
            feedback = [feedback_view(one) for one in await self._store.feedback(None)]
        except StoreError as error:
            return self._page(request, "error.html", status=503, words=str(error))
        return self._page(
            request, "overview.html", summary=summary, feedback=feedback, failure=self._store.failure
        )

    async def pairs(self, request: web.Request) -> web.Response:
        given = dict(request.query)
        try:
            query = pair_query({"limit": _PER_PAGE, **given})
            page = await self._store.page(query)
        except ValueError as error:
            return self._page(request, "error.html", status=400, words=str(error))
        except StoreError as error:
            return self._page(request, "error.html", status=503, words=str(error))
        kept = {name: value for name, value in given.items() if name in {"route", "flags", "order"} and value}
        following = None if page.following is None else {**kept, "before": str(page.following)}
        routes = sorted(self._ledger().routes)
        return self._page(
            request, "pairs.html", pairs=page.pairs, given=kept, following=following, routes=routes
        )

    async def pair(self, request: web.Request) -> web.Response:
        text = request.match_info["id"]
        known = text.isascii() and text.isdigit() and len(text) <= 18
        try:
            stored = await self._store.pair(int(text)) if known else None
        except StoreError as error:
            return self._page(request, "error.html", status=503, words=str(error))
        if stored is None:
            words = "There is no such pair; it may be past its retention."
            return self._page(request, "error.html", status=404, words=words)
        may_read = request[ROLE] >= Role.READER
        pair = pair_view(stored, bodies=may_read)
        legs = [pair[role] for role in ("primary", "shadow", "noise") if role in pair]
        return self._page(
            request,
            "pair.html",
            pair=pair,
            legs=legs,
            scale=timeline(legs),
            texts=_texts(pair) if may_read else None,
            may_read=may_read,
        )

    def _page(self, request: web.Request, name: str, *, status: int = 200, **values: Any) -> web.Response:
        del request
        body = self._templates.get_template(name).render(**values)
        return web.Response(text=body, content_type="text/html", status=status, headers=_HEADERS)


def _texts(pair: dict[str, Any]) -> dict[str, Any] | None:
    """Return what was said, side by side; None where nothing of it was kept."""
    said: dict[str, Any] = {
        role: (pair.get(role) or {}).get("reply") for role in ("primary", "shadow", "noise")
    }
    if said["primary"] is None or said["shadow"] is None:
        return None
    primary: str = said["primary"]["text"][:_LONGEST]
    shadow: str = said["shadow"]["text"][:_LONGEST]
    left, right = word_diff(primary, shadow)
    asked = (pair["primary"]["request"]["text"] or "")[:_LONGEST]
    noise = None if said["noise"] is None else word_diff(primary, said["noise"]["text"][:_LONGEST])[1]
    return {"left": left, "right": right, "noise": noise, "asked": asked, "said": said}


def _number(value: float | None, digits: int = 2) -> str:
    return _NOTHING if value is None else f"{value:,.{digits}f}"


def _ms(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:,.0f} ms"


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _share(same: float, of: float) -> str:
    return _NOTHING if not of else f"{100 * same / of:.1f} %"
