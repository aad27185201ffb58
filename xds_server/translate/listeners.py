"""The entry listener and the mirror listener (pure).

Both have the same two Lua filters, disabled until a route enables them, so that they cost nothing for a
request that is neither sampled nor rewritten. The capture filter comes before the rewrite filter, so that it
records what the user sent, which is the same for both legs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog, AccessLogFilter, MetadataFilter
from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation, HeaderMutationRemoveOnMatch
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    ApiVersion,
    DataSource,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    Http2ProtocolOptions,
    SocketAddress,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.config.listener.v3 import (
    Filter,
    FilterChain,
    Listener,
    ListenerInternalListenerConfig,
)
from envoy_data_plane.envoy.extensions.access_loggers.grpc.v3 import (
    CommonGrpcAccessLogConfig,
    HttpGrpcAccessLogConfig,
)
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import Lua
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerHcmAccessLogOptions,
    HttpConnectionManagerServerHeaderTransformation,
    HttpFilter,
    Rds,
)
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation.v3 import (
    HeaderMutation as EarlyHeaderMutation,
)
from envoy_data_plane.envoy.type.matcher.v3 import (
    MetadataMatcher,
    MetadataMatcherPathSegment,
    StringMatcher,
    ValueMatcher,
)

from xds_server.ir.names import ENTRY_ROUTES, MIRROR_ROUTES
from xds_server.ir.versions import supported_by, supports_request_statistics, supports_route_body_limit
from xds_server.translate.answers import answer_filters
from xds_server.translate.clusters import MIRROR_LISTENER, ads_source
from xds_server.translate.encode import pack
from xds_server.translate.routes import (
    CAPTURE_FILTER,
    PROMPT_HEADER,
    REWRITE_BUFFER,
    REWRITE_FILTER,
)
from xds_server.translate.statistics import PERIOD, ended, statistics
from xds_server.translate.tokens import token_filter

if TYPE_CHECKING:
    from xds_server import ir

__all__ = ["Scripts", "listeners"]

_LOGGED_HEADERS: Final = ("content-type", "content-encoding")
_IDLE: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripts:
    """The sources of the Lua filters."""

    capture: str
    rewrite: str


def listeners(source: ir.Listener, scripts: Scripts, envoy: int) -> tuple[Listener, ...]:
    """Return the listeners of one node class, for Envoy 1.`envoy`.

    The mirror listener always exists, so that a shadow can start without a listener update.
    """
    entry = Listener(
        name="entry",
        address=Address(
            socket_address=SocketAddress(address=source.entry.host, port_value=source.entry.port)
        ),
        filter_chains=[_chain(_entry_manager(source, scripts, envoy))],
    )
    mirror = Listener(
        name=MIRROR_LISTENER,
        internal_listener=ListenerInternalListenerConfig(),
        filter_chains=[_chain(_mirror_manager(source, scripts, envoy))],
    )
    if not supports_route_body_limit(envoy):
        # Set even if no route rewrites bodies: a later change of the limit would replace the listener and
        # drain the connections of users.
        for listener in (entry, mirror):
            listener.per_connection_buffer_limit_bytes = REWRITE_BUFFER
    return (entry, mirror)


def _chain(manager: HttpConnectionManager) -> FilterChain:
    name = "envoy.filters.network.http_connection_manager"
    return FilterChain(filters=[Filter(name=name, typed_config=pack(manager))])


def _entry_manager(source: ir.Listener, scripts: Scripts, envoy: int) -> HttpConnectionManager:
    manager = _manager(ENTRY_ROUTES, source, scripts, envoy)
    # This is the edge: request ids are generated here (a repeated id of a client would confuse the pairing of
    # legs), and clients must not set our own headers.
    manager.use_remote_address = True
    manager.always_set_request_id_in_response = True
    manager.normalize_path = True
    strip = EarlyHeaderMutation(
        mutations=[
            HeaderMutation(
                remove_on_match=HeaderMutationRemoveOnMatch(key_matcher=StringMatcher(prefix="x-shiftplane-"))
            )
        ]
    )
    manager.early_header_mutation_extensions = [
        TypedExtensionConfig(
            name="envoy.http.early_header_mutation.header_mutation", typed_config=pack(strip)
        )
    ]
    if not supports_route_body_limit(envoy):
        # For HTTP/2 the listener's limit has no effect: a filter may buffer as much as the stream window.
        manager.http2_protocol_options = Http2ProtocolOptions(
            initial_stream_window_size=REWRITE_BUFFER, initial_connection_window_size=REWRITE_BUFFER
        )
    return manager


def _mirror_manager(source: ir.Listener, scripts: Scripts, envoy: int) -> HttpConnectionManager:
    manager = _manager(MIRROR_ROUTES, source, scripts, envoy)
    # The copy keeps the request id of its primary, by which the collector pairs the legs.
    manager.generate_request_id = False
    manager.preserve_external_request_id = True
    return manager


def _manager(routes: str, source: ir.Listener, scripts: Scripts, envoy: int) -> HttpConnectionManager:
    filters = [
        *([token_filter(source.tokens)] if source.tokens and routes == ENTRY_ROUTES else []),
        # Filters see responses in reverse order, so these come last on the response path and count what users
        # get.
        *(answer_filters(envoy) if source.reads_usage and supports_request_statistics(envoy) else []),
        _lua(CAPTURE_FILTER, scripts.capture),
        _lua(REWRITE_FILTER, scripts.rewrite),
        HttpFilter(name="envoy.filters.http.router", typed_config=pack(Router(suppress_envoy_headers=True))),
    ]
    logs = [] if source.collector is None else [_access_log(source.collector)]
    return HttpConnectionManager(
        stat_prefix=routes,
        rds=Rds(config_source=ads_source(), route_config_name=routes),
        http_filters=supported_by(envoy, filters),
        stream_idle_timeout=_IDLE,
        server_header_transformation=HttpConnectionManagerServerHeaderTransformation.PASS_THROUGH,
        access_log=[*logs, *statistics(envoy, reads_answers=source.reads_usage)],
        access_log_options=HttpConnectionManagerHcmAccessLogOptions(access_log_flush_interval=PERIOD),
    )


def _lua(name: str, code: str) -> HttpFilter:
    # A changed body changes headers, and by default Envoy then selects the route again: a request rewritten
    # for one variant could be mirrored afterwards, or go to another variant.
    script = Lua(default_source_code=DataSource(inline_string=code), clear_route_cache=False)
    return HttpFilter(name=name, typed_config=pack(script), disabled=True)


def _access_log(collector: str) -> AccessLog:
    captured = MetadataFilter(
        matcher=MetadataMatcher(
            filter=CAPTURE_FILTER,
            path=[MetadataMatcherPathSegment(key="route")],
            value=ValueMatcher(present_match=True),
        ),
        match_if_key_not_found=False,
    )
    config = HttpGrpcAccessLogConfig(
        common_config=CommonGrpcAccessLogConfig(
            log_name="shiftplane",
            transport_api_version=ApiVersion.V3,
            grpc_service=GrpcService(envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=collector)),
            buffer_flush_interval=timedelta(milliseconds=200),
            buffer_size_bytes=65_536,
        ),
        additional_request_headers_to_log=[*_LOGGED_HEADERS, PROMPT_HEADER],
        additional_response_headers_to_log=list(_LOGGED_HEADERS),
    )
    return AccessLog(
        name="envoy.access_loggers.http_grpc",
        filter=ended(AccessLogFilter(metadata_filter=captured)),
        typed_config=pack(config),
    )
