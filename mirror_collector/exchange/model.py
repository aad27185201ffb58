"""The data model of captured exchanges.

A leg is one request and its response. A pair is the primary leg and the shadow leg of one request, and
optionally a noise leg: a second copy of the request, answered by the primary's variant.

Times are microseconds since the epoch by the clock of the proxy. All legs of a pair come from one proxy, so
their times can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NewType

__all__ = [
    "Body",
    "Failure",
    "Leg",
    "Pair",
    "Rejection",
    "RejectionReason",
    "RequestId",
    "Role",
    "RouteName",
    "Unpaired",
    "UnpairedReason",
    "Variant",
]

RouteName = NewType("RouteName", str)
RequestId = NewType("RequestId", str)
Variant = NewType("Variant", str)


class Role(Enum):
    """Role of a leg within its pair."""

    PRIMARY = "primary"
    """The request of the client; the client received the response."""

    SHADOW = "shadow"
    """A copy sent to the shadow variant; the proxy discarded the response."""

    NOISE = "noise"
    """A copy sent to the primary's variant to measure how much its answers vary; response discarded."""


class Failure(Enum):
    """Why a backend did not answer properly; the values are the names of Envoy's response flags."""

    FAILED_LOCAL_HEALTHCHECK = "failed_local_healthcheck"
    NO_HEALTHY_UPSTREAM = "no_healthy_upstream"
    UPSTREAM_REQUEST_TIMEOUT = "upstream_request_timeout"
    LOCAL_RESET = "local_reset"
    UPSTREAM_REMOTE_RESET = "upstream_remote_reset"
    UPSTREAM_CONNECTION_FAILURE = "upstream_connection_failure"
    UPSTREAM_CONNECTION_TERMINATION = "upstream_connection_termination"
    UPSTREAM_OVERFLOW = "upstream_overflow"
    NO_ROUTE_FOUND = "no_route_found"
    UPSTREAM_RETRY_LIMIT_EXCEEDED = "upstream_retry_limit_exceeded"
    STREAM_IDLE_TIMEOUT = "stream_idle_timeout"
    UPSTREAM_MAX_STREAM_DURATION_REACHED = "upstream_max_stream_duration_reached"
    DURATION_TIMEOUT = "duration_timeout"
    UPSTREAM_PROTOCOL_ERROR = "upstream_protocol_error"
    NO_CLUSTER_FOUND = "no_cluster_found"
    OVERLOAD_MANAGER = "overload_manager"
    DNS_RESOLUTION_FAILURE = "dns_resolution_failure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The captured beginning of a message body, in its content encoding."""

    data: bytes = b""
    total: int | None = None
    """Size on the wire in bytes; None if the message did not end."""

    content_type: str = ""
    content_encoding: str = ""
    captured: int | None = None
    """Number of captured bytes, if `data` no longer contains all of them; else None."""

    @property
    def truncated(self) -> bool:
        """Whether the message was larger than the captured part."""
        captured = len(self.data) if self.captured is None else self.captured
        return self.total is not None and self.total > captured


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One request and the response of one variant."""

    route: RouteName
    role: Role
    request_id: RequestId
    variant: Variant
    """Empty if the proxy selected no backend."""

    method: str
    path: str
    started_us: int
    request: Body
    request_ended_us: int | None
    """None if the client did not send the complete request."""

    status: int | None
    """None if no response started."""

    details: str
    """Response code details of the proxy, such as ``via_upstream``."""

    response: Body
    headers_us: int | None
    first_chunk_us: int | None
    last_chunk_us: int | None
    """End of the response if known, else the time of the last recorded chunk."""

    chunks: int
    complete: bool
    """Whether the response ended properly."""

    client_left: bool
    """Whether the client disconnected before the end of the response."""

    failure: Failure | None
    attempts: int = 1
    """Number of upstream attempts, including retries."""

    prompt: str = ""
    """Version of the system prompt that the proxy inserted; empty if none."""

    rewrite: str = ""
    """Why the proxy did not rewrite a request body that it was configured to rewrite; empty otherwise."""

    node: str = ""
    """Id of the proxy that captured the leg."""

    unit: str = ""
    """User or session of the request, as the request names it; empty if not configured or not given."""

    expects_noise: bool = False
    """Whether a noise leg was sent for this request; only set on primaries."""

    chunk_times: tuple[tuple[int, int], ...] = ()
    """Time (microseconds since the epoch) and size in bytes of the first chunks of the response."""

    @property
    def limited(self) -> bool:
        """Whether limits on shadow traffic, and not a backend, prevented a proper answer."""
        return self.role is not Role.PRIMARY and self.failure in _LIMITS

    @property
    def size(self) -> int:
        """Bytes charged to the memory limits: the bodies plus a flat amount for everything else."""
        return len(self.request.data) + len(self.response.data) + 1024

    @property
    def succeeded(self) -> bool:
        """Whether the backend returned a complete response with a status below 400."""
        return self.failure is None and self.complete and self.status is not None and self.status < 400


_LIMITS = frozenset({Failure.UPSTREAM_OVERFLOW, Failure.OVERLOAD_MANAGER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The legs of one request; `noise` is None if the request has no noise leg."""

    primary: Leg
    shadow: Leg
    noise: Leg | None = None

    @property
    def legs(self) -> tuple[Leg, ...]:
        """The legs of the pair: primary, shadow, and noise if present."""
        return (self.primary, self.shadow) if self.noise is None else (self.primary, self.shadow, self.noise)

    @property
    def client_left(self) -> bool:
        """Whether the client disconnected; such a pair does not measure quality."""
        return self.primary.client_left or self.shadow.client_left


class UnpairedReason(Enum):
    """Why a leg did not become part of a stored pair."""

    NO_SHADOW = "no_shadow"
    """A primary or a noise leg whose shadow did not arrive within the pairing window."""

    NO_PRIMARY = "no_primary"
    """A copy whose primary did not arrive within the pairing window."""

    NO_NOISE = "no_noise"
    """Not used for new legs; `RouteTotals.without_noise` counts pairs that lack an announced noise leg."""

    DUPLICATE = "duplicate"
    """The request already had a leg of this role."""

    LATE = "late"
    """The pairing window of the request had already ended."""

    EVICTED = "evicted"
    """Removed while waiting because newer legs needed the space."""

    SHUTDOWN = "shutdown"
    """The collector stopped while the leg was waiting."""

    RESTART = "restart"
    """The collector process died while the leg was waiting."""

    STORED_BEFORE = "stored_before"
    """The store already contains the pair."""

    STORE_FAILED = "store_failed"
    """The store could not write the pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpaired:
    """A leg that will not become part of a pair."""

    leg: Leg
    reason: UnpairedReason


class RejectionReason(Enum):
    """Why received data was not accepted as a leg."""

    MALFORMED = "malformed"
    """The data is not a valid message or not valid JSON."""

    NOT_CAPTURED = "not_captured"
    """The log entry has no captured data."""

    BAD_FIELD = "bad_field"
    """A required field is missing or invalid."""

    BAD_BASE64 = "bad_base64"
    BAD_NUMBER = "bad_number"
    TOO_MANY_ROUTES = "too_many_routes"
    """The leg names a new route, and the maximum number of routes is reached."""

    QUEUE_FULL = "queue_full"
    """Legs arrive faster than they can be compared and stored, or the limit on exposures is reached."""

    STOPPING = "stopping"
    """The collector is shutting down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why received data was not accepted as a leg; the detail never contains body text."""

    reason: RejectionReason
    detail: str = ""
