"""One captured exchange: a leg is one request and its answer, a pair is two legs of one request.

Times are whole microseconds since the epoch, as the proxy's clock had them; both legs of a pair come from the
same proxy, so their times may be subtracted.
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
    """What the leg was for."""

    PRIMARY = "primary"
    """The user got this answer."""

    SHADOW = "shadow"
    """Nobody got this answer."""

    NOISE = "noise"
    """A second answer of the primary's variant, which nobody got: how much answers differ by themselves."""


class Failure(Enum):
    """Why a backend gave no proper answer, in the words of the proxy's response flags."""

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
    """The beginning of a message body, as it was on the wire."""

    data: bytes = b""
    total: int | None = None
    """Bytes on the wire; None where the message never ended."""

    content_type: str = ""
    content_encoding: str = ""
    kept: int | None = None
    """Bytes that were captured, where `data` is not all of them any more."""

    @property
    def capped(self) -> bool:
        """Whether more was sent than was captured."""
        captured = len(self.data) if self.kept is None else self.kept
        return self.total is not None and self.total > captured


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One request and the answer one variant gave."""

    route: RouteName
    role: Role
    request_id: RequestId
    variant: Variant
    """Empty where the proxy found no backend at all."""

    method: str
    path: str
    started_us: int
    request: Body
    request_ended_us: int | None
    """None where the client stopped sending before the end."""

    status: int | None
    """None where no response was begun."""

    details: str
    """The proxy's word on where the response came from, such as ``via_upstream``."""

    response: Body
    headers_us: int | None
    first_chunk_us: int | None
    last_chunk_us: int | None
    """The end of the response where it is known, else the last chunk that was recorded."""

    chunks: int
    complete: bool
    """Whether the response came to its proper end."""

    client_left: bool
    failure: Failure | None
    attempts: int = 1
    prompt: str = ""
    """The version of the system prompt that the proxy put in; empty for none."""

    rewrite: str = ""
    """Why the request body was sent on unchanged although it should have been rewritten; empty otherwise."""

    node: str = ""
    """The proxy that saw it."""

    unit: str = ""
    """Whose request it was, in the words of the request; empty where nobody asked or it did not say."""

    expects_noise: bool = False
    """Whether a second copy went to the primary's variant; only primaries know."""

    times: tuple[tuple[int, int], ...] = ()
    """For the first chunks of the response: microseconds since the epoch, bytes."""

    @property
    def limited(self) -> bool:
        """Whether limits of the copy's own, and no backend, are why there is no proper answer."""
        return self.role is not Role.PRIMARY and self.failure in _LIMITS

    @property
    def size(self) -> int:
        """Bytes of memory it is accounted for: its bodies and a flat amount for the rest."""
        return len(self.request.data) + len(self.response.data) + 1024

    @property
    def succeeded(self) -> bool:
        """Whether the backend answered with a success and came to its end."""
        return self.failure is None and self.complete and self.status is not None and self.status < 400


_LIMITS = frozenset({Failure.UPSTREAM_OVERFLOW, Failure.OVERLOAD_MANAGER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The answer the user got and the one the shadow gave to a copy of the same request.

    `noise` is the answer of the primary's variant to a second copy, where one was made.
    """

    primary: Leg
    shadow: Leg
    noise: Leg | None = None

    @property
    def legs(self) -> tuple[Leg, ...]:
        """All legs there are."""
        return (self.primary, self.shadow) if self.noise is None else (self.primary, self.shadow, self.noise)

    @property
    def client_left(self) -> bool:
        """Whether the client hung up; such a pair says nothing about quality."""
        return self.primary.client_left or self.shadow.client_left


class UnpairedReason(Enum):
    """Why a leg did not become half of a stored pair."""

    NO_SHADOW = "no_shadow"
    """A primary whose shadow did not come within the window."""

    NO_PRIMARY = "no_primary"
    """A copy whose primary did not come within the window."""

    NO_NOISE = "no_noise"
    """A primary whose second copy did not come within the window; it may be half of a pair all the same."""

    DUPLICATE = "duplicate"
    """The same role was already there for this request."""

    LATE = "late"
    """The other leg had been given up on before."""

    EVICTED = "evicted"
    """Pushed out by newer legs while it waited."""

    SHUTDOWN = "shutdown"
    """The collector was asked to stop while it waited."""

    RESTART = "restart"
    """The collector died while it waited."""

    STORED_BEFORE = "stored_before"
    """The pair is in the store already."""

    STORE_FAILED = "store_failed"
    """The store refused the pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpaired:
    """A leg that will not become half of a pair."""

    leg: Leg
    reason: UnpairedReason


class RejectionReason(Enum):
    """Why something that was sent is no leg."""

    MALFORMED = "malformed"
    """Not the message or the JSON it should be."""

    NOT_CAPTURED = "not_captured"
    """A log entry without captured data."""

    BAD_FIELD = "bad_field"
    """A required value is missing or is not what it must be."""

    BAD_BASE64 = "bad_base64"
    BAD_NUMBER = "bad_number"
    TOO_MANY_ROUTES = "too_many_routes"
    """The sender names more routes than the collector keeps books for."""

    QUEUE_FULL = "queue_full"
    """Legs come in faster than they can be compared and stored."""

    STOPPING = "stopping"
    """The collector is shutting down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Something that is no leg, and why; the detail never quotes a body."""

    reason: RejectionReason
    detail: str = ""
