"""What is remembered of versions, whichever acceptor found it out."""

from __future__ import annotations

from tests.support import worlds
from xds_server import ir
from xds_server.xds.session import Nack
from xds_server.xds.workers.versions import VersionRecord, VersionRegistry

ONE, TWO, THREE = (worlds.snapshot(worlds.group(weight)) for weight in (100, 200, 300))
NO = Nack("proxy-1", "no such extension")


def proxies(port: int) -> ir.NodeClass:
    return ir.NodeClass(group="chat", entry=ir.Address(host="::", port=port))


def known_good() -> VersionRecord:
    known = VersionRecord(ONE)
    assert known.fallback is None, "the first has nothing before it"
    known.release(ONE.version)
    return known


def test_a_version_that_went_out_is_what_its_successor_falls_back_to() -> None:
    known = known_good()
    assert known.publish(TWO)
    assert known.fallback is ONE
    known.release(TWO.version)
    assert known.fallback is None
    known.publish(THREE)
    assert known.fallback is TWO


def test_a_refused_version_is_never_fallen_back_to() -> None:
    known = known_good()
    known.publish(TWO)
    assert known.refuse(TWO.version, NO)
    assert not known.refuse(TWO.version, NO), "that is no news"
    known.release(TWO.version)
    assert known.fallback is ONE, "also if it went out elsewhere"
    assert not known.publish(TWO), "the same again changes nothing"
    assert known.refusal == NO
    known.publish(THREE)
    assert known.fallback is ONE
    assert known.refuse(THREE.version, NO), "what was said of the one before says nothing of it"


def test_a_version_that_nobody_proved_is_never_fallen_back_to() -> None:
    known = known_good()
    known.publish(TWO)
    known.publish(THREE)
    assert known.fallback is ONE
    assert not known.refuse(TWO.version, NO), "it is not the newest any more"
    assert known.refusal is None


def test_going_back_to_the_good_version_ends_the_matter() -> None:
    known = known_good()
    known.publish(TWO)
    known.refuse(TWO.version, NO)
    known.publish(ONE)
    assert (known.fallback, known.refusal) == (None, None)


def test_of_classes_that_nobody_belongs_to_only_a_bounded_number_is_remembered() -> None:
    ledger = VersionRegistry()
    for port in range(1, 3_001):
        ledger.want(proxies(port))
        ledger.publish(proxies(port), ONE)
        ledger.classes[proxies(port)].release(ONE.version)
        if port > 1_000:
            ledger.publish(proxies(port), TWO)
    for port in range(1, 3_001):
        ledger.leave(proxies(port))
        ledger.leave(proxies(port))
    assert len(ledger.classes) == 1_024
    assert ledger.classes[proxies(3_000)].fallback is ONE
    ledger.want(proxies(2_000))
    for port in range(4_001, 6_001):
        ledger.publish(proxies(port), ONE)
        ledger.classes[proxies(port)].release(ONE.version)
        ledger.publish(proxies(port), TWO)
        ledger.leave(proxies(port))
    assert proxies(2_000) in ledger.classes, "somebody is there again"
    assert len(ledger.classes) == 1_025
