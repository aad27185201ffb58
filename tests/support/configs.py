"""Small proxy configurations for tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from xds_server import ir
from xds_server.ir import Address, Arm, Capture, Cluster, ClusterKind, ClusterName, Limits, Role
from xds_server.translate import Scripts, resources
from xds_server.xds.snapshot import Snapshot, build

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Scripts(
    capture=(ROOT / "envoy/lua/capture.lua").read_text(encoding="utf-8"),
    rewrite=(ROOT / "envoy/lua/rewrite.lua").read_text(encoding="utf-8"),
)
LIMITS = Limits(
    max_connections=8,
    max_pending_requests=4,
    max_requests=8,
    max_retries=0,
    buffer_bytes=5 << 20,
    max_stream=30.0,
)
PROXIES = ir.NodeClass(group="chat", entry=Address(host="127.0.0.1", port=10_000))


def cluster(name: str, port: int = 9001, limits: Limits | None = None) -> Cluster:
    return Cluster(
        name=ClusterName(name),
        kind=ClusterKind.ENDPOINTS,
        addresses=(Address(host="127.0.0.1", port=port),),
        connect_timeout=1.0,
        limits=limits,
    )


def arm(variant: str, weight: int, model: str | None = None) -> Arm:
    return Arm(cluster=ClusterName(f"chat/{variant}"), variant=variant, weight=weight, model=model)


def route(arms: tuple[Arm, ...], *, mirror: bool = False, name: str = "chat") -> ir.Route:
    return ir.Route(
        name=f"{name}/sampled" if mirror else name,
        route=name,
        split="strategy",
        path=ir.PathMatch(prefix="/v1/"),
        arms=arms,
        stickiness=ir.Stickiness(header="x-user-id", salt="exp"),
        runtime_fraction=ir.RuntimeFraction(key="shiftplane.chat.shadow", default=2_000, now=2_000)
        if mirror
        else None,
        mirrors=(
            (
                ir.Mirror(
                    cluster=ClusterName("chat/hop"),
                    leg="chat/shadow",
                    max_request_bytes=4 << 20,
                ),
            )
            if mirror
            else ()
        ),
        capture=Capture(route=name, role=Role.PRIMARY, max_body_bytes=1024) if mirror else None,
        timeout=None,
        idle_timeout=300.0,
        retries=1,
        response_headers=True,
    )


def group(weight: int = 500, *, shadow: bool = False) -> ir.ProxyConfig:
    """Return a stable backend v1 and a candidate v2 with `weight`; with `shadow`, v2 also receives copies."""
    arms = (arm("v2", weight), arm("v1", ir.FULL - weight))
    mirror_listener = Cluster(
        name=ClusterName("chat/hop"),
        kind=ClusterKind.MIRROR_LISTENER,
        addresses=(),
        connect_timeout=1.0,
        limits=LIMITS,
    )
    return ir.ProxyConfig(
        node_class=PROXIES,
        listener=ir.Listener(entry=PROXIES.entry, collector=None),
        virtual_hosts=(
            ir.VirtualHost(
                name="*",
                host="*",
                routes=((route(arms, mirror=True),) if shadow else ()) + (route(arms),),
            ),
        ),
        mirror_routes=(
            (
                ir.MirrorRoute(
                    name="chat/shadow",
                    leg="chat/shadow",
                    arm=Arm(cluster=ClusterName("chat/v2/shadow"), variant="v2", weight=ir.FULL, model=None),
                    capture=Capture(route="chat", role=Role.SHADOW, max_body_bytes=1024),
                    timeout=30.0,
                ),
            )
            if shadow
            else ()
        ),
        clusters=(
            cluster("chat/v1", 9001),
            cluster("chat/v2", 9002),
            *((mirror_listener, cluster("chat/v2/shadow", 9002, LIMITS)) if shadow else ()),
        ),
    )


def without_candidate(config: ir.ProxyConfig) -> ir.ProxyConfig:
    """Return the same configuration after the candidate was removed from the spec."""
    host = config.virtual_hosts[0]
    return replace(
        config,
        virtual_hosts=(replace(host, routes=(route((arm("v1", ir.FULL),)),)),),
        mirror_routes=(),
        clusters=(config.clusters[0],),
    )


def snapshot(config: ir.ProxyConfig) -> Snapshot:
    return build(resources(config, SCRIPTS))
