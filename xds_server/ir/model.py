"""What one class of proxies should do, in our own words.

These values stand between the plan (what a team asked for, and how far its rollout is) and Envoy's
messages. They know neither the spec nor Envoy, so both can change without the other. All of them are
frozen; equal input gives equal values, and equal values give equal bytes.

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
    "Group",
    "HopRoute",
    "Limits",
    "Listener",
    "Mirror",
    "PassiveHealth",
    "PathMatch",
    "Proxies",
    "Role",
    "Route",
    "Stickiness",
    "VirtualHost",
]

FULL = 10_000
"""All of the traffic, in basis points; also the total weight of every split."""

NEWEST_ENVOY: Final = 40
"""The newest Envoy whose worlds we know how to write, as the minor number of 1.40."""

ClusterName = NewType("ClusterName", str)


class Role(Enum):
    """Which leg of an exchange a route serves."""

    PRIMARY = "primary"
    SHADOW = "shadow"


class ClusterKind(Enum):
    """Where a cluster's endpoints come from."""

    ENDPOINTS = "endpoints"
    """Literal addresses, delivered as an endpoint resource of their own."""
    DNS = "dns"
    """A name the proxy resolves by itself."""
    HOP = "hop"
    """The internal listener of the same proxy: the target of mirrors."""
    COLLECTOR = "collector"
    """The gRPC access-log sink."""


class _Remembered:
    """A value that is looked up in every compile, thousands at a time: its hash is worked out once."""

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
    """When a proxy takes an endpoint out by what it sees of real answers."""

    consecutive_5xx: int
    consecutive_gateway_failures: int
    interval: float
    ejection_time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a cluster may hold at most, so that whatever is stuck behind it stays bounded.

    `max_stream` is the longest life of one request in seconds; None leaves streams unbounded.
    """

    max_connections: int
    max_pending_requests: int
    max_requests: int
    max_retries: int
    buffer_bytes: int
    max_stream: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster(_Remembered):
    """A set of equal endpoints. `limits` of None means: never turn a user's request away."""

    __hash__ = _Remembered.__hash__

    name: ClusterName
    kind: ClusterKind
    addresses: tuple[Address, ...]
    connect_timeout: float
    health: PassiveHealth | None = None
    limits: Limits | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PathMatch:
    """A path prefix or an exact path; exactly one of the two is set."""

    prefix: str | None = None
    exact: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stickiness:
    """How a request finds its slot among `FULL` slots: xxh64(salt ":" header) modulo the total weight.

    Without the header the fallbacks apply in order: session header, then source address, then chance.
    """

    header: str
    salt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One segment of a split. A cluster may own several segments; the order of segments is the slot order.

    `model` is the model name this leg's body must carry, None where the body is left alone.
    """

    cluster: ClusterName
    variant: str
    weight: int
    model: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Both bodies of a leg, up to `max_body_bytes` each, go to the collector when the leg ends."""

    route: str
    role: Role
    max_body_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """A copy of the request to the hop cluster; `leg` tells the hop's routes whose copy it is.

    Only requests that declare a length of at most `max_request_bytes` are copied: an unbounded upload to a
    shadow that stopped reading would push back on the user.
    """

    cluster: ClusterName
    leg: str
    fraction: int
    runtime_key: str
    max_request_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(_Remembered):
    """One route of the entry listener.

    `timeout` None means no total limit; `idle_timeout` always bounds a stream on which nothing moves.
    """

    __hash__ = _Remembered.__hash__

    name: str
    route: str
    path: PathMatch
    arms: tuple[Arm, ...]
    stickiness: Stickiness | None
    mirror: Mirror | None
    capture: Capture | None
    timeout: float | None
    idle_timeout: float
    retries: int
    response_headers: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HopRoute(_Remembered):
    """One route of the hop listener: the shadow leg, with limits of its own and no retries."""

    __hash__ = _Remembered.__hash__

    name: str
    leg: str
    arm: Arm
    capture: Capture | None
    timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualHost(_Remembered):
    """All routes that claim one host, most specific path first."""

    __hash__ = _Remembered.__hash__

    name: str
    host: str
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Where users' requests come in, and the cluster that takes captured legs, if there is one."""

    entry: Address
    collector: ClusterName | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """A class of proxies that are all told the same: same group, same entry address, same version.

    `envoy` is the minor number of the version they are served as, 40 for Envoy 1.40. With
    `virtual_hosts_apart` they are told each virtual host by itself and not a whole table of them.
    """

    group: str
    entry: Address
    envoy: int = NEWEST_ENVOY
    virtual_hosts_apart: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The whole world of one class of proxies."""

    proxies: Proxies
    listener: Listener
    virtual_hosts: tuple[VirtualHost, ...]
    hop_routes: tuple[HopRoute, ...]
    clusters: tuple[Cluster, ...]
