"""Spans, and their OTLP/HTTP JSON encoding.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Span", "export_request"]

_KIND_INTERNAL: Final = 1
_STATUS_OK: Final = 1
_STATUS_ERROR: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """An operation with its start and end time in nanoseconds since the epoch; ids are hexadecimal.

    `parent_id` is empty for the root span, and `error` is empty if the operation succeeded.
    """

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    start_time: int
    end_time: int
    attributes: Mapping[str, str | int | bool] = field(default_factory=dict)
    error: str = ""


def export_request(spans: Iterable[Span], version: str) -> dict[str, Any]:
    """Return the body of an ExportTraceServiceRequest."""
    resource = _attributes({"service.name": "shiftplane", "service.version": version})
    scope = {"name": "shiftplane.xds_server", "version": version}
    scope_spans = {"scope": scope, "spans": [_span(span) for span in spans]}
    return {"resourceSpans": [{"resource": {"attributes": resource}, "scopeSpans": [scope_spans]}]}


def _span(span: Span) -> dict[str, Any]:
    attributes = {f"shiftplane.{name}": value for name, value in span.attributes.items()}
    if span.error:
        attributes["error.type"] = span.error
    encoded: dict[str, Any] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": _KIND_INTERNAL,
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(max(span.start_time, span.end_time)),
        "attributes": _attributes(attributes),
        "status": {"code": _STATUS_ERROR if span.error else _STATUS_OK},
    }
    if span.parent_id:
        encoded["parentSpanId"] = span.parent_id
    return encoded


def _attributes(attributes: Mapping[str, str | int | bool]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in attributes.items()]


def _value(value: str | bool | int) -> dict[str, Any]:  # noqa: FBT001 - an attribute value, not a flag
    if isinstance(value, bool):
        return {"boolValue": value}
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}
