"""Which parts of a snapshot keep their identity and their version when another part changes."""

from __future__ import annotations

import pytest

from tests.support.fake_envoy import Made
from xds_server.xds.snapshot import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    RUNTIME,
    TYPE_ORDER,
    DanglingReferenceError,
    Snapshot,
    build,
    changes,
    with_runtime,
)

CLUSTERS = (Made(CLUSTER, "a", 1), Made(CLUSTER, "b", 1))
ENTRY = Made(LISTENER, "entry", 1, frozenset({(ROUTE, "table")}))
TABLE = Made(ROUTE, "table", 1, frozenset({(CLUSTER, "a"), (CLUSTER, "b")}))


def layer(generation: int) -> Made:
    return Made(RUNTIME, "layer", generation)


def world(*more: Made, runtime: int = 1) -> Snapshot:
    return build([*CLUSTERS, layer(runtime), *more])


def test_a_kill_changes_the_version_and_not_the_core() -> None:
    before, after = world(ENTRY, TABLE, runtime=1), world(ENTRY, TABLE, runtime=2)
    assert before.version != after.version
    assert before.core == after.core
    assert changes(before, after) == {RUNTIME: {"layer"}}
    assert world().core != before.core
    assert build(CLUSTERS).core == world().core, "a snapshot without a runtime layer has the same core"
    assert build(CLUSTERS).version == build(CLUSTERS).core


def test_the_runtime_layer_of_another_snapshot_is_taken_over() -> None:
    good, newest = world(ENTRY, TABLE, runtime=1), world(Made(CLUSTER, "c", 1), runtime=2)
    mixed = with_runtime(good, newest)
    assert mixed.of(RUNTIME) is newest.of(RUNTIME)
    assert mixed.core == good.core
    assert mixed.version == world(ENTRY, TABLE, runtime=2).version
    assert all(mixed.of(kind) is good.of(kind) for kind in TYPE_ORDER if kind != RUNTIME)
    assert with_runtime(mixed, newest) is mixed
    assert with_runtime(good, world(runtime=1)) is good, "the same layer, built twice"
    without = with_runtime(good, build(CLUSTERS))
    assert without.of(RUNTIME) == {}
    assert without.version == build([*CLUSTERS, ENTRY, TABLE]).version


def test_what_did_not_change_is_the_same_object() -> None:
    former = world(ENTRY, TABLE)
    changed = Made(CLUSTER, "b", 2)
    after = build([CLUSTERS[0], changed, layer(1), ENTRY, TABLE], former)
    assert after.of(CLUSTER)["a"] is former.of(CLUSTER)["a"]
    assert after.of(CLUSTER)["b"] is not former.of(CLUSTER)["b"]
    assert after.of(CLUSTER)["b"].body == changed.body
    assert after.of(LISTENER) is former.of(LISTENER)
    assert after.of(ROUTE) is former.of(ROUTE)
    assert build([*CLUSTERS, layer(1), ENTRY, TABLE], former) is former
    fewer = build([CLUSTERS[0], layer(1)], former)
    assert dict(fewer.of(CLUSTER)) == {"a": former.of(CLUSTER)["a"]}


def test_changes_are_what_is_new_other_or_gone() -> None:
    old = build([*CLUSTERS, ENTRY, TABLE])
    new = build([Made(CLUSTER, "b", 2), Made(CLUSTER, "c", 1), Made(ENDPOINT, "c", 1)])
    assert changes(old, new) == {
        CLUSTER: {"a", "b", "c"},
        ENDPOINT: {"c"},
        LISTENER: {"entry"},
        ROUTE: {"table"},
    }
    assert changes(old, old) == {}
    assert changes(old, build([*CLUSTERS, ENTRY, TABLE])) == {}, "built twice"
    assert changes(None, build(CLUSTERS)) == {CLUSTER: {"a", "b"}}


def test_an_entry_knows_the_clusters_it_refers_to() -> None:
    built = world(ENTRY, TABLE)
    assert built.of(ROUTE)["table"].clusters == frozenset({"a", "b"})
    assert built.of(LISTENER)["entry"].clusters == frozenset()
    assert built.of(CLUSTER)["a"].clusters == frozenset()


def test_the_version_depends_on_type_name_and_content() -> None:
    versions = [
        build([made]).version
        for made in (
            Made(CLUSTER, "a", 1),
            Made(CLUSTER, "a", 2),
            Made(CLUSTER, "b", 1),
            Made(ENDPOINT, "a", 1),
        )
    ]
    assert len(set(versions)) == 4
    assert all(len(version) == 16 for version in versions)
    assert build(CLUSTERS).version == build(CLUSTERS[::-1]).version


def test_every_missing_reference_is_named_in_order() -> None:
    table = Made(ROUTE, "table", 1, frozenset({(CLUSTER, "y"), (CLUSTER, "x"), (CLUSTER, "a")}))
    with pytest.raises(DanglingReferenceError) as caught:
        build([CLUSTERS[0], table, Made(LISTENER, "entry", 1, frozenset({(ROUTE, "other")}))])
    assert caught.value.missing == (
        ("RouteConfiguration 'table'", "Cluster 'x'"),
        ("RouteConfiguration 'table'", "Cluster 'y'"),
        ("Listener 'entry'", "RouteConfiguration 'other'"),
    )
