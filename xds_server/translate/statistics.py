"""Request statistics: Envoy's stats access loggers and usage filters (pure).

Several access loggers, all but the first with a filter, add to counters and histograms that carry the
cluster name; route, variant and role are derived from the cluster name. Tokens come from the `usage` object
at the end of a response. Reading `usage` from plain JSON delays the response until it is complete, and a
response beyond the buffer limit would become an error; the filter therefore skips responses that are not JSON
or do not declare a length below a megabyte. Streams are read without buffering.
"""

from __future__ import annotations

from typing import Final

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLog,
    AccessLogFilter,
    AndFilter,
    ComparisonFilter,
    ComparisonFilterOp,
    MetadataFilter,
    ResponseFlagFilter,
    StatusCodeFilter,
)
from envoy_data_plane.envoy.config.core.v3 import RuntimeUInt32, TypedExtensionConfig
from envoy_data_plane.envoy.extensions.access_loggers.stats.v3 import (
    Config,
    ConfigCounter,
    ConfigHistogram,
    ConfigStat,
    ConfigTag,
)
from envoy_data_plane.envoy.extensions.common.matching.v3 import ExtensionWithMatcher
from envoy_data_plane.envoy.extensions.content_parsers.json.v3 import (
    JsonContentParser,
    JsonContentParserRuleConfig,
)
from envoy_data_plane.envoy.extensions.filters.common.matcher.action.v3 import SkipFilter
from envoy_data_plane.envoy.extensions.filters.http.json_to_metadata.v3 import (
    JsonToMetadata,
    JsonToMetadataKeyValuePair,
    JsonToMetadataMatchRules,
    JsonToMetadataRule,
    JsonToMetadataSelector,
    JsonToMetadataValueType,
)
from envoy_data_plane.envoy.extensions.filters.http.sse_to_metadata.v3 import (
    SseToMetadata,
    SseToMetadataProcessingRules,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.type.matcher.v3 import (
    HttpResponseHeaderMatchInput,
    MetadataMatcher,
    MetadataMatcherPathSegment,
    RegexMatcher,
    ValueMatcher,
)
from envoy_data_plane.envoy.type.v3 import Scope
from envoy_data_plane.google.protobuf import Value
from envoy_data_plane.xds.core.v3 import TypedExtensionConfig as XdsExtension
from envoy_data_plane.xds.type.matcher.v3 import (
    Matcher,
    MatcherMatcherList,
    MatcherMatcherListFieldMatcher,
    MatcherMatcherListPredicate,
    MatcherMatcherListPredicatePredicateList,
    MatcherMatcherListPredicateSinglePredicate,
    MatcherOnMatch,
)
from envoy_data_plane.xds.type.matcher.v3 import RegexMatcher as XdsRegex
from envoy_data_plane.xds.type.matcher.v3 import RegexMatcherGoogleRe2 as XdsRe2
from envoy_data_plane.xds.type.matcher.v3 import StringMatcher as XdsString

from xds_server.ir.versions import supports_request_statistics, supports_stats_scope
from xds_server.translate.encode import pack

__all__ = ["statistics", "usage_filters"]

_SPACE: Final = "shiftplane.llm"
_JSON: Final = r"application/json\s*(;.*)?"
_SHORT: Final = "[0-9]{1,6}"
_LONGEST_EVENT: Final = 1 << 20
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


def statistics(envoy: int) -> list[AccessLog]:
    """Return the stats access loggers for Envoy 1.`envoy`; none if that version has no such logger."""
    if not supports_request_statistics(envoy):
        return []
    one = ConfigTag(name="code", value_format="%RESPONSE_CODE%")
    succeeded = AccessLogFilter(
        status_code_filter=StatusCodeFilter(
            comparison=ComparisonFilter(
                op=ComparisonFilterOp.LE,
                value=RuntimeUInt32(default_value=_LAST_SUCCESS, runtime_key="shiftplane.success"),
            )
        )
    )
    return [
        _log(envoy, None, counters=[_counter("requests", fixed=1, tags=[one])]),
        _log(envoy, _flags(_BROKEN), counters=[_counter("broken", fixed=1, tags=[one])]),
        _log(envoy, _flags(_LEFT), counters=[_counter("left", fixed=1, tags=[one])]),
        _log(
            envoy,
            succeeded,
            counters=[_counter("bytes", "%BYTES_SENT%")],
            histograms=[
                _histogram("first_token_ms", "%COMMON_DURATION(DS_RX_BEG:US_RX_BODY_BEG:ms)%"),
                _histogram("duration_ms", "%DURATION%"),
            ],
        ),
        _log(
            envoy,
            _has_metadata("completion", "prompt"),
            counters=[
                _counter("metered", fixed=1),
                _counter("prompt_tokens", f"%DYNAMIC_METADATA({_SPACE}:prompt)%"),
                _counter("completion_tokens", f"%DYNAMIC_METADATA({_SPACE}:completion)%"),
                _counter("metered_bytes", "%BYTES_SENT%"),
            ],
            histograms=[_histogram("tokens", f"%DYNAMIC_METADATA({_SPACE}:completion)%")],
        ),
        _log(
            envoy,
            _has_metadata("streamed"),
            counters=[
                _counter("streamed_tokens", f"%DYNAMIC_METADATA({_SPACE}:streamed)%"),
                _counter("stream_ms", "%COMMON_DURATION(US_RX_BODY_BEG:US_RX_END:ms)%"),
            ],
        ),
        _log(envoy, _has_metadata("invalid"), counters=[_counter("invalid", fixed=1)]),
    ]


def usage_filters() -> list[HttpFilter]:
    """Return the filters that read the token usage of plain and streamed responses."""
    return [_plain(), _streamed()]


def _log(
    envoy: int,
    only: AccessLogFilter | None,
    *,
    counters: list[ConfigCounter],
    histograms: list[ConfigHistogram] | None = None,
) -> AccessLog:
    config = Config(counters=counters, histograms=histograms or [])
    if supports_stats_scope(envoy):
        config.stats_scope = Scope(prefix="llm")
    else:
        config.stat_prefix = "llm"
    log = AccessLog(name="envoy.access_loggers.stats", typed_config=pack(config))
    if only is not None:
        log.filter = only
    return log


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


def _has_metadata(*keys: str) -> AccessLogFilter:
    """Return a filter that requires all these keys: Envoy logs a warning for each missing number."""
    filters = [
        AccessLogFilter(
            metadata_filter=MetadataFilter(
                matcher=MetadataMatcher(
                    filter=_SPACE,
                    path=[MetadataMatcherPathSegment(key=key)],
                    value=ValueMatcher(present_match=True),
                ),
                match_if_key_not_found=False,
            )
        )
        for key in keys
    ]
    return filters[0] if len(filters) == 1 else AccessLogFilter(and_filter=AndFilter(filters=filters))


def _rules() -> list[JsonToMetadataRule]:
    return [_rule("prompt", "prompt_tokens"), _rule("completion", "completion_tokens")]


def _rule(key: str, field: str) -> JsonToMetadataRule:
    return JsonToMetadataRule(
        selectors=[JsonToMetadataSelector(key="usage"), JsonToMetadataSelector(key=field)],
        on_present=JsonToMetadataKeyValuePair(
            metadata_namespace=_SPACE, key=key, type=JsonToMetadataValueType.NUMBER
        ),
    )


def _plain() -> HttpFilter:
    rules = _rules()
    rules[0].on_error = JsonToMetadataKeyValuePair(
        metadata_namespace=_SPACE, key="invalid", value=Value(string_value="yes")
    )
    reads = JsonToMetadata(
        response_rules=JsonToMetadataMatchRules(
            rules=rules, allow_content_types_regex=RegexMatcher(regex=_JSON)
        )
    )
    short = MatcherMatcherListPredicate(
        and_matcher=MatcherMatcherListPredicatePredicateList(
            predicate=[_header("content-length", _SHORT), _header("content-type", _JSON)]
        )
    )
    steps_aside = MatcherOnMatch(action=XdsExtension(name="skip", typed_config=pack(SkipFilter())))
    config = ExtensionWithMatcher(
        extension_config=TypedExtensionConfig(
            name="envoy.filters.http.json_to_metadata", typed_config=pack(reads)
        ),
        xds_matcher=Matcher(
            matcher_list=MatcherMatcherList(
                matchers=[
                    MatcherMatcherListFieldMatcher(
                        predicate=MatcherMatcherListPredicate(not_matcher=short), on_match=steps_aside
                    )
                ]
            )
        ),
    )
    return HttpFilter(name="shiftplane.usage.plain", typed_config=pack(config))


def _header(name: str, regex: str) -> MatcherMatcherListPredicate:
    return MatcherMatcherListPredicate(
        single_predicate=MatcherMatcherListPredicateSinglePredicate(
            input=XdsExtension(name=name, typed_config=pack(HttpResponseHeaderMatchInput(header_name=name))),
            value_match=XdsString(safe_regex=XdsRegex(google_re2=XdsRe2(), regex=regex)),
        )
    )


def _streamed() -> HttpFilter:
    rules = [*_rules(), _rule("streamed", "completion_tokens")]
    parser = JsonContentParser(rules=[JsonContentParserRuleConfig(rule=rule) for rule in rules])
    config = SseToMetadata(
        response_rules=SseToMetadataProcessingRules(
            content_parser=TypedExtensionConfig(name="envoy.content_parsers.json", typed_config=pack(parser)),
            max_event_size=_LONGEST_EVENT,
        )
    )
    return HttpFilter(name="shiftplane.usage.streamed", typed_config=pack(config))
