"""Routes of the IR → Envoy route tables, one for the entry and one for the mirror listener (pure).

For proxies that discover virtual hosts (VHDS), each virtual host is a resource of its own.
"""

from __future__ import annotations

import json
import re
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation
from envoy_data_plane.envoy.config.core.v3 import (
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    RuntimeFractionalPercent,
)
from envoy_data_plane.envoy.config.route.v3 import (
    HeaderMatcher,
    RetryPolicy,
    RetryPolicyRetryHostPredicate,
    Route,
    RouteAction,
    RouteActionHashPolicy,
    RouteActionHashPolicyConnectionProperties,
    RouteActionHashPolicyHeader,
    RouteActionRequestMirrorPolicy,
    RouteConfiguration,
    RouteMatch,
    Vhds,
    VirtualHost,
    WeightedCluster,
    WeightedClusterClusterWeight,
)
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import LuaPerRoute
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import PreviousHostsPredicate
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatchAndSubstitute, RegexMatcher, StringMatcher
from envoy_data_plane.envoy.type.v3 import FractionalPercent, FractionalPercentDenominatorType, Int64Range
from envoy_data_plane.google.protobuf import Any as AnyMessage
from envoy_data_plane.google.protobuf import Struct

from xds_server.ir.names import ENTRY_ROUTES, MIRROR_ROUTES
from xds_server.translate.clusters import ads_source
from xds_server.translate.encode import encode, pack, repeated
from xds_server.translate.matching import header_matcher
from xds_server.translate.prompts import prompt_metadata
from xds_server.translate.statistics import CELL_HEADER

if TYPE_CHECKING:
    from xds_server import ir

__all__ = [
    "CAPTURE_FILTER",
    "LEG_HEADER",
    "PROMPT_HEADER",
    "REWRITE_BUFFER",
    "REWRITE_FILTER",
    "SESSION_HEADER",
    "apart_name",
    "entry_routes",
    "entry_table",
    "entry_virtual_host",
    "mirror_routes",
]

CAPTURE_FILTER: Final = "shiftplane.capture"
REWRITE_FILTER: Final = "shiftplane.rewrite"
PROMPT_HEADER: Final = "x-shiftplane-prompt"
"""Request and response header with the prompt version that was inserted."""
LEG_HEADER: Final = "x-shiftplane-leg"
"""Header that selects the route in the mirror listener; it never leaves the proxy."""
SESSION_HEADER: Final = "x-session-id"
"""Header that a sticky split hashes if its own header is missing."""
REWRITE_BUFFER: Final = 64 << 20
"""The largest body that is rewritten, in bytes; filters buffer bodies up to this size."""

# Field numbers of RouteConfiguration.virtual_hosts and VirtualHost.routes.
_VIRTUAL_HOSTS: Final = 2
_ROUTES: Final = 3
_OVERWRITE: Final = HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
# Each of these conditions occurs only before the first byte of a response reached the client.
_RETRY_ON: Final = "connect-failure,refused-stream,reset,reset-before-request"


def entry_routes(virtual_hosts: tuple[ir.VirtualHost, ...]) -> tuple[RouteConfiguration, bytes]:
    """Return the route table of users' requests, and the encoding of its virtual hosts."""
    table = RouteConfiguration(name=ENTRY_ROUTES, ignore_port_in_host_matching=True)
    return table, repeated(_VIRTUAL_HOSTS, map(_virtual_host, virtual_hosts))


def entry_table() -> RouteConfiguration:
    """Return the route table of proxies that get each virtual host separately (VHDS)."""
    return RouteConfiguration(
        name=ENTRY_ROUTES, ignore_port_in_host_matching=True, vhds=Vhds(config_source=ads_source())
    )


def entry_virtual_host(host: ir.VirtualHost) -> tuple[VirtualHost, bytes]:
    """Return a separate virtual host, and the encoding of its routes."""
    head = VirtualHost(name=apart_name(host.name), domains=[host.host])
    return head, repeated(_ROUTES, map(_entry_route_bytes, host.routes))


def apart_name(host: str) -> str:
    """Return the resource name of a separate virtual host.

    The part before the slash is the name of the route table. Resource and message must have the same name:
    Envoy uses one of the two names to add a virtual host and the other to remove it.
    """
    return f"{ENTRY_ROUTES}/{host}"


