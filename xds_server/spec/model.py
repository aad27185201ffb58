"""A checked route spec: frozen values, one class per part of the YAML.

Names are camelCase in YAML and snake_case here. Shapes and single values are checked here and in the modules
of the parts; what they mean together is the business of `check`.
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
    EndpointText,
    Host,
    Long,
    Name,
    Part,
    Path,
    Plain,
    Retries,
    RouteName,
    Share,
    Short,
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


class Metadata(Part):
    """Who the route is."""

    name: RouteName
    """The route's name, in commands, names of clusters and statistics."""

    labels: dict[str, str] = Field(default_factory=dict)
    """Text by name, for your own use."""


class Proxies(Part):
    """Which Envoys: those whose node cluster is `group`."""

    group: Name
    """The `node.cluster` of the Envoys that are to serve this route."""


class PathMatch(Part):
    """A prefix or an exact path; exactly one."""

    prefix: Path | None = None
    """All paths that begin so."""

    exact: Path | None = None
    """This path alone."""


class Match(Part):
    """Which requests."""

    hosts: Annotated[tuple[Host, ...], Field(strict=False, min_length=1)] = ("*",)
    """Which hosts: any, one by name, or all below a domain; ports do not matter."""

    path: PathMatch = PathMatch(prefix="/")
    """Which paths; by default all."""


class PassiveHealth(Part):
    """When an endpoint that answers badly is left out for a while."""

    enabled: bool = True
    """Whether proxies leave out an endpoint that answers badly."""

    consecutive5xx: Threshold = Field(default=5, alias="consecutive5xx")
    """So many answers of 5xx in a row, and it is left out."""

    consecutive_gateway_failures: Threshold = 3
    """So many of 502, 503, 504 or no answer in a row, and it is left out."""

    interval: Long = timedelta(seconds=5)
    """How often proxies look whether an endpoint may come back."""

    ejection_time: Long = timedelta(seconds=15)
    """How long an endpoint is left out the first time."""


class HealthCheck(Part):
    """How the control plane asks an endpoint whether it lives; any answer below 500 is a yes.

    A candidate is given users only while one of its endpoints lives.
    """

    enabled: bool = True
    """Whether the control plane asks; else the backend counts as living."""

    path: Path = "/health"
    """What is asked for, by GET."""

    interval: Short = timedelta(seconds=1)
    """How often each endpoint is asked."""

    timeout: Short = timedelta(seconds=1)
    """How long an answer may take."""

    unhealthy_threshold: Threshold = 2
    """So many failures in a row count as dead."""


class Backend(Part):
    """A set of equal model servers."""

    name: BackendName
    """The variant's name, in headers, statistics and weights."""

    endpoints: Annotated[tuple[EndpointText, ...], Field(strict=False, min_length=1)] | None = None
    """IP addresses with ports; exactly one of this and `dns`."""

    dns: Dns | None = None
    """A name with a port, resolved by the proxy; exactly one of this and `endpoints`."""

    model_name_override: Plain | None = None
    """The model name this backend knows: the request's `model` is changed on its way, no other byte is."""

    price: Price | None = None
    """What its answers cost; without one nothing is said of money."""

    passive_health: PassiveHealth = PassiveHealth()
    """When an endpoint that answers badly is left out for a while."""

    health_check: HealthCheck = HealthCheck()
    """How the control plane asks whether it lives."""


class Capture(Part):
    """How much of each body is kept, per leg and direction."""

    max_body_size: CaptureSize = 128 << 10
    """The first so many bytes are kept."""


class Timeouts(Part):
    """How long proxies wait."""

    connect: Short = timedelta(seconds=2)
    """How long a connection to a backend may take."""

    idle: Long = timedelta(minutes=5)
    """Ends a stream on which nothing moves for so long."""

    request: Long | None = None
    """Ends any request after so long; without one none is ended for being long."""


class Convergence(Part):
    """When a step counts as held, and when it is said who is missing."""

    quorum: Share = 10_000
    """So much of the connected proxies must hold a step."""

    timeout: Long = timedelta(minutes=1)
    """After so long status says who is missing."""


class RouteSpec(Part):
    """What a route should do."""

    proxies: Proxies
    """Which Envoys."""

    match: Match = Match()
    """Which requests; by default all."""

    model: Plain | None = None
    """The public model name: what a backend without `modelNameOverride` is asked for as soon as another
    backend has one.
    """

    backends: Annotated[tuple[Backend, ...], Field(strict=False, min_length=1, max_length=20)]
    """The sets of model servers there are."""

    stable: Name
    """The backend that serves users now."""

    candidate: Name | None = None
    """The backend that is tried."""

    attributes: dict[str, AttributeSource] = Field(default_factory=dict)
    """What proxies know of a user, by name."""

    jwt_providers: Annotated[dict[Name, JwtProvider], Field(max_length=8)] = Field(default_factory=dict)
    """Whose tokens claims are read from, by name."""

    kill_switch: KillSwitch = KillSwitch()
    """Everyone on one backend, at once."""

    targeting: Targeting = Targeting()
    """Who is served by what, whatever the strategy."""

    strategy: Strategy | None = None
    """How the candidate is tried; without one everyone has the stable backend."""

    analysis: Analysis = Analysis()
    """How the candidate is judged, and what takes it back."""

    prompt: Prompt | None = None
    """Versions of the system prompt, and who has which."""

    capture: Capture = Capture()
    """How much of each body is kept."""

    timeouts: Timeouts = Timeouts()
    """How long a connection, a silence and a request may take."""

    retries: Retries = 1
    """How often a request is tried again, only while no byte of an answer reached the client."""

    response_headers: bool = True
    """Whether clients are told `x-shiftplane-route`, `x-shiftplane-variant` and, where one was put in,
    `x-shiftplane-prompt`.
    """

    convergence: Convergence = Convergence()
    """When a step counts as held."""

    progress_deadline: Long = timedelta(hours=2)
    """How long proxies may take to hold a step before the rollout is Degraded."""


class ModelRoute(Part):
    """One route, Kubernetes-shaped."""

    api_version: Literal["shiftplane.dev/v1alpha1"]
    """The version of this format."""

    kind: Literal["ModelRoute"]
    """What the document is."""

    metadata: Metadata
    """Who the route is."""

    spec: RouteSpec
    """What it should do."""
