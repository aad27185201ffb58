"""Each safety rule reports the configuration that breaks it."""

from dataclasses import replace

import pytest

from tests.support import configs
from xds_server import ir


def first_route(config: ir.ProxyConfig) -> ir.Route:
    return config.virtual_hosts[0].routes[0]


def with_route(config: ir.ProxyConfig, **changes: object) -> ir.ProxyConfig:
    host = config.virtual_hosts[0]
    changed = replace(host.routes[0], **changes)  # type: ignore[arg-type]
    return replace(config, virtual_hosts=(replace(host, routes=(changed, *host.routes[1:])),))


def with_cluster(config: ir.ProxyConfig, name: str, **changes: object) -> ir.ProxyConfig:
    return replace(
        config,
        clusters=tuple(
            replace(c, **changes) if c.name == name else c  # type: ignore[arg-type]
            for c in config.clusters
        ),
    )


@pytest.mark.parametrize("shadow", [False, True])
def test_a_valid_configuration_has_no_violations(shadow: bool) -> None:
    assert ir.violations(configs.group(shadow=shadow)) == ()


WITH_SHADOW = configs.group(shadow=True)
BROKEN = {
    "must have limits": with_cluster(WITH_SHADOW, "chat/hop", limits=None),
    "must not retry": with_cluster(WITH_SHADOW, "chat/hop", limits=replace(configs.LIMITS, max_retries=1)),
    "does not limit their duration": with_cluster(
        WITH_SHADOW, "chat/v2/shadow", limits=replace(configs.LIMITS, max_stream=None)
    ),
    "would block the user": with_cluster(
        WITH_SHADOW, "chat/hop", limits=replace(configs.LIMITS, buffer_bytes=4 << 20)
    ),
    "must not have limits": with_cluster(WITH_SHADOW, "chat/v1", limits=configs.LIMITS),
    "has no idle timeout": with_route(WITH_SHADOW, idle_timeout=0.0),
    "does not exist": replace(WITH_SHADOW, clusters=WITH_SHADOW.clusters[1:]),
    "has no timeout": replace(
        WITH_SHADOW, mirror_routes=(replace(WITH_SHADOW.mirror_routes[0], timeout=0.0),)
    ),
    "the mirror listener has no route for this leg": replace(WITH_SHADOW, mirror_routes=()),
    "weights that add up to": with_route(WITH_SHADOW, arms=(configs.arm("v1", 9_999),)),
    "splits differently": with_route(WITH_SHADOW, arms=(configs.arm("v1", 10_000),)),
    "appears 2 times": replace(WITH_SHADOW, clusters=(*WITH_SHADOW.clusters, WITH_SHADOW.clusters[0])),
    "two different clusters or models": with_route(
        configs.group(), arms=(configs.arm("v1", 5_000), configs.arm("v1", 5_000, model="x"))
    ),
    "serves both users and copies": replace(
        WITH_SHADOW, mirror_routes=(replace(WITH_SHADOW.mirror_routes[0], arm=configs.arm("v1", 10_000)),)
    ),
}


@pytest.mark.parametrize("message", BROKEN)
def test_each_rule_reports_its_violation(message: str) -> None:
    assert any(message in sentence for sentence in ir.violations(BROKEN[message]))
