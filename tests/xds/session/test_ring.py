"""Who is told of a new version first, and what stops it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xds_server.xds.session import Nack, Offer, ProbeRollout, Stage

MANY = [f"proxy-{number}" for number in range(10)]
NO = Nack("proxy-0", "no such extension")


def steady(version: str = "v1") -> ProbeRollout[str]:
    ring: ProbeRollout[str] = ProbeRollout(size=3)
    assert ring.publish(version, MANY, 0.0) == Offer(version, None), (
        "the first version has nothing to fall back to"
    )
    return ring


def test_a_new_version_goes_to_probes_then_to_all() -> None:
    ring = steady()
    assert ring.publish("v2", MANY, 1.0) == Offer("v2", frozenset(MANY[:3]))
    assert ring.for_newcomers == "v1"
    assert ring.accepted("proxy-0", "v2") is None
    assert ring.accepted("proxy-9", "v2") is None, "not a probe"
    assert ring.accepted("proxy-1", "v2") is None
    assert ring.accepted("proxy-2", "v2") == Offer("v2", None)
    assert (ring.stage, ring.for_newcomers) == (Stage.RELEASED, "v2")


def test_a_refusal_stops_it_and_gives_the_good_one_back() -> None:
    ring = steady()
    ring.publish("v2", MANY, 1.0)
    assert ring.accepted("proxy-1", "v2") is None
    assert ring.refused("proxy-0", "v2", NO) == Offer("v1", frozenset(MANY[:3]))
    assert (ring.stage, ring.refusal, ring.for_newcomers) == (Stage.REFUSED, NO, "v1")
    assert ring.accepted("proxy-2", "v2") is None, "too late"
    assert ring.tick(MANY, 99.0) is None
    assert ring.publish("v2", MANY, 2.0) is None, "the same again changes nothing"
    assert ring.publish("v3", MANY, 3.0) == Offer("v3", frozenset(MANY[:3]))
    assert ring.refusal is None


def test_a_version_that_was_accepted_before_needs_no_probes() -> None:
    ring = steady()
    ring.publish("v2", MANY, 1.0)
    for name in MANY[:3]:
        ring.accepted(name, "v2")
    assert ring.publish("v3", MANY, 2.0) is not None
    assert ring.publish("v2", MANY, 3.0) == Offer("v2", None)
    assert ring.publish("v1", MANY, 4.0) == Offer("v1", frozenset(MANY[:3])), "never seen accepted"


def test_a_version_is_replaced_while_it_is_probed() -> None:
    ring = steady()
    ring.publish("v2", MANY, 1.0)
    offer = ring.publish("v3", reversed(MANY), 1.0)
    assert offer == Offer("v3", frozenset(MANY[:3])), "who heard of the abandoned one hears of its successor"


def test_going_back_to_the_good_version_while_another_is_probed_reaches_the_probes() -> None:
    ring = steady()
    ring.publish("v2", MANY, 1.0)
    assert ring.publish("v1", MANY, 1.5) == Offer("v1", None)


def test_silent_probes_are_passed_over() -> None:
    ring = steady()
    ring.publish("v2", MANY, 0.0)
    assert ring.tick(MANY, 1.9) is None
    assert ring.tick(MANY, 2.0) == Offer("v2", frozenset(MANY[3:6])), "others are asked"
    ring.accepted("proxy-4", "v2")
    assert ring.tick(MANY, 4.0) == Offer("v2", None), "one accepted it and none refused"


def test_when_nobody_answers_it_goes_out_at_last() -> None:
    ring = steady()
    ring.publish("v2", MANY, 0.0)
    offers = [ring.tick(MANY, now) for now in (2.0, 4.0, 6.0)]
    assert offers[-1] == Offer("v2", None)


def test_one_that_accepted_what_another_refused_proves_nothing() -> None:
    ring = steady()
    ring.publish("v2", MANY, 1.0)
    ring.accepted("proxy-1", "v2")
    ring.refused("proxy-0", "v2", NO)
    ring.publish("v1", MANY, 2.0)
    assert ring.publish("v2", MANY, 3.0) == Offer("v2", frozenset(MANY[:3]))


def test_a_version_on_which_all_probes_go_away_is_stopped() -> None:
    ring = steady()
    ring.publish("v2", MANY, 0.0)
    told = 3
    while ring.stage is Stage.PROBING:
        told += 3
        for name in MANY[told - 6 : told - 3]:
            ring.left(name, MANY[told - 3 :], 0.1)
    assert ring.stage is Stage.REFUSED
    assert told == 12, "three rounds"
    assert ring.for_newcomers == "v1"


def test_probes_that_leave_are_replaced() -> None:
    ring = steady()
    ring.publish("v2", MANY[:1], 0.0)
    assert ring.left("proxy-0", MANY[1:], 0.5) == Offer("v2", frozenset(MANY[1:4]))
    for name in MANY[1:3]:
        assert ring.left(name, MANY[4:], 0.6) is None
    assert ring.left("proxy-3", [], 0.7) == Offer("v2", None), "nobody is left to ask"


def test_what_was_refused_elsewhere_is_nobody_s() -> None:
    ring: ProbeRollout[str] = ProbeRollout(size=3)
    assert ring.recall("v1", "v2", NO, 5.0) == Offer("v1", None)
    assert (ring.stage, ring.refusal, ring.for_newcomers) == (Stage.REFUSED, NO, "v1")
    assert ring.tick(MANY, 99.0) is None
    assert ring.accepted("proxy-0", "v2") is None
    assert ring.publish("v3", MANY, 6.0) == Offer("v3", frozenset(MANY[:3])), "and its successor is probed"


def test_what_nobody_elsewhere_has_refused_yet_is_probed_in_a_moment() -> None:
    ring: ProbeRollout[str] = ProbeRollout(size=3)
    ring.recall("v1", "v2", None, 5.0)
    assert (ring.stage, ring.for_newcomers) == (Stage.PROBING, "v1")
    assert ring.accepted("proxy-0", "v1") is None, "the good one proves nothing"
    assert ring.tick(MANY, 6.9) is None
    assert ring.tick(MANY, 7.0) == Offer("v2", frozenset(MANY[:3]))
    for name in MANY[:2]:
        assert ring.accepted(name, "v2") is None
    assert ring.accepted(MANY[2], "v2") == Offer("v2", None)


@given(st.data())
def test_nobody_but_probes_hears_of_a_version_before_it_is_released(data: st.DataObject) -> None:
    ring, told, now = steady(), dict.fromkeys(MANY, "v1"), 0.0

    def give(offer: Offer[str] | None) -> None:
        if offer is not None:
            told.update(dict.fromkeys(MANY if offer.clients is None else offer.clients, offer.version))

    for step in range(data.draw(st.integers(1, 30))):
        client = data.draw(st.sampled_from(MANY))
        match data.draw(st.sampled_from(["publish", "accept", "refuse", "tick"])):
            case "publish":
                give(ring.publish(data.draw(st.sampled_from(["v1", "v2", f"n{step}"])), MANY, now))
            case "accept":
                give(ring.accepted(client, told[client]))
            case "refuse":
                give(ring.refused(client, told[client], Nack(client, "no")))
            case _:
                now += 1.0
                give(ring.tick(MANY, now))
        if ring.stage is Stage.RELEASED:
            assert set(told.values()) == {ring.target} == {ring.good}
        elif ring.stage is Stage.REFUSED:
            assert set(told.values()) == {ring.good}
        else:
            assert set(told.values()) <= {ring.good, ring.target}
            assert (ring.deadline or 0) > now - 2.0
