"""A leg from one entry of Envoy's gRPC access log.

The capture script of the proxy leaves its findings in the filter metadata namespace ``shiftplane.capture``,
all as text:

========== ====================================================================================
route      name of the route
role       ``primary``, ``shadow`` or ``noise``
noise      present on a primary of which a second copy went to its own variant
t0         request headers seen, microseconds since the epoch
req        base64 of the request body, up to the cap
req_total  bytes of the request body on the wire
req_end    request body complete, microseconds; absent if it never was
th         response headers seen, microseconds; absent without a response
b1 … bN    base64 of consecutive pieces of the response body, up to the cap
t1 … tN    for each piece, its chunks as ``microseconds:bytes``, comma-separated
end        ``microseconds:chunks:bytes``; absent unless the response ended properly
rewrite    ``skipped:<reason>``; optional
experiment name of an A/B test; without ``t0`` the entry is an exposure and no leg
unit       base64 of what names the user; absent where nobody asked or the request did not say
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

__all__ = ["CAPTURE_NAMESPACE", "Message", "parse_entry", "parse_message"]

CAPTURE_NAMESPACE: Final = "shiftplane.capture"

_MAX_NAME: Final = 256
_MAX_PATH: Final = 4096
_MAX_DETAIL: Final = 256
_MAX_DIGITS: Final = 18
_MAX_TIMES: Final = 512
_PIECE: Final = 64
"""Chunks looked at of one piece; the script puts sixteen into one."""
_METHODS: Final = ("", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")

# From the most telling to the least: a connection failure often comes together with an exhausted retry.
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


class _Refused(Exception):  # noqa: N818 - carries a rejection out of the depths of one parse, nothing else
    def __init__(self, reason: RejectionReason, detail: str) -> None:
        super().__init__(detail)
        self.rejection = Rejection(reason=reason, detail=detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a log stream: entries, each still encoded, and who sends them."""

    node: str | None
    """Id of the proxy; only in the first message of a stream."""

    entries: tuple[bytes, ...]


def parse_message(data: bytes) -> Message | Rejection:
    """Read one encoded ``StreamAccessLogsMessage``."""
    message = wire.StreamAccessLogsMessage()
    try:
        message.ParseFromString(data)
    except DecodeError:
        return Rejection(reason=RejectionReason.MALFORMED, detail="not a message of access logs")
    return Message(node=_node(message.identifier), entries=tuple(message.http_logs.log_entry))


def _node(data: bytes) -> str | None:
    identifier = wire.Identifier()
    try:
        identifier.ParseFromString(data)
    except DecodeError:
        # Only the sender's name is illegible; its entries are as good as any.
        return None
    return identifier.node.id or None


def parse_entry(data: bytes, *, node: str = "", max_body: int = 1 << 20) -> Leg | Exposure | Rejection:
    """Read one encoded ``HTTPAccessLogEntry``.

    Args:
        data: the encoded entry, from an untrusted sender.
        node: id of the proxy that sent it.
        max_body: bytes kept of each body.
    """
    entry = wire.HTTPAccessLogEntry()
    try:
        entry.ParseFromString(data)
    except DecodeError:
        return Rejection(reason=RejectionReason.MALFORMED, detail="not an access log entry")
    captured = entry.common_properties.metadata.filter_metadata
    if CAPTURE_NAMESPACE not in captured:
        return Rejection(reason=RejectionReason.NOT_CAPTURED, detail=f"no metadata {CAPTURE_NAMESPACE}")
    fields = _Fields(captured[CAPTURE_NAMESPACE].fields)
    try:
        if fields.has("experiment") and not fields.has("t0"):
            return _exposure(entry, fields)
        return _leg(entry, fields, node=node[:_MAX_NAME], max_body=max_body)
    except _Refused as refused:
        return refused.rejection


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
        raise _Refused(RejectionReason.BAD_FIELD, "request_id: missing or too long")
    answer = _answer(fields, max_body=max_body)
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
            data=answer.data,
            total=answer.total,
            content_type=_header(response.response_headers, "content-type"),
            content_encoding=_header(response.response_headers, "content-encoding"),
        ),
        headers_us=fields.number("th"),
        first_chunk_us=answer.first_us,
        last_chunk_us=answer.last_us,
        chunks=answer.chunks,
        complete=answer.total is not None,
        client_left=_client_left(common.response_flags),
        failure=_failure(common.response_flags),
        attempts=max(1, common.upstream_request_attempt_count),
        rewrite=fields.text("rewrite")[:_MAX_DETAIL],
        prompt=_header(request.request_headers, "x-shiftplane-prompt"),
        node=node,
        unit=_text(fields.binary("unit"))[:_MAX_NAME],
        expects_noise=fields.has("noise"),
        times=answer.times,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    data: bytes
    total: int | None
    chunks: int
    first_us: int | None
    last_us: int | None
    times: tuple[tuple[int, int], ...]


def _answer(fields: _Fields, *, max_body: int) -> _Answer:
    pieces: list[bytes] = []
    kept = chunks = 0
    first_us = last_us = None
    noted: list[tuple[int, int]] = []
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
            if len(noted) < _MAX_TIMES:
                noted += _times(times)
    data = b"".join(pieces)
    end = fields.text("end")
    if not end:
        return _Answer(
            data=data, total=None, chunks=chunks, first_us=first_us, last_us=last_us, times=tuple(noted)
        )
    ended, seen, total = _end(end)
    # The script stops noting chunks once the cap is reached; from then on only the end is known.
    if total > kept or last_us is None:
        last_us = ended
    return _Answer(
        data=data,
        total=total,
        chunks=max(seen, chunks),
        first_us=first_us,
        last_us=last_us,
        times=tuple(noted),
    )


def _times(text: str) -> list[tuple[int, int]]:
    """Return what is legible of a piece's chunks; they are only looked at, nothing depends on them."""
    if text.count(":") != text.count(",") + 1:
        return []
    try:
        numbers = list(map(int, text.replace(":", ",").split(",")[: 2 * _PIECE]))
    except ValueError:
        return []
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _end(text: str) -> tuple[int, int, int]:
    parts = text.split(":")
    if len(parts) != 3:
        raise _Refused(RejectionReason.BAD_FIELD, "end: must be microseconds:chunks:bytes")
    ended, chunks, total = (_number("end", part) for part in parts)
    return ended, chunks, total


@dataclass(frozen=True, slots=True)
class _Fields:
    """The text values of the capture namespace."""

    values: Mapping[str, wire.Value]

    def has(self, key: str) -> bool:
        return key in self.values

    def text(self, key: str) -> str:
        """The value, or nothing where there is none."""
        return _text(self.values[key].string_value) if key in self.values else ""

    def name(self, key: str) -> str:
        value = self.text(key)
        if not value or len(value) > _MAX_NAME:
            raise _Refused(RejectionReason.BAD_FIELD, f"{key}: missing or too long")
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
            raise _Refused(RejectionReason.BAD_BASE64, f"{key}: not base64") from error


def _number(key: str, text: str) -> int:
    if len(text) > _MAX_DIGITS or not text.isascii() or not text.isdigit():
        raise _Refused(
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
        raise _Refused(RejectionReason.BAD_FIELD, "role: must be primary, shadow or noise") from error


def _variant(cluster: str, route: str) -> Variant:
    """Return ``v2`` for ``chat/v2``, ``chat/v2/shadow`` and ``chat/v2/noise``; a foreign name stays whole."""
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