def mirror_routes(routes: tuple[ir.MirrorRoute, ...]) -> tuple[RouteConfiguration, bytes]:
    """Return the mirror listener's route table, without its only virtual host, and that host encoded.

    Its routes match the leg header, which the mirror policies of the entry routes set on each copy.
    """
    # Only the requests of users are counted by cell.
    table = RouteConfiguration(name=MIRROR_ROUTES, request_headers_to_remove=[LEG_HEADER, CELL_HEADER])
    host = encode(VirtualHost(name=MIRROR_ROUTES, domains=["*"]))
    return table, repeated(_VIRTUAL_HOSTS, [host + repeated(_ROUTES, map(_mirror_route_bytes, routes))])


@lru_cache(maxsize=1024)
def _virtual_host(host: ir.VirtualHost) -> bytes:
    head = encode(VirtualHost(name=host.name, domains=[host.host]))
    return head + repeated(_ROUTES, map(_entry_route_bytes, host.routes))


@lru_cache(maxsize=16384)
def _entry_route_bytes(route: ir.Route) -> bytes:
    return encode(_entry_route(route))


@lru_cache(maxsize=8192)
def _mirror_route_bytes(route: ir.MirrorRoute) -> bytes:
    return encode(_mirror_route(route))


def _entry_route(route: ir.Route) -> Route:
    action = RouteAction(
        weighted_clusters=WeightedCluster(
            clusters=[_arm(route, arm) for arm in route.arms],
            use_hash_policy=None if route.stickiness is None else True,
        ),
        timeout=timedelta(seconds=route.timeout or 0),
        idle_timeout=timedelta(seconds=route.idle_timeout),
        retry_policy=None if route.retries == 0 else _retry_policy(route.retries),
        hash_policy=[] if route.stickiness is None else _hash_policy(route.stickiness),
        request_mirror_policies=[_mirror(mirror) for mirror in route.mirrors],
    )
    match = _match(route.path)
    match.headers = [header_matcher(condition) for condition in route.conditions]
    if route.runtime_fraction is not None:
        match.runtime_fraction = _fraction(route.runtime_fraction.default, route.runtime_fraction.key)
    if route.mirrors:
        match.headers.append(_declared_length(min(mirror.max_request_bytes for mirror in route.mirrors)))
    message = Route(
        name=route.name,
        match=match,
        route=action,
        response_headers_to_add=_response_headers(route),
        request_headers_to_remove=list(route.private),
        typed_per_filter_config={} if route.capture is None else {CAPTURE_FILTER: _capture(route.capture)},
    )
    if route.prompt is not None:
        message.metadata = prompt_metadata(route.prompt, REWRITE_FILTER)
    if route.prompt is not None or any(arm.model is not None for arm in route.arms):
        message.request_body_buffer_limit = REWRITE_BUFFER
    return message


def _response_headers(route: ir.Route) -> list[HeaderValueOption]:
    """Return the response headers with route and prompt; Envoy omits headers without a value."""
    if not route.response_headers:
        return []
    found = [_set_header("x-shiftplane-route", route.route)]
    if route.prompt is not None:
        prompt = HeaderValue(key=PROMPT_HEADER, value=f"%REQ({PROMPT_HEADER})%")
        found.append(HeaderValueOption(header=prompt, append_action=_OVERWRITE))
    return found


def _mirror_route(route: ir.MirrorRoute) -> Route:
    filters = {} if route.capture is None else {CAPTURE_FILTER: _capture(route.capture)}
    message = Route(
        name=route.name,
        match=RouteMatch(
            prefix="/",
            headers=[HeaderMatcher(name=LEG_HEADER, string_match=StringMatcher(exact=route.leg))],
        ),
        route=RouteAction(
            cluster=route.arm.cluster,
            timeout=timedelta(seconds=route.timeout),
            idle_timeout=timedelta(seconds=route.timeout),
        ),
    )
    if route.arm.model is not None:
        filters[REWRITE_FILTER] = _rewrite(route.arm.model)
        message.request_body_buffer_limit = REWRITE_BUFFER
    message.typed_per_filter_config = filters
    return message


