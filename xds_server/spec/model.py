"""The model of a checked route spec: frozen values, one class per mapping of the YAML.

Field names are camelCase in YAML and snake_case here. The classes here and in `analysis`, `prompts`,
`strategies` and `targeting` check the shape and each single value; `check` checks the values against each
other.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from xds_server.spec.analysis import Analysis, Price
from xds_server.spec.prompts import Prompt
from xds_server.spec.scalars import (
    BackendName,
    CaptureSize,
    Dns,
    DurationMin1s,
    DurationMin10ms,
    EndpointText,
    Host,
    Name,
    Path,
    RetryCount,
    RouteName,
    Share,
    ShortText,
    SpecModel,
    Threshold,
)
from xds_server.spec.strategies import Strategy
from xds_server.spec.targeting import AttributeSource, JwtProvider, KillSwitch, Targeting

__all__ = [
    "Backend",
    "Capture",
    "Convergence",
    "HealthCheck",
    "Match",
    "Metadata",
    "ModelRoute",
    "PassiveHealth",
    "PathMatch",
    "Proxies",
    "RouteSpec",
    "Timeouts",
]


class Metadata(SpecModel):
    """The name and labels of the route."""

    name: RouteName
    """The name of the route. Commands, cluster names and statistics use it."""

    labels: dict[str, str] = Field(default_factory=dict)
    """Free-form labels. Role grants and notification targets can select routes by them."""


class Proxies(SpecModel):
    """The proxies that serve the route."""

    group: Name
    """The `node.cluster` of the proxies that serve this route."""


class PathMatch(SpecModel):
    """A path prefix or an exact path; exactly one of the two."""

    prefix: Path | None = None
    """Match every path that begins with this prefix."""

    exact: Path | None = None
    """Match this path only."""


class Match(SpecModel):
    """The requests that the route matches."""

    hosts: Annotated[tuple[Host, ...], Field(strict=False, min_length=1)] = ("*",)
    """Hosts to match: `*` for any host, a host name, or `*.example.com` for all subdomains. Ports are
    ignored.
    """

    path: PathMatch = PathMatch(prefix="/")
    """Paths to match; by default all paths."""


class PassiveHealth(SpecModel):
    """Outlier detection: when proxies eject an endpoint that returns errors."""

    enabled: bool = True
    """Whether proxies eject endpoints that return errors."""

    consecutive5xx: Threshold = Field(default=5, alias="consecutive5xx")
    """Number of consecutive 5xx responses after which an endpoint is ejected."""

    consecutive_gateway_failures: Threshold = 3
    """Number of consecutive 502, 503 or 504 responses or failed connections after which an endpoint is
    ejected.
    """

    interval: DurationMin1s = timedelta(seconds=5)
    """Time between two checks of whether an ejected endpoint can return."""

    ejection_time: DurationMin1s = timedelta(seconds=15)
    """Duration of the first ejection of an endpoint. Repeated ejections last longer."""


class HealthCheck(SpecModel):
    """Active health checks, sent by the control plane; a response with a status below 500 counts as healthy.

    A candidate gains users only while at least one of its endpoints is healthy. A candidate with users is
    rolled back when none of its endpoints is healthy anymore. The stable backend serves users regardless of
    its health, so the settings of its health check have no effect.
    """

    enabled: bool = True
    """Whether the control plane checks the endpoints. Without checks the backend counts as healthy."""

    path: Path = "/health"
    """Path of the GET request."""

    interval: DurationMin10ms = timedelta(seconds=1)
    """Time between two checks of an endpoint."""

    timeout: DurationMin10ms = timedelta(seconds=1)
    """Time after which a check without a response counts as failed."""

    unhealthy_threshold: Threshold = 2
    """Number of consecutive failed checks after which an endpoint counts as unhealthy."""


class Backend(SpecModel):
    """A set of interchangeable model servers."""

    name: BackendName
    """The name of the backend, used as the variant in headers, statistics and weights."""

    endpoints: Annotated[tuple[EndpointText, ...], Field(strict=False, min_length=1)] | None = None
    """IP addresses with ports. Exactly one of `endpoints` and `dns` is required."""

    dns: Dns | None = None
    """A host name with a port; the proxies resolve it. Exactly one of `endpoints` and `dns` is required."""

    model_name_override: ShortText | None = None
    """The model name that this backend serves. Proxies rewrite the `model` of the request and no other byte.
    """

    price: Price | None = None
    """The price of the tokens of this backend. Without it, no costs are reported."""

    passive_health: PassiveHealth = PassiveHealth()
    """Outlier detection: when proxies eject an endpoint that returns errors."""

    health_check: HealthCheck = HealthCheck()
    """Active health checks, sent by the control plane."""


class Capture(SpecModel):
    """How much of each request and response body is captured."""

    max_body_size: CaptureSize = 128 << 10
    """Maximum number of bytes captured of each request body and of each response body.
    """


class Timeouts(SpecModel):
    """Timeouts of the proxies."""

    connect: DurationMin10ms = timedelta(seconds=2)
    """Time to establish a connection to a backend."""

    idle: DurationMin1s = timedelta(minutes=5)
    """Time without any data after which a stream is closed."""

    request: DurationMin1s | None = None
    """Total time after which a request is ended. Without it, requests have no time limit."""


class Convergence(SpecModel):
    """When a step counts as converged, and when lagging proxies are reported."""

    quorum: Share = 10_000
    """Percentage of the connected proxies that must be synced for a step to count as converged."""

    timeout: DurationMin1s = timedelta(minutes=1)
    """Time after which the message of the rollout lists the proxies that are not synced."""


class RouteSpec(SpecModel):
    """The desired state of a route."""

    proxies: Proxies
    """The proxies that serve the route."""

    match: Match = Match()
    """The requests that the route matches; by default all requests."""

    model: ShortText | None = None
    """The public model name. A backend without `modelNameOverride` receives it when another backend has an
    override.
    """

    backends: Annotated[tuple[Backend, ...], Field(strict=False, min_length=1, max_length=20)]
    """The backends that the other fields refer to."""

    stable: Name
    """The backend that serves users now."""

    candidate: Name | None = None
    """The backend under test. An A/B test has `variants` instead."""

    attributes: dict[str, AttributeSource] = Field(default_factory=dict)
    """User attributes by name, and where the proxies read them."""

    jwt_providers: Annotated[dict[Name, JwtProvider], Field(max_length=8)] = Field(default_factory=dict)
    """Token issuers by name; attributes read claims from their tokens."""

    kill_switch: KillSwitch = KillSwitch()
    """Sends all users to one backend at once while `enabled` is true."""

    targeting: Targeting = Targeting()
    """Assigns users to backends, independent of the strategy."""

    strategy: Strategy | None = None
    """How the candidate is rolled out. Without a strategy, the stable backend serves all users except those
    that `killSwitch` or `targeting` assigns to another backend.
    """

    analysis: Analysis = Analysis()
    """How the candidate is compared with the stable backend, and what triggers a rollback."""

    prompt: Prompt | None = None
    """Versions of the system prompt, and which users receive which version."""

    capture: Capture = Capture()
    """How much of each request and response body is captured."""

    timeouts: Timeouts = Timeouts()
    """Connection, idle and request timeouts."""

    retries: RetryCount = 1
    """Maximum number of retries of a request. A request is retried if its connection to the backend fails or
    is reset before a response begins. Responses with an error status are not retried.
    """

    response_headers: bool = True
    """Whether responses carry the headers `x-shiftplane-route`, `x-shiftplane-variant` and, where a system
    prompt was injected, `x-shiftplane-prompt`.
    """

    convergence: Convergence = Convergence()
    """When a step counts as converged."""

    progress_deadline: DurationMin1s = timedelta(hours=2)
    """Time for the proxies to converge on a step. If they need longer, the rollout becomes Degraded."""


class ModelRoute(SpecModel):
    """A route in the shape of a Kubernetes resource."""

    api_version: Literal["shiftplane.dev/v1alpha1"]
    """The API version of the document."""

    kind: Literal["ModelRoute"]
    """The kind of the document."""

    metadata: Metadata
    """The name and labels of the route."""

    spec: RouteSpec
    """The desired state of the route."""
