"""Analysis: which metrics there are, and what fits together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xds_server.spec.analysis import COMPARED
from xds_server.spec.check.values import at, items, near, one_of
from xds_server.spec.shape import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.spec.document import Loc

__all__ = ["CHECKS"]

_HERE: Final[Loc] = ("spec", "analysis")
_OF_COMPARISON: Final = ("maxRatio", "margin", "acceptable")
_OF_THRESHOLD: Final = ("window", "failureLimit")


def _metrics(spec: Any) -> Iterator[Finding]:
    seen: set[str] = set()
    for number, metric in enumerate(items(at(spec, "analysis", "metrics"))):
        name, loc = at(metric, "name"), (*_HERE, "metrics", number)
        if not isinstance(name, str):
            continue
        if name in seen:
            yield Finding((*loc, "name"), f"{name!r} is judged already", "name each metric once")
        seen.add(name)
        yield from _metric(loc, name, metric)


def _metric(loc: Loc, name: str, metric: Any) -> Iterator[Finding]:
    queried, limited = metric.get("query") is not None, metric.get("threshold") is not None
    if queried and not limited:
        yield Finding((*loc, "query"), "has no threshold", "say what is wrong, such as threshold: '> 0.9'")
    if not queried and name not in COMPARED:
        yield Finding(
            (*loc, "name"), f"{name!r} is not a metric{near(name, list(COMPARED))}", one_of(list(COMPARED))
        )
    for field in _OF_COMPARISON if limited else _OF_THRESHOLD:
        if field in metric:
            other = "a fixed threshold compares nothing" if limited else "there is no threshold"
            yield Finding((*loc, field), f"means nothing here: {other}", "leave it away")
    ratio, margin = metric.get("maxRatio"), metric.get("margin")
    if isinstance(ratio, int | float) and isinstance(margin, int | float) and margin <= ratio:
        yield Finding(
            (*loc, "margin"),
            f"{margin:g} is not above maxRatio {ratio:g}: nothing could ever pass",
            "what is tolerated lies below what must be excluded",
        )


def _prices(spec: Any) -> Iterator[Finding]:
    names = [at(metric, "name") for metric in items(at(spec, "analysis", "metrics"))]
    if "cost-per-request" not in names:
        return
    compared = {at(spec, "stable"), at(spec, "candidate")}
    for number, backend in enumerate(items(at(spec, "backends"))):
        if at(backend, "name") in compared and at(backend, "price") is None:
            yield Finding(
                ("spec", "backends", number),
                "has no price, and cost-per-request is judged",
                "set price: {inputPerMillion: …, outputPerMillion: …}",
            )


def _currencies(spec: Any) -> Iterator[Finding]:
    known: str | None = None
    for number, backend in enumerate(items(at(spec, "backends"))):
        price = at(backend, "price")
        if not isinstance(price, dict):
            continue
        currency = price.get("currency", "USD")
        if known is not None and currency != known:
            loc: Loc = ("spec", "backends", number, "price", "currency")
            yield Finding(loc, f"{currency!r} is not {known!r}", "prices of one route need one currency")
        known = known or currency


CHECKS: Final = (_metrics, _prices, _currencies)
