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
"""The newest Envoy whose worlds we know how to write, as the minor number of 1.40."""

ClusterName = NewType("ClusterName", str)


class Role(Enum):
    """Which leg of an exchange a route serves."""

    PRIMARY = "primary"
    SHADOW = "shadow"
    NOISE = "noise"
    """A copy for the variant that serves the user: how much its answers differ by themselves."""


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
    KEYS = "keys"
    """Where the keys are fetched that sign users' tokens."""


class Op(Enum):
    """How a header is compared."""

    EQUALS = "equals"
    STARTS_WITH = "startsWith"
    ENDS_WITH = "endsWith"
    CONTAINS = "contains"
    MATCHES = "matches"
    """The whole value matches a regular expression (RE2)."""
    EXISTS = "exists"
    AT_LEAST = "atLeast"
    """The value is a whole number, and as large as this one or larger."""
    BELOW = "below"
    """The value is a whole number, and smaller than this one."""


class PromptMode(Enum):
    """Where a system prompt goes; each inserts it where there is no system message yet."""

    INSERT = "insert"
    REPLACE = "replace"
    APPEND = "append"


class _CachedHash:
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
class Tls:
    """A server must prove to be `name`; whom to believe is in a file of the proxy."""

    name: str
    ca_file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster(_CachedHash):
    """A set of equal endpoints. `limits` of None means: never turn a user's request away.

    With `tls` it is spoken to in TLS.
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
    """Something that must hold for a header: one of `values` does; `negated`, that none does.

    A header that is not there meets no condition but a negated one.
    """

    header: str
    op: Op
    values: tuple[str, ...] = ()
    negated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeFraction:
    """Which share of the requests a route takes; the others go on to the next route.

    `now` is what the share is at this moment, told under `key` in the runtime layer; a proxy that does not
    follow that layer goes by `default`.
    """

    key: str
    default: int
    now: int


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
    """Both bodies of a leg, up to `max_body_bytes` each, go to the collector when the leg ends.

    `unit` is the header that names the user or session; with `experiment` it says who is exposed to that, and
    without bodies (0 bytes) that is all that is told. `noise` says that a copy goes to the same variant too.
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
    """Requests whose header has one of these values get this version; the first pin that does counts."""

    header: str
    values: tuple[str, ...]
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Which request gets which system prompt: a pin first, then the slot of `stickiness`, then `default`.

    The slot is xxh32(salt ":" header) modulo `FULL`; `slots` are runs of (version, length), "" for none.
    """

    texts: tuple[PromptText, ...]
    default: str
    pins: tuple[PromptPin, ...]
    stickiness: Stickiness | None
    slots: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """A copy of the request to the hop cluster; `leg` tells the hop's routes whose copy it is.

    Only requests that declare a length of at most `max_request_bytes` are copied: an unbounded upload to a
    shadow that stopped reading would push back on the user.
    """

    cluster: ClusterName
    leg: str
    max_request_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(_CachedHash):
    """One route of the entry listener; of a spec's routes the first whose conditions hold takes a request.

    `split` names what the arms are the split of: routes of one spec and split split alike. `timeout` None
    means no total limit; `idle_timeout` always bounds a stream on which nothing moves. `private` are headers
    that decide and must not leave the proxy.
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
    gate: RuntimeFraction | None = None
    stickiness: Stickiness | None = None
    mirrors: tuple[Mirror, ...] = ()
    capture: Capture | None = None
    prompt: Prompt | None = None
    private: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorRoute(_CachedHash):
    """One route of the hop listener: the shadow leg, with limits of its own and no retries."""

    __hash__ = _CachedHash.__hash__

    name: str
    leg: str
    arm: Arm
    capture: Capture | None
    timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualHost(_CachedHash):
    """All routes that claim one host, most specific path first."""

    __hash__ = _CachedHash.__hash__

    name: str
    host: str
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIssuer:
    """Whose tokens are believed, and which of their claims become headers: (header, claim).

    Exactly one of `keys` (a JSON key set) and `keys_url`, which is fetched through `keys_cluster`, is set.
    A token that is missing or wrong refuses nobody; its claims are just not there.
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
    """Where users' requests come in, whose tokens are believed, and what takes captured legs, if anything.

    With `reads_usage`, proxies read from answers how many tokens they took.
    """

    entry: Address
    collector: ClusterName | None
    tokens: tuple[TokenIssuer, ...] = ()
    reads_usage: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeClass:
    """A class of proxies that are all told the same: same group, same entry address, same version.

    `envoy` is the minor number of the version they are served as, 40 for Envoy 1.40. With
    `virtual_hosts_apart` they are told each virtual host by itself and not a whole table of them.
    """

    group: str
    entry: Address
    envoy: int = NEWEST_ENVOY
    virtual_hosts_apart: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """The whole world of one class of proxies."""

    proxies: NodeClass
    listener: Listener
    virtual_hosts: tuple[VirtualHost, ...]
    mirror_routes: tuple[MirrorRoute, ...]
    clusters: tuple[Cluster, ...]
