"""What a proxy starts with: who it is, where its control plane is, and what must work without one (pure).

The serve listener of a sidecar is static on purpose: a pod that starts while the control plane is away must
still be reachable by the other sidecars.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Bootstrap", "HostPort", "bootstrap"]

_HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = {
    "name": "envoy.filters.http.router",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        "suppress_envoy_headers": True,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPort:
    """A socket address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """The facts of one proxy. `serve` and `app` are set for a sidecar and unset for a gateway.

    `ready` is a listener that answers GET /ready with 200 until the proxy is told to drain.
    """

    node_id: str
    group: str
    xds: HostPort
    entry: HostPort
    admin: HostPort
    serve: HostPort | None = None
    app: HostPort | None = None
    ready: HostPort | None = None
    delta: bool = True


def bootstrap(facts: Bootstrap) -> dict[str, Any]:
    """Return the bootstrap as JSON values, ready to be written as YAML."""
    listeners = []
    clusters = [_xds_cluster(facts.xds)]
    if facts.serve is not None and facts.app is not None:
        listeners.append(_serve_listener(facts.node_id, facts.serve))
        clusters.append(_app_cluster(facts.app))
    if facts.ready is not None:
        listeners.append(_ready_listener(facts.ready))
    source = {"ads": {}, "resource_api_version": "V3"}
    return {
        "node": {
            "id": facts.node_id,
            "cluster": facts.group,
            "metadata": {
                "shiftplane": {
                    "mode": "gateway" if facts.serve is None else "sidecar",
                    "entry": str(facts.entry),
                }
            },
        },
        "admin": {"address": _address(facts.admin)},
        "bootstrap_extensions": [
            {
                "name": "envoy.bootstrap.internal_listener",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3"
                    ".InternalListener"
                },
            }
        ],
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC" if facts.delta else "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [
                    {
                        "envoy_grpc": {"cluster_name": "shiftplane_xds"},
                        # By default, a proxy may wait half a minute before it looks for its control plane.
                        "retry_policy": {"retry_back_off": {"base_interval": "0.5s", "max_interval": "5s"}},
                    }
                ],
            },
            "cds_config": source,
            "lds_config": source,
        },
        "layered_runtime": {
            "layers": [
                {
                    "name": "shiftplane",
                    "rtds_layer": {
                        "name": "shiftplane",
                        # A start waits for this; without an answer the routes' own shares are the same.
                        "rtds_config": {**source, "initial_fetch_timeout": "1s"},
                    },
                },
                {"name": "admin", "admin_layer": {}},
            ]
        },
        "static_resources": {"listeners": listeners, "clusters": clusters},
    }


def _address(where: HostPort) -> dict[str, Any]:
    return {"socket_address": {"address": where.host, "port_value": where.port}}


def _endpoints(name: str, where: HostPort) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(where)}}
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}


def _options(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    message = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        message: {"@type": f"type.googleapis.com/{message}", "explicit_http_config": {name: {}}, **fields}
    }


def _xds_cluster(where: HostPort) -> dict[str, Any]:
    return {
        "name": "shiftplane_xds",
        "type": "STRICT_DNS",
        "connect_timeout": "2s",
        "load_assignment": _endpoints("shiftplane_xds", where),
        "typed_extension_protocol_options": _options("http2_protocol_options", {}),
        # A control plane that hangs is noticed, and looked for again; traffic does not depend on it.
        "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 30, "keepalive_interval": 10}},
    }


def _app_cluster(where: HostPort) -> dict[str, Any]:
    unlimited = dict.fromkeys(
        ("max_connections", "max_pending_requests", "max_requests", "max_retries"), 1_000_000
    )
    return {
        "name": "app",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": _endpoints("app", where),
        "circuit_breakers": {"thresholds": [unlimited]},
        "typed_extension_protocol_options": _options(
            "http_protocol_options", {"common_http_protocol_options": {"idle_timeout": "4s"}}
        ),
    }


def _listener(name: str, where: HostPort, manager: dict[str, Any]) -> dict[str, Any]:
    filters = [
        {
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {"@type": _HCM, "stat_prefix": name, **manager},
        }
    ]
    return {"name": name, "address": _address(where), "filter_chains": [{"filters": filters}]}


def _serve_listener(node_id: str, where: HostPort) -> dict[str, Any]:
    route = {
        "match": {"prefix": "/"},
        "route": {"cluster": "app", "timeout": "0s", "idle_timeout": "300s"},
    }
    served = {
        "header": {"key": "x-shiftplane-served-by", "value": node_id.replace("%", "%%")},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
    return _listener(
        "serve",
        where,
        {
            "generate_request_id": False,
            "preserve_external_request_id": True,
            "server_header_transformation": "PASS_THROUGH",
            "stream_idle_timeout": "300s",
            "route_config": {
                "name": "serve",
                "virtual_hosts": [
                    {"name": "serve", "domains": ["*"], "routes": [route], "request_headers_to_add": [served]}
                ],
            },
            "http_filters": [_ROUTER],
        },
    )


def _ready_listener(where: HostPort) -> dict[str, Any]:
    health = {
        "name": "envoy.filters.http.health_check",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck",
            "pass_through_mode": False,
            "headers": [{"name": ":path", "string_match": {"exact": "/ready"}}],
        },
    }
    return _listener(
        "ready",
        where,
        {
            "route_config": {
                "name": "ready",
                "virtual_hosts": [
                    {
                        "name": "ready",
                        "domains": ["*"],
                        "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 404}}],
                    }
                ],
            },
            "http_filters": [health, _ROUTER],
        },
    )
