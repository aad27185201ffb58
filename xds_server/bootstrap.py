"""The bootstrap configuration of a proxy: its identity, its control plane and its static parts (pure).

The serve listener of a sidecar is static: a pod that starts while the control plane is down must be reachable
by the other sidecars.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any, Final

from xds_server.analysis.counts.buckets import DURATION_MS, FIRST_TOKEN_MS, TOKENS

__all__ = ["Bootstrap", "HostPort", "XdsTls", "bootstrap", "secrets"]

_HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
_CA = "xds-ca"
_CERTIFICATE = "xds-certificate"
_KEPT: Final = (
    r"llm\..*",
    r"access_logs\.grpc_access_log\.logs_dropped",
    r"cluster\.[^.]+\.upstream_rq_(total|active|timeout|pending_overflow)",
    r"cluster\.[^.]+\.(upstream_cx_(active|connect_fail)|membership_(healthy|total))",
    r"cluster\.[^.]+\.(outlier_detection\.ejections_active|ssl\.(handshake|fail_.*|connection_error|versions\..*))",
    r"http\.[^.]+\.(downstream_rq_(total|active|5xx|idle_timeout)|no_route|no_cluster|rs_too_large)",
    r"cluster_manager\.(warming|active)_clusters|listener_manager\.total_(listeners|filter_chains)_.*",
    r"listener_manager\.listener_create_failure|control_plane\.connected_state|server\.(live|uptime)",
    r".*(update_rejected|update_success|config_reload|dynamic_unknown_fields|lua\..*errors)",
)
"""The statistics that a proxy sends by default: `llm.` (requests) and the most useful of Envoy's own."""

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

    @property
    def loopback(self) -> bool:
        """Whether the address is reachable only from the same host."""
        return self.host == "localhost" or (
            _is_address(self.host) and ipaddress.ip_address(self.host).is_loopback
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class XdsTls:
    """TLS from a proxy to its control plane; paths are paths on the proxy.

    `ca` signs the certificate of the control plane, which must carry `name`. `certificate` and `key` are the
    proxy's own. With `secrets`, the path prefix of the files that the function `secrets` returns, Envoy
    reloads the certificates and the key when they change; without, it reads them once at startup.
    """

    name: str
    ca: str
    certificate: str | None = None
    key: str | None = None
    secrets: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """The parameters of one proxy; `serve` and `app` are set for a sidecar and unset for a gateway.

    `ready` is a listener that answers GET /ready with 200 until the proxy drains. Every
    `stats_interval` seconds the proxy sends its statistics to the control plane: those of requests and the
    most useful of Envoy's own, or with `all_stats` all of them.
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
    xds_tls: XdsTls | None = None
    stats_interval: float = 1.0
    all_stats: bool = False


def bootstrap(facts: Bootstrap) -> dict[str, Any]:
    """Return the bootstrap as JSON values, ready to be written as YAML."""
    listeners = []
    clusters = [_xds_cluster(facts.xds, facts.xds_tls)]
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
                        # By default a proxy waits up to 30 seconds before it reconnects to its control plane.
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
                        # Startup waits for this layer; without it, the routes' default fractions apply.
                        "rtds_config": {**source, "initial_fetch_timeout": "1s"},
                    },
                },
                {"name": "admin", "admin_layer": {}},
            ]
        },
        "stats_flush_interval": f"{facts.stats_interval:g}s",
        "stats_config": _stats_config(all_stats=facts.all_stats),
        "stats_sinks": [_stats_sink()],
        "static_resources": {"listeners": listeners, "clusters": clusters},
    }


def secrets(tls: XdsTls) -> dict[str, dict[str, Any]]:
    """Return the secret files for Envoy's certificates, by path, as JSON values.

    Envoy reloads certificates only if they come from SDS; a file is the simplest source of secrets.
    """
    if tls.secrets is None:
        return {}
    found = {_CA: {"validation_context": _validation(tls, watch=True)}}
    if tls.certificate is not None and tls.key is not None:
        found[_CERTIFICATE] = {"tls_certificate": _certificate(tls.certificate, tls.key, watch=True)}
    kind = f"{_TLS}.Secret"
    return {
        _secret_file(tls.secrets, name): {"resources": [{"@type": kind, "name": name, **secret}]}
        for name, secret in found.items()
    }


def _stats_config(*, all_stats: bool) -> dict[str, Any]:
    buckets = {"first_token_ms": FIRST_TOKEN_MS, "duration_ms": DURATION_MS, "tokens": TOKENS}
    kept = [{"safe_regex": {"regex": pattern}} for pattern in _KEPT]
    return {
        "histogram_bucket_settings": [
            {"match": {"prefix": f"llm.{name}"}, "buckets": list(edges)} for name, edges in buckets.items()
        ],
        **({} if all_stats else {"stats_matcher": {"inclusion_list": {"patterns": kept}}}),
    }


def _stats_sink() -> dict[str, Any]:
    """Return the sink that sends statistics to the control plane, counters as increments."""
    return {
        "name": "envoy.stat_sinks.metrics_service",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.config.metrics.v3.MetricsServiceConfig",
            "transport_api_version": "V3",
            "grpc_service": {"envoy_grpc": {"cluster_name": "shiftplane_xds"}},
            "report_counters_as_deltas": True,
            "emit_tags_as_labels": True,
            "histogram_emit_mode": "HISTOGRAM",
        },
    }


def _address(where: HostPort) -> dict[str, Any]:
    return {"socket_address": {"address": where.host, "port_value": where.port}}


def _endpoints(name: str, where: HostPort) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(where)}}
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}


def _options(name: str, fields: dict[str, Any], protocol: dict[str, Any] | None = None) -> dict[str, Any]:
    message = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        message: {
            "@type": f"type.googleapis.com/{message}",
            "explicit_http_config": {name: protocol or {}},
            **fields,
        }
    }


def _xds_cluster(where: HostPort, tls: XdsTls | None) -> dict[str, Any]:
    cluster = {
        "name": "shiftplane_xds",
        "type": "STRICT_DNS",
        "connect_timeout": "2s",
        "load_assignment": _endpoints("shiftplane_xds", where),
        # HTTP/2 keepalive detects a control plane that hangs, so that the proxy reconnects; the kernel would
        # keep a TCP connection alive. Traffic does not depend on this connection.
        "typed_extension_protocol_options": _options(
            "http2_protocol_options", {}, {"connection_keepalive": {"interval": "30s", "timeout": "10s"}}
        ),
    }
    if tls is not None:
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": _upstream_tls(tls),
        }
    return cluster


def _upstream_tls(tls: XdsTls) -> dict[str, Any]:
    common: dict[str, Any] = {
        # By default Envoy as a client uses TLS 1.2 at most, which sends its certificate unencrypted.
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "alpn_protocols": ["h2"],
    }
    if tls.secrets is not None:
        common["validation_context_sds_secret_config"] = _secret(tls.secrets, _CA)
        if tls.certificate is not None:
            common["tls_certificate_sds_secret_configs"] = [_secret(tls.secrets, _CERTIFICATE)]
    else:
        common["validation_context"] = _validation(tls, watch=False)
        if tls.certificate is not None and tls.key is not None:
            common["tls_certificates"] = [_certificate(tls.certificate, tls.key, watch=False)]
    found = {
        "@type": f"{_TLS}.UpstreamTlsContext",
        "common_tls_context": common,
        # Connections are few and long-lived, so each verifies the current certificates and resumes no
        # session.
        "max_session_keys": 0,
    }
    # SNI must be a DNS name, so it is omitted for addresses and URIs.
    return found if _is_address(tls.name) or "://" in tls.name else {**found, "sni": tls.name}


def _secret(prefix: str, name: str) -> dict[str, Any]:
    source = {
        "path_config_source": {"path": _secret_file(prefix, name)},
        "resource_api_version": "V3",
    }
    return {"name": name, "sds_config": source}


def _secret_file(prefix: str, name: str) -> str:
    return f"{prefix}.{name}.yaml"


def _validation(tls: XdsTls, *, watch: bool) -> dict[str, Any]:
    kind = "IP_ADDRESS" if _is_address(tls.name) else "URI" if "://" in tls.name else "DNS"
    return {
        "trusted_ca": {"filename": tls.ca},
        # Without a name, any certificate of the CA could impersonate the control plane.
        "match_typed_subject_alt_names": [{"san_type": kind, "matcher": {"exact": tls.name}}],
        **({"watched_directory": {"path": _folder(tls.ca)}} if watch else {}),
    }


def _certificate(chain: str, key: str, *, watch: bool) -> dict[str, Any]:
    return {
        "certificate_chain": {"filename": chain},
        "private_key": {"filename": key},
        **({"watched_directory": {"path": _folder(chain)}} if watch else {}),
    }


def _folder(path: str) -> str:
    folder, slash, _ = path.rpartition("/")
    return folder or slash or "."


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


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
