"""Checks of `analysis`: metrics, thresholds, prices and currencies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xds_server.spec.analysis import COMPARED
from xds_server.spec.check.values import at, hint, items
from xds_server.spec.shape import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.spec.document import Loc

__all__ = ["CHECKS"]

_LOC: Final[Loc] = ("spec", "analysis")
_COMPARISON_FIELDS: Final = ("maxRatio", "margin", "acceptable")
_THRESHOLD_FIELDS: Final = ("window", "failureLimit")


def _metrics(spec: Any) -> Iterator[Finding]:
    seen: set[str] = set()
    for number, metric in enumerate(items(at(spec, "analysis", "metrics"))):
        name, loc = at(metric, "name"), (*_LOC, "metrics", number)
        if not isinstance(name, str):
            continue
        if name in seen:
            yield Finding((*loc, "name"), f"duplicate metric {name!r}", "define each metric once")
        seen.add(name)
        yield from _metric(loc, name, metric)


def _metric(loc: Loc, name: str, metric: Any) -> Iterator[Finding]:
    queried, limited = metric.get("query") is not None, metric.get("threshold") is not None
    if queried and not limited:
        yield Finding((*loc, "query"), "a query requires a threshold", "add one such as threshold: '> 0.9'")
    if not queried and name not in COMPARED:
        yield Finding(
            (*loc, "name"),
            f"unknown metric {name!r}{hint(name, list(COMPARED))}",
            f"add a query, or use a built-in metric: {', '.join(COMPARED)}",
        )
    for field in _COMPARISON_FIELDS if limited else _THRESHOLD_FIELDS:
        if field in metric:
            if limited:
                yield Finding((*loc, field), "has no effect with a threshold", "remove it")
            else:
                yield Finding(
                    (*loc, field), "has no effect without a threshold", "remove it, or add a threshold"
                )
    ratio, margin = metric.get("maxRatio"), metric.get("margin")
    if isinstance(ratio, int | float) and isinstance(margin, int | float) and margin <= ratio:
        yield Finding(
            (*loc, "margin"),
            f"{margin:g} is not greater than maxRatio, which is {ratio:g}",
            f"set margin to more than {ratio:g}, or lower maxRatio",
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
                "has no price, which the metric cost-per-request requires",
                "add price: {inputPerMillion: …, outputPerMillion: …}",
            )


def _currencies(spec: Any) -> Iterator[Finding]:
    first: str | None = None
    for number, backend in enumerate(items(at(spec, "backends"))):
        price = at(backend, "price")
        if not isinstance(price, dict):
            continue
        currency = price.get("currency", "USD")
        if first is not None and currency != first:
            loc: Loc = ("spec", "backends", number, "price", "currency")
            default = "" if "currency" in price else " (the default)"
            yield Finding(
                loc,
                f"currency {currency!r}{default} differs from {first!r}, the currency of an earlier backend",
                "use one currency for all backends of a route",
            )
        first = first or currency


CHECKS: Final = (_metrics, _prices, _currencies)
