"""Parsing of legs from entries of Envoy's gRPC access log.

The capture script of the proxy writes the filter metadata namespace ``shiftplane.capture``. All values are
text:

========== ====================================================================================
route      name of the route
role       ``primary``, ``shadow`` or ``noise``
noise      present on a primary if a noise leg was sent for the request
t0         time of the request headers, microseconds since the epoch
req        base64 of the request body, up to the capture limit
req_total  size of the request body on the wire in bytes
req_end    end of the request body, microseconds; absent if it did not end
th         time of the response headers, microseconds; absent without a response
b1 … bN    base64 of consecutive pieces of the response body, up to the capture limit
t1 … tN    the chunks of each piece as ``microseconds:bytes``, comma-separated
end        ``microseconds:chunks:bytes``; absent if the response did not end properly
rewrite    ``skipped:<reason>``; optional
experiment name of an A/B test; an entry without ``t0`` is an exposure and not a leg
unit       base64 of the user or session; absent if not configured or not given
========== ====================================================================================
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from mirror_collector.exchange.exposure import Exposure
from mirror_collector.exchange.model import (
    Body,
    Failure,
    Leg,
    Rejection,
    RejectionReason,
    RequestId,
    Role,
    RouteName,
    Variant,
)
from mirror_collector.wire import accesslog_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CAPTURE_NAMESPACE", "LogMessage", "parse_entry", "parse_message"]

CAPTURE_NAMESPACE: Final = "shiftplane.capture"

_MAX_NAME: Final = 256
_MAX_PATH: Final = 4096
_MAX_DETAIL: Final = 256
_MAX_DIGITS: Final = 18
_MAX_CHUNK_TIMES: Final = 512
_MAX_CHUNKS_PER_PIECE: Final = 64
"""Maximum number of chunk times read per piece; the script puts sixteen chunks into a piece."""
_METHODS: Final = ("", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")

# Most specific first, because an entry can have several flags: an exhausted retry limit often accompanies a
# connection failure.
_FAILURES: Final = (
    Failure.UPSTREAM_CONNECTION_FAILURE,
    Failure.UPSTREAM_REQUEST_TIMEOUT,
    Failure.UPSTREAM_OVERFLOW,
    Failure.NO_HEALTHY_UPSTREAM,
    Failure.UPSTREAM_CONNECTION_TERMINATION,
    Failure.UPSTREAM_REMOTE_RESET,
    Failure.UPSTREAM_PROTOCOL_ERROR,
    Failure.DNS_RESOLUTION_FAILURE,
    Failure.NO_CLUSTER_FOUND,
    Failure.NO_ROUTE_FOUND,
    Failure.FAILED_LOCAL_HEALTHCHECK,
    Failure.OVERLOAD_MANAGER,
    Failure.UPSTREAM_MAX_STREAM_DURATION_REACHED,
    Failure.STREAM_IDLE_TIMEOUT,
    Failure.DURATION_TIMEOUT,
    Failure.LOCAL_RESET,
    Failure.UPSTREAM_RETRY_LIMIT_EXCEEDED,
)
_BY_FLAG: Final = tuple((failure.value, failure) for failure in _FAILURES)


class _InvalidEntry(Exception):  # noqa: N818 - carries a rejection to `parse_entry`
    def __init__(self, reason: RejectionReason, detail: str) -> None:
        super().__init__(detail)
        self.rejection = Rejection(reason=reason, detail=detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogMessage:
    """One message of a log stream: its encoded entries and the id of the proxy."""

    node: str | None
    """Id of the proxy; None except in the first message of a stream."""

    entries: tuple[bytes, ...]


def parse_message(data: bytes) -> LogMessage | Rejection:
    """Parse one encoded ``StreamAccessLogsMessage``."""
    message = wire.StreamAccessLogsMessage()
    try:
        message.ParseFromString(data)
    except DecodeError:
        return Rejection(reason=RejectionReason.MALFORMED, detail="not an access log message")
    return LogMessage(node=_node(message.identifier), entries=tuple(message.http_logs.log_entry))


def _node(data: bytes) -> str | None:
    identifier = wire.Identifier()
    try:
        identifier.ParseFromString(data)
    except DecodeError:
        # An invalid node id does not affect the entries of the message.
        return None
    return identifier.node.id or None


def parse_entry(data: bytes, *, node: str = "", max_body: int = 1 << 20) -> Leg | Exposure | Rejection:
    """Parse one encoded ``HTTPAccessLogEntry``.

    Args:
        data: the encoded entry, from an untrusted sender.
        node: id of the proxy that sent it.
        max_body: maximum number of bytes kept of each body.
    """
    entry = wire.HTTPAccessLogEntry()
    try:
        entry.ParseFromString(data)
    except DecodeError:
        return Rejection(reason=RejectionReason.MALFORMED, detail="not an access log entry")
    metadata = entry.common_properties.metadata.filter_metadata
    if CAPTURE_NAMESPACE not in metadata:
        return Rejection(
            reason=RejectionReason.NOT_CAPTURED, detail=f"the entry has no metadata {CAPTURE_NAMESPACE}"
        )
    fields = _Fields(metadata[CAPTURE_NAMESPACE].fields)
    try:
        if fields.has("experiment") and not fields.has("t0"):
            return _exposure(entry, fields)
        return _leg(entry, fields, node=node[:_MAX_NAME], max_body=max_body)
    except _InvalidEntry as invalid:
        return invalid.rejection


def _exposure(entry: wire.HTTPAccessLogEntry, fields: _Fields) -> Exposure:
    route = fields.name("route")
    return Exposure(
        route=RouteName(route),
        experiment=fields.name("experiment"),
        variant=_variant(entry.common_properties.upstream_cluster, route),
        unit=_text(fields.binary("unit")),
    )


def _leg(entry: wire.HTTPAccessLogEntry, fields: _Fields, *, node: str, max_body: int) -> Leg:
    common, request, response = entry.common_properties, entry.request, entry.response
    route = fields.name("route")
    if not request.request_id or len(request.request_id) > _MAX_NAME:
        raise _InvalidEntry(RejectionReason.BAD_FIELD, f"request_id: must have 1 to {_MAX_NAME} characters")
    captured = _captured_response(fields, max_body=max_body)
    return Leg(
        route=RouteName(route),
        role=_role(fields.name("role")),
        request_id=RequestId(request.request_id),
        variant=_variant(common.upstream_cluster, route),
        method=_METHODS[request.request_method] if 0 <= request.request_method < len(_METHODS) else "",
        path=_text(request.path)[:_MAX_PATH],
        started_us=fields.number("t0") or common.start_time.ToMicroseconds(),
        request=Body(
            data=fields.binary("req")[:max_body],
            total=fields.number("req_total"),
            content_type=_header(request.request_headers, "content-type"),
            content_encoding=_header(request.request_headers, "content-encoding"),
        ),
        request_ended_us=fields.number("req_end"),
        status=response.response_code.value or None,
        details=response.response_code_details[:_MAX_DETAIL],
        response=Body(
            data=captured.data,
            total=captured.total,
            content_type=_header(response.response_headers, "content-type"),
            content_encoding=_header(response.response_headers, "content-encoding"),
        ),
        headers_us=fields.number("th"),
        first_chunk_us=captured.first_us,
        last_chunk_us=captured.last_us,
        chunks=captured.chunks,
        complete=captured.total is not None,
        client_left=_client_left(common.response_flags),
        failure=_failure(common.response_flags),
        attempts=max(1, common.upstream_request_attempt_count),
        rewrite=fields.text("rewrite")[:_MAX_DETAIL],
        prompt=_header(request.request_headers, "x-shiftplane-prompt"),
        node=node,
        unit=_text(fields.binary("unit"))[:_MAX_NAME],
        expects_noise=fields.has("noise"),
        chunk_times=captured.chunk_times,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _CapturedResponse:
    data: bytes
    total: int | None
    chunks: int
    first_us: int | None
    last_us: int | None
    chunk_times: tuple[tuple[int, int], ...]


def _captured_response(fields: _Fields, *, max_body: int) -> _CapturedResponse:
    pieces: list[bytes] = []
    kept = chunks = 0
    first_us = last_us = None
    chunk_times: list[tuple[int, int]] = []
    for i in count(1):
        if not fields.has(f"b{i}"):
            break
        piece = fields.binary(f"b{i}")[: max_body - kept]
        kept += len(piece)
        pieces.append(piece)
        times = fields.text(f"t{i}")
        if times:
            chunks += times.count(",") + 1
            if first_us is None:
                first_us = _number("t", times.split(",", 1)[0].partition(":")[0])
            last_us = _number("t", times.rpartition(",")[2].partition(":")[0])
            if len(chunk_times) < _MAX_CHUNK_TIMES:
                chunk_times += _times(times)
    data = b"".join(pieces)
    end = fields.text("end")
    if not end:
        return _CapturedResponse(
            data=data,
            total=None,
            chunks=chunks,
            first_us=first_us,
            last_us=last_us,
            chunk_times=tuple(chunk_times),
        )
    ended_us, chunk_count, total = _end(end)
    # The script records no chunk times beyond the capture limit; only the end of the response is known.
    if total > kept or last_us is None:
        last_us = ended_us
    return _CapturedResponse(
        data=data,
        total=total,
        chunks=max(chunk_count, chunks),
        first_us=first_us,
        last_us=last_us,
        chunk_times=tuple(chunk_times),
    )


def _times(text: str) -> list[tuple[int, int]]:
    """Parse the chunk times of a piece; return an empty list if they are invalid.

    Invalid times do not reject the entry, because they are for display only.
    """
    if text.count(":") != text.count(",") + 1:
        return []
    try:
        numbers = list(map(int, text.replace(":", ",").split(",")[: 2 * _MAX_CHUNKS_PER_PIECE]))
    except ValueError:
        return []
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _end(text: str) -> tuple[int, int, int]:
    parts = text.split(":")
    if len(parts) != 3:
        raise _InvalidEntry(RejectionReason.BAD_FIELD, "end: must be microseconds:chunks:bytes")
    ended_us, chunks, total = (_number("end", part) for part in parts)
    return ended_us, chunks, total


@dataclass(frozen=True, slots=True)
class _Fields:
    """The text values of the capture namespace."""

    values: Mapping[str, wire.Value]

    def has(self, key: str) -> bool:
        return key in self.values

    def text(self, key: str) -> str:
        """Return the value; empty if the key is missing."""
        return _text(self.values[key].string_value) if key in self.values else ""

    def name(self, key: str) -> str:
        value = self.text(key)
        if not value or len(value) > _MAX_NAME:
            raise _InvalidEntry(RejectionReason.BAD_FIELD, f"{key}: must have 1 to {_MAX_NAME} characters")
        return value

    def number(self, key: str) -> int | None:
        value = self.text(key)
        return _number(key, value) if value else None

    def binary(self, key: str) -> bytes:
        if key not in self.values:
            return b""
        try:
            return base64.b64decode(self.values[key].string_value, validate=True)
        except binascii.Error as error:
            raise _InvalidEntry(RejectionReason.BAD_BASE64, f"{key}: not valid base64") from error


def _number(key: str, text: str) -> int:
    if len(text) > _MAX_DIGITS or not text.isascii() or not text.isdigit():
        raise _InvalidEntry(
            RejectionReason.BAD_NUMBER, f"{key}: not a whole number of at most {_MAX_DIGITS} digits"
        )
    return int(text)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _header(headers: Mapping[str, bytes], name: str) -> str:
    return _text(headers[name])[:_MAX_NAME] if name in headers else ""


def _role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError as error:
        raise _InvalidEntry(RejectionReason.BAD_FIELD, "role: must be primary, shadow or noise") from error


def _variant(cluster: str, route: str) -> Variant:
    """Return ``v2`` for ``chat/v2``, ``chat/v2/shadow`` or ``chat/v2/noise``, else the whole cluster name."""
    match cluster.split("/"):
        case [name, variant] | [name, variant, "shadow" | "noise"] if name == route:
            return Variant(variant[:_MAX_NAME])
        case _:
            return Variant(cluster[:_MAX_NAME])


def _client_left(flags: wire.ResponseFlags) -> bool:
    return (
        flags.downstream_connection_termination
        or flags.downstream_remote_reset
        or flags.downstream_protocol_error
    )


def _failure(flags: wire.ResponseFlags) -> Failure | None:
    if not flags.ListFields():
        return None
    return next((failure for flag, failure in _BY_FLAG if getattr(flags, flag)), None)
