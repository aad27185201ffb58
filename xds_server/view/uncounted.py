"""Connected proxies whose requests are not counted, or not in full, and why (pure).

A proxy with a bootstrap of `shiftplane bootstrap` counts all requests. A proxy with another bootstrap, or
whose statistics do not arrive, also serves users, but guards and verdicts lack some or all of its counts.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from xds_server.ir.versions import is_envoy, minor_version, supports_request_statistics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from xds_server.view.model import ProxyView

__all__ = ["StatisticsDefect", "text_of", "uncounted", "uncounted_texts"]

_GRACE: Final = 60.0
"""A proxy without statistics is reported once it has been connected for this number of seconds."""
_MAX_NAMED: Final = 3


class StatisticsDefect(Enum):
    """What is missing in the statistics of a proxy; the value is the label of the metric."""

    SILENT = "silent"
    """The proxy sends no statistics: its bootstrap has no sink for them, or its stream is rejected."""
    UNTAGGED = "untagged"
    """The sink of the proxy does not send tags as labels, so its counts name no backend."""
    NO_REQUESTS = "no_requests"
    """Backends received requests from the proxy, but its statistics do not include counts of them."""
    NO_OUTCOMES = "no_outcomes"
    """The proxy has a configuration of an earlier version, which counts requests without their outcome."""
    NO_BUCKETS = "no_buckets"
    """The proxy's histograms do not have the buckets in which times and tokens are compared."""


_TEXTS: Final = {
    StatisticsDefect.SILENT: "sends no statistics (stats_sinks in its bootstrap, or its stream is refused): "
    "its requests are not guarded",
    StatisticsDefect.UNTAGGED: "sends statistics without tags (emit_tags_as_labels in its bootstrap): its "
    "requests are not guarded",
    StatisticsDefect.NO_REQUESTS: "sends no counts of requests (llm.* in stats_matcher of its bootstrap): "
    "its requests are not guarded",
    StatisticsDefect.NO_OUTCOMES: "counts requests without outcomes (its configuration is of an earlier "
    "version): faults inside its answers are not found",
    StatisticsDefect.NO_BUCKETS: "sends histograms with other buckets (histogram_bucket_settings and "
    "histogram_emit_mode in its bootstrap): its times and empty answers are not compared",
}


def uncounted(
    proxies: Iterable[ProxyView], defects: Mapping[tuple[str, str], StatisticsDefect | None], now: float
) -> dict[tuple[str, str], StatisticsDefect]:
    """Return the defects of connected proxies, by group and node id; proxies without one are omitted.

    `defects` contains each client that sends statistics, None for a client without a defect. Clients other
    than Envoy, and versions of Envoy that cannot count requests, are omitted, because no change of their
    bootstrap would help.
    """
    found = {}
    for proxy in proxies:
        if not is_envoy(proxy.envoy_version):
            continue
        if not supports_request_statistics(minor_version(proxy.envoy_version)):
            continue
        key = proxy.group, proxy.id
        defect = defects.get(key)
        if key not in defects and now - proxy.connected_since >= _GRACE:
            defect = StatisticsDefect.SILENT
        if defect is not None:
            found[key] = defect
    return found


def text_of(defect: StatisticsDefect) -> str:
    """Return the description of a defect, which follows the name of a proxy in a sentence."""
    return _TEXTS[defect]


def uncounted_texts(found: Mapping[tuple[str, str], StatisticsDefect]) -> dict[str, tuple[str, ...]]:
    """Return sentences by group, one per defect; each names the first few proxies that have it."""
    nodes: dict[tuple[str, StatisticsDefect], list[str]] = {}
    for (group, node), defect in sorted(found.items(), key=lambda item: (item[0], item[1].value)):
        nodes.setdefault((group, defect), []).append(node)
    texts: dict[str, tuple[str, ...]] = {}
    for (group, defect), ids in nodes.items():
        more = f" and {len(ids) - _MAX_NAMED} more" if len(ids) > _MAX_NAMED else ""
        subject = f"{'each of ' if len(ids) > 1 else ''}{', '.join(ids[:_MAX_NAMED])}{more}"
        texts[group] = (*texts.get(group, ()), f"{subject} {_TEXTS[defect]}")
    return texts