def _match(path: ir.PathMatch) -> RouteMatch:
    return RouteMatch(prefix=path.prefix) if path.exact is None else RouteMatch(path=path.exact)


def _arm(route: ir.Route, arm: ir.Arm) -> WeightedClusterClusterWeight:
    rewritten = arm.model is not None or route.prompt is not None
    return WeightedClusterClusterWeight(
        name=arm.cluster,
        weight=arm.weight,
        request_headers_to_add=[] if arm.cell is None else [_set_header(CELL_HEADER, str(arm.cell))],
        response_headers_to_add=(
            [_set_header("x-shiftplane-variant", arm.variant)] if route.response_headers else []
        ),
        typed_per_filter_config={REWRITE_FILTER: _rewrite(arm.model)} if rewritten else {},
    )


def _retry_policy(retries: int) -> RetryPolicy:
    predicate = RetryPolicyRetryHostPredicate(
        name="envoy.retry_host_predicates.previous_hosts", typed_config=pack(PreviousHostsPredicate())
    )
    return RetryPolicy(
        retry_on=_RETRY_ON,
        num_retries=retries,
        retry_host_predicate=[predicate],
        host_selection_retry_max_attempts=3,
    )


def _hash_policy(stickiness: ir.Stickiness) -> list[RouteActionHashPolicy]:
    # With different salts, two experiments choose different users. Backslashes are escaped because the
    # substitution would read them as references.
    salted = RegexMatchAndSubstitute(
        pattern=RegexMatcher(regex="^(.*)$"),
        substitution=re.sub(r"\\", r"\\\\", stickiness.salt) + r":\1",
    )
    return [
        RouteActionHashPolicy(
            header=RouteActionHashPolicyHeader(header_name=stickiness.header, regex_rewrite=salted),
            terminal=True,
        ),
        RouteActionHashPolicy(
            header=RouteActionHashPolicyHeader(header_name=SESSION_HEADER, regex_rewrite=salted),
            terminal=True,
        ),
        RouteActionHashPolicy(
            connection_properties=RouteActionHashPolicyConnectionProperties(source_ip=True), terminal=True
        ),
    ]


def _mirror(mirror: ir.Mirror) -> RouteActionRequestMirrorPolicy:
    return RouteActionRequestMirrorPolicy(
        cluster=mirror.cluster,
        # The runtime fraction of the route samples the requests, so the route copies each request it takes.
        runtime_fraction=RuntimeFractionalPercent(default_value=FractionalPercent(numerator=100)),
        disable_shadow_host_suffix_append=True,
        request_headers_mutations=[HeaderMutation(append=_set_header(LEG_HEADER, mirror.leg))],
    )


def _fraction(basis_points: int, runtime_key: str) -> RuntimeFractionalPercent:
    return RuntimeFractionalPercent(
        default_value=FractionalPercent(
            numerator=basis_points, denominator=FractionalPercentDenominatorType.TEN_THOUSAND
        ),
        runtime_key=runtime_key,
    )


def _declared_length(most: int) -> HeaderMatcher:
    return HeaderMatcher(name="content-length", range_match=Int64Range(start=0, end=most + 1))


def _set_header(name: str, value: str) -> HeaderValueOption:
    # Envoy treats a percent sign as the start of a format command.
    return HeaderValueOption(
        header=HeaderValue(key=name, value=value.replace("%", "%%")), append_action=_OVERWRITE
    )


def _capture(capture: ir.Capture) -> AnyMessage:
    context = {"route": capture.route, "role": capture.role.value, "cap": str(capture.max_body_bytes)}
    if capture.unit is not None:
        context["unit"] = capture.unit
    if capture.experiment is not None:
        context["experiment"] = capture.experiment
    if capture.noise:
        context["noise"] = "1"
    return pack(LuaPerRoute(filter_context=Struct.from_dict(context)))


def _rewrite(model: str | None) -> AnyMessage:
    context = {"cap": str(REWRITE_BUFFER)}
    if model is not None:
        context["model"] = json.dumps(model)
    return pack(LuaPerRoute(filter_context=Struct.from_dict(context)))
