"""Clusters of the IR → Envoy cluster and endpoint resources (pure).

Clusters that serve users have no limits that could reject a request; clusters that receive copies have every
limit. The plan decides which clusters have limits, and `xds_server.ir.violations` checks the result.
"""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterDiscoveryType,
    ClusterDnsLookupFamily,
    ClusterEdsClusterConfig,
    ClusterLbPolicy,
    OutlierDetection,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    AggregatedConfigSource,
    ApiVersion,
    ConfigSource,
    DataSource,
    EnvoyInternalAddress,
    Http1ProtocolOptions,
    Http2ProtocolOptions,
    HttpProtocolOptions,
    KeepaliveSettings,
    SocketAddress,
    TransportSocket,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.extensions.transport_sockets.internal_upstream.v3 import InternalUpstreamTransport
from envoy_data_plane.envoy.extensions.transport_sockets.raw_buffer.v3 import RawBuffer
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions as UpstreamOptions,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptionsExplicitHttpConfig
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from xds_server import ir
from xds_server.translate.encode import encode, pack, repeated

if TYPE_CHECKING:
    from envoy_data_plane.google.protobuf import Any as AnyMessage

__all__ = ["MIRROR_LISTENER", "ads_source", "assignment", "cluster"]

MIRROR_LISTENER: Final = "hop"
"""The name of the internal listener that mirrors point at."""

_UNLIMITED: Final = 1_000_000
# Field numbers of ClusterLoadAssignment.endpoints and LocalityLbEndpoints.lb_endpoints.
_ENDPOINTS: Final = 2
_LB_ENDPOINTS: Final = 2
# A vLLM server closes a connection that was idle for five seconds. Closing it earlier avoids sending a
# request into a connection that is being closed.
_IDLE_BEFORE_BACKEND: Final = timedelta(seconds=4)
_COLLECTOR_WINDOW: Final = 4 << 20
_OPTIONS_KEY: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def ads_source() -> ConfigSource:
    """Return the config source for resources on the same ADS stream."""
    return ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)


def cluster(source: ir.Cluster) -> Cluster:
    """Return the cluster resource; its endpoints are a separate resource if `source.kind` is ENDPOINTS."""
    message = Cluster(
        name=source.name,
        connect_timeout=timedelta(seconds=source.connect_timeout),
        lb_policy=ClusterLbPolicy.LEAST_REQUEST,
        circuit_breakers=_circuit_breakers(source.limits),
        outlier_detection=None if source.health is None else _outlier_detection(source.health),
        typed_extension_protocol_options={_OPTIONS_KEY: _protocol_options(source)},
    )
    if source.tls is not None:
        message.transport_socket = _tls_socket(source.tls)
    if source.limits is not None:
        message.per_connection_buffer_limit_bytes = source.limits.buffer_bytes
    match source.kind:
        case ir.ClusterKind.ENDPOINTS:
            message.type = ClusterDiscoveryType.EDS
            message.eds_cluster_config = ClusterEdsClusterConfig(eds_config=ads_source())
        case ir.ClusterKind.DNS | ir.ClusterKind.COLLECTOR | ir.ClusterKind.KEYS:
            message.type = ClusterDiscoveryType.STRICT_DNS
            message.dns_lookup_family = ClusterDnsLookupFamily.V4_PREFERRED
            message.load_assignment = _inline(source)
        case ir.ClusterKind.MIRROR_LISTENER:
            message.type = ClusterDiscoveryType.STATIC
            message.load_assignment = _mirror_listener_assignment(source)
            message.transport_socket = _internal_socket()
    return message


def assignment(source: ir.Cluster) -> tuple[ClusterLoadAssignment, bytes]:
    """Return the endpoint assignment: the message without endpoints, and its endpoints encoded."""
    locality = repeated(_LB_ENDPOINTS, map(_lb_endpoint, source.addresses))
    return ClusterLoadAssignment(cluster_name=source.name), repeated(_ENDPOINTS, [locality])


def _inline(source: ir.Cluster) -> ClusterLoadAssignment:
    endpoints = [_endpoint(address) for address in source.addresses]
    return ClusterLoadAssignment(
        cluster_name=source.name, endpoints=[LocalityLbEndpoints(lb_endpoints=endpoints)]
    )


