"""The configuration of one node class: listeners, routes, weights, mirrors and clusters (pure).

These values stand between the plan (the spec and the state of its rollout) and Envoy's messages. They depend
on neither, so that both can change separately. All of them are frozen; equal input gives equal values, and
equal values give equal bytes. They are in one file because they refer to each other.

Units: weights and percentages are basis points (0..10000), times are seconds, sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, NewType

__all__ = [
    "FULL",
    "NEWEST_ENVOY",
    "Address",
    "Arm",
    "Capture",
    "Cluster",
    "ClusterKind",
    "ClusterName",
    "Condition",
    "Limits",
    "Listener",
    "Mirror",
    "MirrorRoute",
    "NodeClass",
    "Op",
    "PassiveHealth",
    "PathMatch",
    "Prompt",
    "PromptMode",
    "PromptPin",
    "PromptText",
    "ProxyConfig",
    "Role",
    "Route",
    "RuntimeFraction",
    "Stickiness",
    "Tls",
    "TokenIssuer",
    "VirtualHost",
]

FULL = 10_000
"""All of the traffic, in basis points; also the total weight of every split."""

NEWEST_ENVOY: Final = 40
"""The newest Envoy version that configurations are written for, as the minor number of 1.40."""

ClusterName = NewType("ClusterName", str)


class Role(Enum):
    """The leg of an exchange that a route serves."""

    PRIMARY = "primary"
    SHADOW = "shadow"
    NOISE = "noise"
    """A copy to the variant that served the user, which measures how much its answers vary by themselves."""


class ClusterKind(Enum):
    """The source of a cluster's endpoints."""

    ENDPOINTS = "endpoints"
    """Literal addresses, sent as a separate endpoint resource."""
    DNS = "dns"
    """A name that the proxy resolves."""
    MIRROR_LISTENER = "hop"
    """The internal listener of the same proxy: the target of mirrors."""
    COLLECTOR = "collector"
    """The gRPC access-log sink."""
    KEYS = "keys"
    """The server of the public keys that verify users' tokens."""


class Op(Enum):
    """The comparison of a header."""

    EQUALS = "equals"
    STARTS_WITH = "startsWith"
    ENDS_WITH = "endsWith"
    CONTAINS = "contains"
    MATCHES = "matches"
    """The whole value matches a regular expression (RE2)."""
    EXISTS = "exists"
    AT_LEAST = "atLeast"
    """The value is an integer greater than or equal to the one in `Condition.values`."""
    BELOW = "below"
    """The value is an integer less than the one in `Condition.values`."""


class PromptMode(Enum):
    """How a system prompt is added; every mode inserts it if there is no system message yet."""

    INSERT = "insert"
    REPLACE = "replace"
    APPEND = "append"


