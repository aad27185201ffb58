from dataclasses import replace

import pytest

from tests.support import worlds
from xds_server import ir


def first_route(world: ir.ProxyConfig) -> ir.Route:
    return world.virtual_hosts[0].routes[0]


def with_route(world: ir.ProxyConfig, **changes: object) -> ir.ProxyConfig:
    host = world.virtual_hosts[0]
    changed = replace(host.routes[0], **changes)  # type: ignore[arg-type]
    return replace(world, virtual_hosts=(replace(host, routes=(changed, *host.routes[1:])),))


def with_cluster(world: ir.ProxyConfig, name: str, **changes: object) -> ir.ProxyConfig:
    return replace(
        world,
        clusters=tuple(
            replace(c, **changes) if c.name == name else c  # type: ignore[arg-type]
            for c in world.clusters
        ),
    )


@pytest.mark.parametrize("shadow", [False, True])
def test_a_sound_world_breaks_no_rule(shadow: bool) -> None:
    assert ir.violations(worlds.group(shadow=shadow)) == ()


SHADOWED = worlds.group(shadow=True)
BROKEN = {
    "has no limits": with_cluster(SHADOWED, "chat/hop", limits=None),
    "must not retry": with_cluster(SHADOWED, "chat/hop", limits=replace(worlds.LIMITS, max_retries=1)),
    "live for ever": with_cluster(SHADOWED, "chat/v2/shadow", limits=replace(worlds.LIMITS, max_stream=None)),
    "would block the user": with_cluster(
        SHADOWED, "chat/hop", limits=replace(worlds.LIMITS, buffer_bytes=4 << 20)
    ),
    "must not turn them away": with_cluster(SHADOWED, "chat/v1", limits=worlds.LIMITS),
    "has no idle timeout": with_route(SHADOWED, idle_timeout=0.0),
    "is not there": replace(SHADOWED, clusters=SHADOWED.clusters[1:]),
    "has no timeout": replace(SHADOWED, mirror_routes=(replace(SHADOWED.mirror_routes[0], timeout=0.0),)),
    "the hop does not know": replace(SHADOWED, mirror_routes=()),
    "weights that sum to": with_route(SHADOWED, arms=(worlds.arm("v1", 9_999),)),
    "splits differently": with_route(SHADOWED, arms=(worlds.arm("v1", 10_000),)),
    "appears 2 times": replace(SHADOWED, clusters=(*SHADOWED.clusters, SHADOWED.clusters[0])),
    "two different meanings": with_route(
        worlds.group(), arms=(worlds.arm("v1", 5_000), worlds.arm("v1", 5_000, model="x"))
    ),
    "serves users and copies at once": replace(
        SHADOWED, mirror_routes=(replace(SHADOWED.mirror_routes[0], arm=worlds.arm("v1", 10_000)),)
    ),
}


@pytest.mark.parametrize("said", BROKEN)
def test_each_rule_is_named_when_it_is_broken(said: str) -> None:
    assert any(said in sentence for sentence in ir.violations(BROKEN[said]))
