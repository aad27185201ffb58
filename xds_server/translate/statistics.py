"""Request statistics: Envoy's stats access loggers (pure).

Several access loggers, each with a filter, add to counters and histograms that carry the cluster name;
route, variant and role are derived from the cluster name. `requests`, `broken` and `left` also
carry the status and the outcome (`outcomes.Outcome`), so that each request is in exactly one class.

On a sticky split, requests are also counted by the cell of the user: `cell` counts all, `cell_fault` those
that are no success, `cell_broken` and `cell_left` those with response flags.

Every `PERIOD`, Envoy also logs each request that has not ended. The logger of `waiting` counts a request at
the first of these times if no byte of an answer has arrived; all other loggers count a request when it ends.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLog,
    AccessLogFilter,
    AndFilter,
    ComparisonFilter,
    ComparisonFilterOp,
    DurationFilter,
    ExtensionFilter,
    HeaderFilter,
    LogTypeFilter,
    MetadataFilter,
    ResponseFlagFilter,
    StatusCodeFilter,
)
from envoy_data_plane.envoy.config.core.v3 import RuntimeUInt32
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.data.accesslog.v3 import AccessLogType
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3 import ExpressionFilter
from envoy_data_plane.envoy.extensions.access_loggers.stats.v3 import (
    Config,
    ConfigCounter,
    ConfigHistogram,
    ConfigStat,
    ConfigTag,
)
from envoy_data_plane.envoy.type.matcher.v3 import (
    MetadataMatcher,
    MetadataMatcherPathSegment,
    StringMatcher,
    ValueMatcher,
)
from envoy_data_plane.envoy.type.v3 import Scope

from xds_server.ir.versions import supports_request_statistics, supports_stats_scope
from xds_server.translate.encode import pack
from xds_server.translate.outcomes import ANSWER, FAULTS, outcome

__all__ = ["CELL_HEADER", "PERIOD", "ended", "statistics"]

CELL_HEADER: Final = "x-shiftplane-cell"
"""The request header with the cell of the user: set by a sticky split, a tag of the request counters."""

PERIOD: Final = timedelta(seconds=5)
"""The interval at which Envoy logs requests that have not ended."""

_BROKEN: Final = [
    "UH",
    "UF",
    "UO",
    "UT",
    "UC",
    "UR",
    "UPE",
    "URX",
    "UMSDR",
    "LR",
    "SI",
    "DT",
    "OM",
    "DF",
    "NC",
]
"""Response flags of responses that never started or broke off, whatever their status."""
_LEFT: Final = ["DC", "DR"]
_LAST_SUCCESS: Final = 399


def statistics(envoy: int, *, reads_answers: bool = True) -> list[AccessLog]:
    """Return the stats access loggers for Envoy 1.`envoy`; none if that version has no such logger.

    `reads_answers` is whether the filters of `answers` are in place.
    """
    if not supports_request_statistics(envoy):
        return []
    tags = [
        ConfigTag(name="code", value_format="%RESPONSE_CODE%"),
        ConfigTag(name="outcome", value_format=f"%CEL({outcome(envoy, reads_answers=reads_answers)})%"),
    ]
    succeeded = AccessLogFilter(
        status_code_filter=StatusCodeFilter(
            comparison=ComparisonFilter(
                op=ComparisonFilterOp.LE,
                value=RuntimeUInt32(default_value=_LAST_SUCCESS, runtime_key="shiftplane.success"),
            )
        )
    )
    streamed = _metadata("kind", ValueMatcher(string_match=StringMatcher(prefix="stream")))
    completion = f"%DYNAMIC_METADATA({ANSWER}:completion)%"
    return [
        _log(envoy, counters=[_counter("requests", fixed=1, tags=tags)]),
        _log(envoy, _flags(_BROKEN), counters=[_counter("broken", fixed=1, tags=tags)]),
        _log(envoy, _flags(_LEFT), counters=[_counter("left", fixed=1, tags=[*tags, _wait()])]),
        _log(envoy, _cel("upstream.request_attempt_count > 1"), counters=[_counter("retried", fixed=1)]),
        _waiting(envoy, _counter("waiting", fixed=1)),
        _log(
            envoy,
            succeeded,
            histograms=[
                _histogram("first_token_ms", "%COMMON_DURATION(DS_RX_BEG:US_RX_BODY_BEG:ms)%"),
                _histogram("duration_ms", "%DURATION%"),
            ],
        ),
        _log(
            envoy,
            _has_metadata("prompt"),
            counters=[
                _counter("metered", fixed=1),
                _counter("prompt_tokens", f"%DYNAMIC_METADATA({ANSWER}:prompt)%"),
            ],
        ),
        _log(
            envoy,
            _has_metadata("completion"),
            counters=[_counter("completion_tokens", completion)],
            histograms=[_histogram("tokens", completion)],
        ),
        _log(envoy, streamed, counters=[_counter("stream_bytes", "%BYTES_SENT%")]),
        _log(
            envoy,
            streamed,
            _has_metadata("completion"),
            counters=[
                _counter("stream_metered", fixed=1),
                _counter("stream_metered_bytes", "%BYTES_SENT%"),
                _counter("streamed_tokens", completion),
                _counter("stream_ms", "%COMMON_DURATION(US_RX_BODY_BEG:US_RX_END:ms)%"),
            ],
        ),
        *_by_cell(envoy, tags, reads_answers=reads_answers),
    ]


def _by_cell(envoy: int, tags: list[ConfigTag], *, reads_answers: bool) -> list[AccessLog]:
    """Return the loggers of requests that have a cell.

    Nearly all requests are successes, so only the others have a series for each status and outcome.
    """
    cell = ConfigTag(name="cell", value_format=f"%REQ({CELL_HEADER})%")
    known = AccessLogFilter(
        header_filter=HeaderFilter(header=HeaderMatcher(name=CELL_HEADER, present_match=True))
    )
    fault = _cel(f"{outcome(envoy, reads_answers=reads_answers)} in {FAULTS}")
    return [
        _log(envoy, known, counters=[_counter("cell", fixed=1, tags=[cell])]),
        _log(envoy, known, fault, counters=[_counter("cell_fault", fixed=1, tags=[*tags, cell])]),
        _log(envoy, known, _flags(_BROKEN), counters=[_counter("cell_broken", fixed=1, tags=[*tags, cell])]),
        _log(
            envoy,
            known,
            _flags(_LEFT),
            counters=[_counter("cell_left", fixed=1, tags=[*tags, _wait(), cell])],
        ),
        _waiting(envoy, _counter("cell_waiting", fixed=1, tags=[cell]), known),
    ]


def ended(*filters: AccessLogFilter) -> AccessLogFilter:
    """Return a filter that passes the log entry of the end of a request if all these conditions hold."""
    return _all_of(_log_type(AccessLogType.DownstreamEnd), *filters)


def _wait() -> ConfigTag:
    """Return the tag that separates clients that left before `PERIOD` from those counted as waiting."""
    short = f"request.duration < duration('{PERIOD.total_seconds():g}s')"
    return ConfigTag(name="wait", value_format=f"%CEL(({short} ? 'short' : 'long'))%")


def _waiting(envoy: int, counter: ConfigCounter, *conditions: AccessLogFilter) -> AccessLog:
    """Return the logger that counts a request once, if nothing of its answer has arrived after `PERIOD`."""
    first = AccessLogFilter(
        duration_filter=DurationFilter(
            comparison=ComparisonFilter(
                op=ComparisonFilterOp.LE,
                value=RuntimeUInt32(
                    default_value=int(1.5 * PERIOD.total_seconds() * 1000), runtime_key="shiftplane.waiting"
                ),
            )
        )
    )
    periodic = _log_type(AccessLogType.DownstreamPeriodic)
    return _stats_logger(
        envoy,
        _all_of(periodic, first, *conditions, _cel("response.size == 0")),
        Config(counters=[counter]),
    )


def _log(
    envoy: int,
    *conditions: AccessLogFilter,
    counters: list[ConfigCounter] | None = None,
    histograms: list[ConfigHistogram] | None = None,
) -> AccessLog:
    config = Config(counters=counters or [], histograms=histograms or [])
    return _stats_logger(envoy, ended(*conditions), config)


def _stats_logger(envoy: int, condition: AccessLogFilter, config: Config) -> AccessLog:
    if supports_stats_scope(envoy):
        config.stats_scope = Scope(prefix="llm")
    else:
        config.stat_prefix = "llm"
    return AccessLog(name="envoy.access_loggers.stats", filter=condition, typed_config=pack(config))


def _stat(name: str, tags: list[ConfigTag]) -> ConfigStat:
    cluster = ConfigTag(name="cluster", value_format="%UPSTREAM_CLUSTER_RAW%")
    return ConfigStat(name=name, tags=[cluster, *tags])


def _counter(
    name: str, value: str = "", *, fixed: int | None = None, tags: list[ConfigTag] | None = None
) -> ConfigCounter:
    counter = ConfigCounter(stat=_stat(name, tags or []))
    if fixed is None:
        counter.value_format = value
    else:
        counter.value_fixed = fixed
    return counter


def _histogram(name: str, value: str) -> ConfigHistogram:
    return ConfigHistogram(stat=_stat(name, []), value_format=value)


def _flags(flags: list[str]) -> AccessLogFilter:
    return AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=flags))


def _log_type(*types: AccessLogType) -> AccessLogFilter:
    return AccessLogFilter(log_type_filter=LogTypeFilter(types=list(types)))


def _cel(expression: str) -> AccessLogFilter:
    return AccessLogFilter(
        extension_filter=ExtensionFilter(
            name="envoy.access_loggers.extension_filters.cel",
            typed_config=pack(ExpressionFilter(expression=expression)),
        )
    )


def _all_of(*filters: AccessLogFilter) -> AccessLogFilter:
    return filters[0] if len(filters) == 1 else AccessLogFilter(and_filter=AndFilter(filters=list(filters)))


def _has_metadata(key: str) -> AccessLogFilter:
    """Return a filter that requires this key, because Envoy logs a warning if a number is missing."""
    return _metadata(key, ValueMatcher(present_match=True))


def _metadata(key: str, value: ValueMatcher) -> AccessLogFilter:
    return AccessLogFilter(
        metadata_filter=MetadataFilter(
            matcher=MetadataMatcher(filter=ANSWER, path=[MetadataMatcherPathSegment(key=key)], value=value),
            match_if_key_not_found=False,
        )
    )
