"""Filters that read token usage, errors and end marks from answers, for Envoy to count (pure).

The filter of plain answers delays a response until it is complete, and turns a response beyond the buffer
limit into an error. It therefore skips responses that are not JSON or do not declare a length below a
megabyte, and compressed JSON, which it would report as invalid. The filter of streams buffers no response.

The parsers cost most of the time, and every rule is evaluated for each event. Streams of the APIs whose
events have a `type` therefore have a parser of their own, rules that matter once stop after their first
match, and rules for what is usually missing begin with a parent object: for a missing value, Envoy makes five
lookups, and for a missing parent one.
"""

from __future__ import annotations

from typing import Final

from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.extensions.common.matching.v3 import ExtensionWithMatcher
from envoy_data_plane.envoy.extensions.content_parsers.json.v3 import (
    JsonContentParser,
    JsonContentParserRuleConfig,
)
from envoy_data_plane.envoy.extensions.filters.common.matcher.action.v3 import SkipFilter
from envoy_data_plane.envoy.extensions.filters.http.composite.v3 import Composite, ExecuteFilterAction
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
    HttpRequestHeaderMatchInput,
    HttpResponseHeaderMatchInput,
    RegexMatcher,
)
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

from xds_server.ir.versions import reads_streams
from xds_server.translate.encode import pack
from xds_server.translate.outcomes import ANSWER

__all__ = ["answer_filters"]

_JSON: Final = r"(?i)application/([^;]*[+])?json\s*(;.*)?"
_SHORT: Final = "[0-9]{1,6}"
_COMPRESSED: Final = "([^i]|i[^d]).*"
"""Matches content encodings other than `identity`: those that do not begin with `id`."""
_TYPED_EVENTS: Final = r"[^?]*/(messages|responses)([?].*)?"
"""Matches the paths of the APIs whose events have a `type`."""
_LONGEST_EVENT: Final = 1 << 20
_NUMBER: Final = JsonToMetadataValueType.NUMBER
_STRING: Final = JsonToMetadataValueType.STRING

_Predicate = MatcherMatcherListPredicate


def answer_filters(envoy: int) -> list[HttpFilter]:
    """Return the filters that read plain and streamed answers, for Envoy 1.`envoy`."""
    return [_plain(), *([_streamed()] if reads_streams(envoy) else [])]


def _plain() -> HttpFilter:
    rules = [
        # A rule with a constant applies to every body that is JSON.
        _rule("kind", "object", constant="json", missing="json", error=("invalid", "yes")),
        *_usage(),
        *(_rule("error", f"error.{field}", kind=_STRING) for field in ("message", "type", "code")),
        _rule("error", "error", kind=_STRING),
        *(_rule(field, field, kind=_STRING) for field in ("object", "type", "model")),
    ]
    reads = JsonToMetadata(
        response_rules=JsonToMetadataMatchRules(
            rules=rules, allow_content_types_regex=RegexMatcher(regex=_JSON)
        )
    )
    readable = _all_of(
        _response_header("content-length", _SHORT),
        _response_header("content-type", _JSON),
        _not(_response_header("content-encoding", _COMPRESSED)),
    )
    extension = TypedExtensionConfig(name="envoy.filters.http.json_to_metadata", typed_config=pack(reads))
    return _skipped_unless(readable, "shiftplane.usage.plain", extension)


def _streamed() -> HttpFilter:
    """Return the filter of streams: one of two parsers, chosen by the path of the request.

    A matcher that skips a filter of responses cannot read request headers, but the composite filter can.
    """
    typed = MatcherMatcherListFieldMatcher(
        predicate=_request_header(":path", _TYPED_EVENTS), on_match=_execute(_typed_events())
    )
    config = ExtensionWithMatcher(
        extension_config=TypedExtensionConfig(
            name="envoy.filters.http.composite", typed_config=pack(Composite())
        ),
        xds_matcher=Matcher(
            matcher_list=MatcherMatcherList(matchers=[typed]), on_no_match=_execute(_events())
        ),
    )
    return HttpFilter(name="shiftplane.usage.streamed", typed_config=pack(config))


def _execute(extension: TypedExtensionConfig) -> MatcherOnMatch:
    action = ExecuteFilterAction(typed_config=extension)
    return MatcherOnMatch(action=XdsExtension(name="execute", typed_config=pack(action)))


def _events() -> TypedExtensionConfig:
    """Return the parser of streams that end with a mark that is no JSON, `[DONE]`."""
    return _event_parser(
        [
            # The constant for a missing value is written when the stream ends, if no event has the value.
            (_rule("kind", "object", constant="stream", missing="stream of others"), True),
            (_rule("model", "model", kind=_STRING), True),
            (_rule("prompt", "usage.prompt_tokens"), False),
            (_rule("completion", "usage.completion_tokens"), False),
            (_rule("error", "error.message", kind=_STRING, error=("mark", "yes")), False),
        ]
    )