@lru_cache(maxsize=65536)
def _lb_endpoint(address: ir.Address) -> bytes:
    return encode(_endpoint(address))


def _endpoint(address: ir.Address) -> LbEndpoint:
    where = SocketAddress(address=address.host, port_value=address.port)
    return LbEndpoint(endpoint=Endpoint(address=Address(socket_address=where)))


def _mirror_listener_assignment(source: ir.Cluster) -> ClusterLoadAssignment:
    address = Address(
        envoy_internal_address=EnvoyInternalAddress(
            server_listener_name=MIRROR_LISTENER, endpoint_id=source.name
        )
    )
    endpoint = LbEndpoint(endpoint=Endpoint(address=address))
    return ClusterLoadAssignment(
        cluster_name=source.name, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])]
    )


def _internal_socket() -> TransportSocket:
    raw = TransportSocket(name="envoy.transport_sockets.raw_buffer", typed_config=pack(RawBuffer()))
    return TransportSocket(
        name="envoy.transport_sockets.internal_upstream",
        typed_config=pack(InternalUpstreamTransport(transport_socket=raw)),
    )


def _tls_socket(tls: ir.Tls) -> TransportSocket:
    context = UpstreamTlsContext(
        sni=tls.name,
        common_tls_context=CommonTlsContext(
            validation_context=CertificateValidationContext(
                trusted_ca=DataSource(filename=tls.ca_file),
                match_typed_subject_alt_names=[
                    SubjectAltNameMatcher(
                        san_type=SubjectAltNameMatcherSanType.DNS, matcher=StringMatcher(exact=tls.name)
                    )
                ],
            )
        ),
    )
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=pack(context))


def _circuit_breakers(limits: ir.Limits | None) -> CircuitBreakers:
    # Envoy's defaults (1,024 each) would reject users on a busy gateway with long streams.
    thresholds = (
        CircuitBreakersThresholds(
            max_connections=_UNLIMITED,
            max_pending_requests=_UNLIMITED,
            max_requests=_UNLIMITED,
            max_retries=_UNLIMITED,
        )
        if limits is None
        else CircuitBreakersThresholds(
            max_connections=limits.max_connections,
            max_pending_requests=limits.max_pending_requests,
            max_requests=limits.max_requests,
            max_retries=limits.max_retries,
        )
    )
    return CircuitBreakers(thresholds=[thresholds])


def _outlier_detection(health: ir.PassiveHealth) -> OutlierDetection:
    return OutlierDetection(
        consecutive_5xx=health.consecutive_5xx,
        consecutive_gateway_failure=health.consecutive_gateway_failures,
        enforcing_consecutive_gateway_failure=100,
        interval=timedelta(seconds=health.interval),
        base_ejection_time=timedelta(seconds=health.ejection_time),
        max_ejection_percent=50,
        # Success-rate ejection requires many hosts and much traffic, and would eject canaries unexpectedly.
        enforcing_success_rate=0,
    )


def _protocol_options(source: ir.Cluster) -> AnyMessage:
    common = HttpProtocolOptions(idle_timeout=_IDLE_BEFORE_BACKEND)
    if source.limits is not None and source.limits.max_stream is not None:
        common.max_stream_duration = timedelta(seconds=source.limits.max_stream)
    if source.kind is ir.ClusterKind.COLLECTOR:
        explicit = HttpProtocolOptionsExplicitHttpConfig(
            http2_protocol_options=Http2ProtocolOptions(
                initial_stream_window_size=_COLLECTOR_WINDOW,
                initial_connection_window_size=_COLLECTOR_WINDOW,
                # Keepalive closes connections to a collector that stopped responding, so that the proxy
                # connects to its successor.
                connection_keepalive=KeepaliveSettings(
                    interval=timedelta(seconds=10), timeout=timedelta(seconds=5)
                ),
            )
        )
        return pack(UpstreamOptions(explicit_http_config=explicit))
    explicit = HttpProtocolOptionsExplicitHttpConfig(http_protocol_options=Http1ProtocolOptions())
    return pack(UpstreamOptions(common_http_protocol_options=common, explicit_http_config=explicit))
