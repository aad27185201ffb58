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
    labels: dict[str, str] = Field(default_factory=dict)


class Proxies(Part):
    """Which Envoys: those whose node cluster is `group`."""

    group: Name


class PathMatch(Part):
    """A prefix or an exact path; exactly one."""

    prefix: Path | None = None
    exact: Path | None = None


class Match(Part):
    """Which requests."""

    hosts: Annotated[tuple[Host, ...], Field(strict=False, min_length=1)] = ("*",)
    path: PathMatch = PathMatch(prefix="/")


class PassiveHealth(Part):
    """When an endpoint that answers badly is left out for a while."""

    enabled: bool = True
    consecutive5xx: Threshold = Field(default=5, alias="consecutive5xx")
    consecutive_gateway_failures: Threshold = 3
    interval: Long = timedelta(seconds=5)
    ejection_time: Long = timedelta(seconds=15)


class HealthCheck(Part):
    """How the control plane asks an endpoint whether it lives; any answer below 500 is a yes.

    A candidate is given users only while one of its endpoints lives. `unhealthy_threshold` failures in a row
    count as dead.
    """

    enabled: bool = True
    path: Path = "/health"
    interval: Short = timedelta(seconds=1)
    timeout: Short = timedelta(seconds=1)
    unhealthy_threshold: Threshold = 2


class Backend(Part):
    """A set of equal model servers."""

    name: BackendName
    endpoints: Annotated[tuple[EndpointText, ...], Field(strict=False, min_length=1)] | None = None
    dns: Dns | None = None
    model_name_override: Plain | None = None
    price: Price | None = None
    passive_health: PassiveHealth = PassiveHealth()
    health_check: HealthCheck = HealthCheck()


class Capture(Part):
    """How much of each body is kept, per leg and direction."""

    max_body_size: CaptureSize = 128 << 10


class Timeouts(Part):
    """`idle` ends a stream on which nothing moves; `request`, if set, any request."""

    connect: Short = timedelta(seconds=2)
    idle: Long = timedelta(minutes=5)
    request: Long | None = None


class Convergence(Part):
    """When a step counts as held, and when it is said who is missing."""

    quorum: Share = 10_000
    timeout: Long = timedelta(minutes=1)


class RouteSpec(Part):
    """What a route should do."""

    proxies: Proxies
    match: Match = Match()
    model: Plain | None = None
    backends: Annotated[tuple[Backend, ...], Field(strict=False, min_length=1, max_length=20)]
    stable: Name
    candidate: Name | None = None
    attributes: dict[str, AttributeSource] = Field(default_factory=dict)
    jwt_providers: Annotated[dict[Name, JwtProvider], Field(max_length=8)] = Field(default_factory=dict)
    kill_switch: KillSwitch = KillSwitch()
    targeting: Targeting = Targeting()
    strategy: Strategy | None = None
    analysis: Analysis = Analysis()
    prompt: Prompt | None = None
    capture: Capture = Capture()
    timeouts: Timeouts = Timeouts()
    retries: Retries = 1
    response_headers: bool = True
    convergence: Convergence = Convergence()
    progress_deadline: Long = timedelta(hours=2)


class ModelRoute(Part):
    """One route, Kubernetes-shaped."""

    api_version: Literal["shiftplane.dev/v1alpha1"]
    kind: Literal["ModelRoute"]
    metadata: Metadata
    spec: RouteSpec
