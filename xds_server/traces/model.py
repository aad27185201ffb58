"""Spans, and how OTLP/HTTP says them in JSON (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Span", "export_request"]

_INTERNAL: Final = 1
_OK: Final = 1
_ERROR: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Something that took a time, in nanoseconds since the epoch; ids are hexadecimal.

    `error` says how it failed, empty where it did not.
    """

    trace: str
    id: str
    parent: str
    name: str
    began: int
    ended: int
    fields: Mapping[str, str | int | bool] = field(default_factory=dict)
    error: str = ""


def export_request(spans: Iterable[Span], version: str) -> dict[str, Any]:
    """Return the body of one request."""
    resource = _attributes({"service.name": "shiftplane", "service.version": version})
    scope = {"name": "shiftplane.xds_server", "version": version}
    scoped = {"scope": scope, "spans": [_span(span) for span in spans]}
    return {"resourceSpans": [{"resource": {"attributes": resource}, "scopeSpans": [scoped]}]}


def _span(span: Span) -> dict[str, Any]:
    fields = {f"shiftplane.{name}": value for name, value in span.fields.items()}
    if span.error:
        fields["error.type"] = span.error
    found: dict[str, Any] = {
        "traceId": span.trace,
        "spanId": span.id,
        "name": span.name,
        "kind": _INTERNAL,
        "startTimeUnixNano": str(span.began),
        "endTimeUnixNano": str(max(span.began, span.ended)),
        "attributes": _attributes(fields),
        "status": {"code": _ERROR if span.error else _OK},
    }
    if span.parent:
        found["parentSpanId"] = span.parent
    return found


def _attributes(fields: Mapping[str, str | int | bool]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in fields.items()]


def _value(value: str | bool | int) -> dict[str, Any]:  # noqa: FBT001 - a value like any other
    if isinstance(value, bool):
        return {"boolValue": value}
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}