def _typed_events() -> TypedExtensionConfig:
    """Return the parser of streams whose last event has the `type` of an end."""
    return _event_parser(
        [
            (_rule("kind", "type", constant="stream", missing="stream"), True),
            (_rule("type", "type", kind=_STRING), False),
            (_rule("prompt", "usage.input_tokens"), False),
            (_rule("completion", "usage.output_tokens"), False),
            (_rule("prompt", "response.usage.input_tokens"), False),
            (_rule("completion", "response.usage.output_tokens"), False),
            (_rule("prompt", "message.usage.input_tokens"), True),
            (_rule("error", "response.error.message", kind=_STRING), False),
            (_rule("error", "error.message", kind=_STRING, error=("mark", "yes")), False),
        ]
    )


def _event_parser(rules: list[tuple[JsonToMetadataRule, bool]]) -> TypedExtensionConfig:
    """Return the parser of event streams; a rule with True is not evaluated after its first match."""
    parser = JsonContentParser(
        rules=[
            JsonContentParserRuleConfig(rule=rule, stop_processing_after_matches=int(once))
            for rule, once in rules
        ]
    )
    config = SseToMetadata(
        response_rules=SseToMetadataProcessingRules(
            content_parser=TypedExtensionConfig(name="envoy.content_parsers.json", typed_config=pack(parser)),
            max_event_size=_LONGEST_EVENT,
        )
    )
    return TypedExtensionConfig(name="envoy.filters.http.sse_to_metadata", typed_config=pack(config))


def _usage() -> list[JsonToMetadataRule]:
    """Return the rules for token usage, for both pairs of field names that APIs use."""
    return [
        _rule(key, f"usage.{field}")
        for key, field in (
            ("prompt", "prompt_tokens"),
            ("prompt", "input_tokens"),
            ("completion", "completion_tokens"),
            ("completion", "output_tokens"),
        )
    ]


def _rule(
    key: str,
    path: str,
    *,
    kind: JsonToMetadataValueType = _NUMBER,
    constant: str = "",
    missing: str = "",
    error: tuple[str, str] | None = None,
) -> JsonToMetadataRule:
    """Return the rule that writes the value at `path`, or a constant, to the metadata `key`.

    `missing` is the value to write if there is nothing at `path`, and `error` the key and the value to write
    if the answer cannot be parsed.
    """
    rule = JsonToMetadataRule(
        selectors=[JsonToMetadataSelector(key=part) for part in path.split(".")],
        on_present=_constant(key, constant)
        if constant
        else JsonToMetadataKeyValuePair(metadata_namespace=ANSWER, key=key, type=kind),
    )
    if missing:
        rule.on_missing = _constant(key, missing)
    if error:
        rule.on_error = _constant(*error)
    return rule


def _constant(key: str, value: str) -> JsonToMetadataKeyValuePair:
    return JsonToMetadataKeyValuePair(metadata_namespace=ANSWER, key=key, value=Value(string_value=value))


def _skipped_unless(readable: _Predicate, name: str, extension: TypedExtensionConfig) -> HttpFilter:
    """Return the filter, which is skipped for responses that do not match."""
    skip = MatcherOnMatch(action=XdsExtension(name="skip", typed_config=pack(SkipFilter())))
    config = ExtensionWithMatcher(
        extension_config=extension,
        xds_matcher=Matcher(
            matcher_list=MatcherMatcherList(
                matchers=[MatcherMatcherListFieldMatcher(predicate=_not(readable), on_match=skip)]
            )
        ),
    )
    return HttpFilter(name=name, typed_config=pack(config))


def _all_of(*predicates: _Predicate) -> _Predicate:
    return _Predicate(and_matcher=MatcherMatcherListPredicatePredicateList(predicate=list(predicates)))


def _not(predicate: _Predicate) -> _Predicate:
    return _Predicate(not_matcher=predicate)


def _response_header(name: str, regex: str) -> _Predicate:
    return _header(name, regex, HttpResponseHeaderMatchInput(header_name=name))


def _request_header(name: str, regex: str) -> _Predicate:
    return _header(name, regex, HttpRequestHeaderMatchInput(header_name=name))


def _header(
    name: str, regex: str, value: HttpRequestHeaderMatchInput | HttpResponseHeaderMatchInput
) -> _Predicate:
    return _Predicate(
        single_predicate=MatcherMatcherListPredicateSinglePredicate(
            input=XdsExtension(name=name, typed_config=pack(value)),
            value_match=XdsString(safe_regex=XdsRegex(google_re2=XdsRe2(), regex=regex)),
        )
    )