class _CachedHash:
    """Base class that computes the hash once: these values are cache keys, looked up thousands of times."""

    __slots__ = ("_hash",)
    _hash: int

    def __post_init__(self) -> None:
        found = hash(tuple(getattr(self, name) for name in self.__slots__))
        object.__setattr__(self, "_hash", found)

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A socket address; `host` is an IP address or, for DNS clusters, a name."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PassiveHealth:
    """Outlier detection: when a proxy ejects an endpoint because of its responses."""

    consecutive_5xx: int
    consecutive_gateway_failures: int
    interval: float
    ejection_time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a cluster, which bound the resources that a stuck endpoint can hold.

    `max_stream` is the longest duration of one request in seconds; None does not limit it.
    """

    max_connections: int
    max_pending_requests: int
    max_requests: int
    max_retries: int
    buffer_bytes: int
    max_stream: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """TLS to a server whose certificate must carry `name`; `ca_file` is a path on the proxy."""

    name: str
    ca_file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster(_CachedHash):
    """A set of equivalent endpoints.

    Without `limits` the cluster never rejects a request for lack of capacity. With `tls` the connections to
    its endpoints use TLS.
    """

    __hash__ = _CachedHash.__hash__

    name: ClusterName
    kind: ClusterKind
    addresses: tuple[Address, ...]
    connect_timeout: float
    health: PassiveHealth | None = None
    limits: Limits | None = None
    tls: Tls | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PathMatch:
    """A path prefix or an exact path; exactly one of the two is set."""

    prefix: str | None = None
    exact: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A condition on a header: one of `values` matches; with `negated`, none does.

    A missing header meets only negated conditions.
    """

    header: str
    op: Op
    values: tuple[str, ...] = ()
    negated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeFraction:
    """The share of requests that a route takes; the others continue to the next route.

    `now` is the current share, published under `key` in the runtime layer; `default` applies to a proxy that
    does not subscribe to that layer.
    """

    key: str
    default: int
    now: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stickiness:
    """How a request gets its slot among `FULL` slots: xxh64(salt ":" header) modulo the total weight.

    Without the header the fallbacks apply in order: session header, source address, random.
    """

    header: str
    salt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One segment of a split; the order of segments is the slot order, and a cluster may own several.

    `model` is the model name that the request body of this leg must carry; None leaves the body unchanged.
    `cell` is the cell of the users in these slots (`rollout.cells`); None without cells.
    """

    cluster: ClusterName
    variant: str
    weight: int
    model: str | None
    cell: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Sends both bodies of a leg, up to `max_body_bytes` each, to the collector when the leg ends.

    `unit` is the header that identifies the user or session. `experiment` is the experiment to which the
    exposure of that unit is reported; with 0 as `max_body_bytes` only the exposure is sent. `noise` marks a
    request that is also copied to the variant that serves it.
    """

    route: str
    role: Role
    max_body_bytes: int
    unit: str | None = None
    experiment: str | None = None
    noise: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptText:
    """One version of a system prompt."""

    version: str
    text: str
    mode: PromptMode


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptPin:
    """Requests whose header has one of these values get this version; the first matching pin applies."""

    header: str
    values: tuple[str, ...]
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Which request gets which system prompt: by pin, else by the slot of `stickiness`, else `default`.

    The slot is xxh32(salt ":" header) modulo `FULL`; `slots` are runs of (version, length), "" for no prompt.
    """

    texts: tuple[PromptText, ...]
    default: str
    pins: tuple[PromptPin, ...]
    stickiness: Stickiness | None
    slots: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """A copy of the request to the cluster of the mirror listener; `leg` selects the route there.

    Only requests that declare a length of at most `max_request_bytes` are copied: an unbounded upload to a
    shadow that stopped reading would apply back pressure to the user.
    """

    cluster: ClusterName
    leg: str
    max_request_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(_CachedHash):
    """One route of the entry listener.

    The first route whose path, conditions and runtime fraction match takes the request.
    Routes of one spec with the same `split` have the same arms and stickiness, so a user gets the same
    variant on each of them. `timeout` None means no total limit; `idle_timeout` always limits a stream
    without traffic. `private` are headers that conditions use and that must not leave the proxy.
    """

    __hash__ = _CachedHash.__hash__

    name: str
    route: str
    split: str
    path: PathMatch
    arms: tuple[Arm, ...]
    timeout: float | None
    idle_timeout: float
    retries: int
    response_headers: bool
    conditions: tuple[Condition, ...] = ()
    runtime_fraction: RuntimeFraction | None = None
    stickiness: Stickiness | None = None
    mirrors: tuple[Mirror, ...] = ()
    capture: Capture | None = None
    prompt: Prompt | None = None
    private: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorRoute(_CachedHash):
    """One route of the mirror listener, for a shadow or noise leg: it has a timeout and no retries."""

    __hash__ = _CachedHash.__hash__

    name: str
    leg: str
    arm: Arm
    capture: Capture | None
    timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualHost(_CachedHash):
    """All routes that match one host: its own, then those of wider hosts, each most specific path first."""

    __hash__ = _CachedHash.__hash__

    name: str
    host: str
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIssuer:
    """An issuer of accepted tokens, and the claims that become headers: (header, claim).

    Exactly one of `keys` (a JSON key set) and `keys_url`, which is fetched through `keys_cluster`, is set. A
    missing or invalid token rejects no request; its claims are absent.
    """

    name: str
    issuer: str
    audiences: tuple[str, ...]
    claims: tuple[tuple[str, str], ...]
    keys: str | None = None
    keys_url: str | None = None
    keys_cluster: ClusterName | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """The entry listener: its address, token issuers, and the collector of captured legs, if any.

    With `reads_usage`, proxies read the token usage from responses.
    """

    entry: Address
    collector: ClusterName | None
    tokens: tuple[TokenIssuer, ...] = ()
    reads_usage: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeClass:
    """A class of proxies that get the same configuration, because all four fields are the same.

    `envoy` is the minor version the configuration is written for, 40 for Envoy 1.40. With
    `virtual_hosts_apart` each virtual host is a resource of its own (VHDS) instead of part of the route
    table.
    """

    group: str
    entry: Address
    envoy: int = NEWEST_ENVOY
    virtual_hosts_apart: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """The complete configuration of one node class."""

    node_class: NodeClass
    listener: Listener
    virtual_hosts: tuple[VirtualHost, ...]
    mirror_routes: tuple[MirrorRoute, ...]
    clusters: tuple[Cluster, ...]
