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
    Resource,
    Snapshot,
    build,
    changes,
    with_runtime,
)


def resource(
    type_url: str, name: str, generation: int, refers_to: frozenset[tuple[str, str]] = frozenset()
) -> Resource:
    return Made(type_url, name, generation, refers_to).resource


CLUSTERS = (resource(CLUSTER, "a", 1), resource(CLUSTER, "b", 1))
ENTRY = resource(LISTENER, "entry", 1, frozenset({(ROUTE, "table")}))
TABLE = resource(ROUTE, "table", 1, frozenset({(CLUSTER, "a"), (CLUSTER, "b")}))


def layer(generation: int) -> Resource:
    return resource(RUNTIME, "layer", generation)


def snapshot(*more: Resource, runtime: int = 1) -> Snapshot:
    return build([*CLUSTERS, layer(runtime), *more])


def test_a_kill_changes_the_version_and_not_the_core() -> None:
    before, after = snapshot(ENTRY, TABLE, runtime=1), snapshot(ENTRY, TABLE, runtime=2)
    assert before.version != after.version
    assert before.version_without_runtime == after.version_without_runtime
    assert changes(before, after) == {RUNTIME: {"layer"}}
    assert snapshot().version_without_runtime != before.version_without_runtime
    assert build(CLUSTERS).version_without_runtime == snapshot().version_without_runtime, (
        "a snapshot without a runtime layer has the same core"
    )
    assert build(CLUSTERS).version == build(CLUSTERS).version_without_runtime


def test_the_runtime_layer_of_another_snapshot_is_taken_over() -> None:
    good, newest = snapshot(ENTRY, TABLE, runtime=1), snapshot(resource(CLUSTER, "c", 1), runtime=2)
    mixed = with_runtime(good, newest)
    assert mixed.of(RUNTIME) is newest.of(RUNTIME)
    assert mixed.version_without_runtime == good.version_without_runtime
    assert mixed.version == snapshot(ENTRY, TABLE, runtime=2).version
    assert all(mixed.of(kind) is good.of(kind) for kind in TYPE_ORDER if kind != RUNTIME)
    assert with_runtime(mixed, newest) is mixed
    assert with_runtime(good, snapshot(runtime=1)) is good, "the same layer, built twice"
    without = with_runtime(good, build(CLUSTERS))
    assert without.of(RUNTIME) == {}
    assert without.version == build([*CLUSTERS, ENTRY, TABLE]).version


def test_what_did_not_change_is_the_same_object() -> None:
    former = snapshot(ENTRY, TABLE)
    changed = resource(CLUSTER, "b", 2)
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
    new = build([resource(CLUSTER, "b", 2), resource(CLUSTER, "c", 1), resource(ENDPOINT, "c", 1)])
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
    built = snapshot(ENTRY, TABLE)
    assert built.of(ROUTE)["table"].clusters == frozenset({"a", "b"})
    assert built.of(LISTENER)["entry"].clusters == frozenset()
    assert built.of(CLUSTER)["a"].clusters == frozenset()


def test_the_version_depends_on_type_name_and_content() -> None:
    versions = [
        build([made]).version
        for made in (
            resource(CLUSTER, "a", 1),
            resource(CLUSTER, "a", 2),
            resource(CLUSTER, "b", 1),
            resource(ENDPOINT, "a", 1),
        )
    ]
    assert len(set(versions)) == 4
    assert all(len(version) == 16 for version in versions)
    assert build(CLUSTERS).version == build(CLUSTERS[::-1]).version


def test_every_missing_reference_is_named_in_order() -> None:
    table = resource(ROUTE, "table", 1, frozenset({(CLUSTER, "y"), (CLUSTER, "x"), (CLUSTER, "a")}))
    with pytest.raises(DanglingReferenceError) as caught:
        build([CLUSTERS[0], table, resource(LISTENER, "entry", 1, frozenset({(ROUTE, "other")}))])
    assert caught.value.missing == (
        ("RouteConfiguration 'table'", "Cluster 'x'"),
        ("RouteConfiguration 'table'", "Cluster 'y'"),
        ("Listener 'entry'", "RouteConfiguration 'other'"),
    )
