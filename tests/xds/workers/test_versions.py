"""Which version a node class falls back to, after releases and NACKs reported by workers."""

from __future__ import annotations

from tests.support import configs
from xds_server import ir
from xds_server.xds.session import Nack
from xds_server.xds.workers.versions import VersionRecord, VersionRegistry

ONE, TWO, THREE = (configs.snapshot(configs.group(weight)) for weight in (100, 200, 300))
NACK = Nack("proxy-1", "no such extension")


def node_class(port: int) -> ir.NodeClass:
    return ir.NodeClass(group="chat", entry=ir.Address(host="::", port=port))


def released_record() -> VersionRecord:
    record = VersionRecord(ONE)
    assert record.fallback is None, "the first version has no fallback"
    record.record_release(ONE.version)
    return record


def test_a_released_version_is_the_fallback_of_its_successor() -> None:
    record = released_record()
    assert record.publish(TWO)
    assert record.fallback is ONE
    record.record_release(TWO.version)
    assert record.fallback is None
    record.publish(THREE)
    assert record.fallback is TWO


def test_a_nacked_version_is_never_a_fallback() -> None:
    record = released_record()
    record.publish(TWO)
    assert record.record_nack(TWO.version, NACK)
    assert not record.record_nack(TWO.version, NACK), "not the first NACK"
    record.record_release(TWO.version)
    assert record.fallback is ONE, "even if another worker released it"
    assert not record.publish(TWO), "the same version changes nothing"
    assert record.nack == NACK
    record.publish(THREE)
    assert record.fallback is ONE
    assert record.record_nack(THREE.version, NACK), "the NACK of the previous version does not apply"


def test_a_version_that_was_not_released_is_never_a_fallback() -> None:
    record = released_record()
    record.publish(TWO)
    record.publish(THREE)
    assert record.fallback is ONE
    assert not record.record_nack(TWO.version, NACK), "it is no longer the newest"
    assert record.nack is None


def test_publishing_the_last_good_version_again_needs_no_fallback() -> None:
    record = released_record()
    record.publish(TWO)
    record.record_nack(TWO.version, NACK)
    record.publish(ONE)
    assert (record.fallback, record.nack) == (None, None)


def test_the_number_of_unused_records_is_bounded() -> None:
    registry = VersionRegistry()
    for port in range(1, 3_001):
        registry.mark_used(node_class(port))
        registry.publish(node_class(port), ONE)
        registry.classes[node_class(port)].record_release(ONE.version)
        if port > 1_000:
            registry.publish(node_class(port), TWO)
    for port in range(1, 3_001):
        registry.mark_unused(node_class(port))
        registry.mark_unused(node_class(port))
    assert len(registry.classes) == 1_024
    assert registry.classes[node_class(3_000)].fallback is ONE
    registry.mark_used(node_class(2_000))
    for port in range(4_001, 6_001):
        registry.publish(node_class(port), ONE)
        registry.classes[node_class(port)].record_release(ONE.version)
        registry.publish(node_class(port), TWO)
        registry.mark_unused(node_class(port))
    assert node_class(2_000) in registry.classes, "it is in use again"
    assert len(registry.classes) == 1_025
