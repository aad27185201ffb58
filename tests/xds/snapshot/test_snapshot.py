from dataclasses import replace

import pytest

from tests.support import configs
from xds_server.translate import resources
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, DanglingReferenceError, build, changes
from xds_server.xds.wire import discovery_pb2 as wire

FOUND = resources(configs.group(shadow=True), configs.SCRIPTS)


def test_the_order_of_resources_does_not_matter() -> None:
    assert build(FOUND).version == build(tuple(reversed(FOUND))).version


def test_versions_follow_content() -> None:
    one, other = configs.snapshot(configs.group(500)), configs.snapshot(configs.group(600))
    assert changes(one, other) == {ROUTE: {"entry"}}
    assert one.version != other.version


def test_unchanged_resources_are_shared_with_the_former_snapshot() -> None:
    former = configs.snapshot(configs.group(500))
    after = build(resources(configs.group(600), configs.SCRIPTS), former)
    assert after.of(CLUSTER) is former.of(CLUSTER)
    assert after.of(ROUTE)["hop"] is former.of(ROUTE)["hop"]
    assert changes(former, after) == {ROUTE: {"entry"}}
    assert build(resources(configs.group(500), configs.SCRIPTS), former) is former


def test_changes_lists_added_and_removed_names() -> None:
    whole = configs.group(500)
    full, less = configs.snapshot(whole), configs.snapshot(configs.without_candidate(whole))
    assert changes(full, less)[CLUSTER] == changes(less, full)[CLUSTER] == {"chat/v2"}
    assert changes(None, full)[CLUSTER] == {"chat/v1", "chat/v2"}
    empty = build([])
    assert changes(full, empty)[LISTENER] == {"entry", "hop"}


def test_a_dangling_reference_is_an_error_with_all_missing_resources() -> None:
    without = [r for r in FOUND if (r.type_url, r.name) not in {(CLUSTER, "chat/v2"), (ENDPOINT, "chat/v1")}]
    with pytest.raises(DanglingReferenceError) as caught:
        build(without)
    assert caught.value.missing == (
        ("Cluster 'chat/v1'", "ClusterLoadAssignment 'chat/v1'"),
        ("RouteConfiguration 'entry'", "Cluster 'chat/v2'"),
    )


def test_the_delta_form_wraps_the_same_body() -> None:
    for resource in build(FOUND).of(LISTENER).values():
        message = wire.Resource.FromString(resource.delta)
        assert (message.name, message.version, message.resource) == (
            resource.name,
            resource.version,
            resource.body,
        )


def test_an_unknown_type_has_no_resources() -> None:
    assert build(FOUND).of("type.googleapis.com/some.Thing") == {}


def test_a_changed_resource_changes_the_version() -> None:
    changed = [replace(r, version="other") if r.name == "hop" else r for r in FOUND]
    assert build(changed).version != build(FOUND).version
