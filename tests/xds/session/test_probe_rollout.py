"""Which clients receive a new version first, and what stops it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xds_server.xds.session import Nack, Offer, ProbeRollout, Stage

CLIENTS = [f"proxy-{number}" for number in range(10)]
NACK = Nack("proxy-0", "no such extension")


def released(version: str = "v1") -> ProbeRollout[str]:
    rollout: ProbeRollout[str] = ProbeRollout(probe_count=3)
    assert rollout.publish(version, CLIENTS, 0.0) == Offer(version, None), (
        "the first version has nothing to fall back to"
    )
    return rollout


def test_a_new_version_is_sent_to_probes_then_to_all() -> None:
    rollout = released()
    assert rollout.publish("v2", CLIENTS, 1.0) == Offer("v2", frozenset(CLIENTS[:3]))
    assert rollout.version_for_new_clients == "v1"
    assert rollout.record_ack("proxy-0", "v2") is None
    assert rollout.record_ack("proxy-9", "v2") is None, "not a probe"
    assert rollout.record_ack("proxy-1", "v2") is None
    assert rollout.record_ack("proxy-2", "v2") == Offer("v2", None)
    assert (rollout.stage, rollout.version_for_new_clients) == (Stage.RELEASED, "v2")


def test_a_nack_of_a_probe_stops_the_version_and_restores_the_last_good_one() -> None:
    rollout = released()
    rollout.publish("v2", CLIENTS, 1.0)
    assert rollout.record_ack("proxy-1", "v2") is None
    assert rollout.record_nack("proxy-0", "v2", NACK) == Offer("v1", frozenset(CLIENTS[:3]))
    assert (rollout.stage, rollout.nack, rollout.version_for_new_clients) == (Stage.NACKED, NACK, "v1")
    assert rollout.record_ack("proxy-2", "v2") is None, "too late"
    assert rollout.tick(CLIENTS, 99.0) is None
    assert rollout.publish("v2", CLIENTS, 2.0) is None, "the same again changes nothing"
    assert rollout.publish("v3", CLIENTS, 3.0) == Offer("v3", frozenset(CLIENTS[:3]))
    assert rollout.nack is None


def test_a_version_that_was_acked_before_needs_no_probes() -> None:
    rollout = released()
    rollout.publish("v2", CLIENTS, 1.0)
    for name in CLIENTS[:3]:
        rollout.record_ack(name, "v2")
    assert rollout.publish("v3", CLIENTS, 2.0) is not None
    assert rollout.publish("v2", CLIENTS, 3.0) == Offer("v2", None)
    assert rollout.publish("v1", CLIENTS, 4.0) == Offer("v1", frozenset(CLIENTS[:3])), "no probe ACKed it"


def test_the_probes_of_an_abandoned_version_receive_its_successor() -> None:
    rollout = released()
    rollout.publish("v2", CLIENTS, 1.0)
    offer = rollout.publish("v3", reversed(CLIENTS), 1.0)
    assert offer == Offer("v3", frozenset(CLIENTS[:3])), "the same probes"


def test_publishing_the_last_good_version_while_another_is_probed_reaches_the_probes() -> None:
    rollout = released()
    rollout.publish("v2", CLIENTS, 1.0)
    assert rollout.publish("v1", CLIENTS, 1.5) == Offer("v1", None)


def test_probes_that_do_not_answer_are_replaced() -> None:
    rollout = released()
    rollout.publish("v2", CLIENTS, 0.0)
    assert rollout.tick(CLIENTS, 1.9) is None
    assert rollout.tick(CLIENTS, 2.0) == Offer("v2", frozenset(CLIENTS[3:6])), "other probes"
    rollout.record_ack("proxy-4", "v2")
    assert rollout.tick(CLIENTS, 4.0) == Offer("v2", None), "one probe ACKed it and none NACKed it"


def test_a_version_without_answers_is_released_after_three_rounds() -> None:
    rollout = released()
    rollout.publish("v2", CLIENTS, 0.0)
    offers = [rollout.tick(CLIENTS, now) for now in (2.0, 4.0, 6.0)]
    assert offers[-1] == Offer("v2", None)


def test_an_ack_of_a_version_that_another_probe_nacked_proves_nothing() -> None:
    rollout = released()
    rollout.publish("v2", CLIENTS, 1.0)
    rollout.record_ack("proxy-1", "v2")
    rollout.record_nack("proxy-0", "v2", NACK)
    rollout.publish("v1", CLIENTS, 2.0)
    assert rollout.publish("v2", CLIENTS, 3.0) == Offer("v2", frozenset(CLIENTS[:3]))


def test_a_version_whose_probes_all_disconnect_is_stopped() -> None:
    rollout = released()
    rollout.publish("v2", CLIENTS, 0.0)
    received = 3
    while rollout.stage is Stage.PROBING:
        received += 3
        for name in CLIENTS[received - 6 : received - 3]:
            rollout.record_disconnect(name, CLIENTS[received - 3 :], 0.1)
    assert rollout.stage is Stage.NACKED
    assert received == 12, "three rounds"
    assert rollout.version_for_new_clients == "v1"


def test_probes_that_disconnect_are_replaced() -> None:
    rollout = released()
    rollout.publish("v2", CLIENTS[:1], 0.0)
    assert rollout.record_disconnect("proxy-0", CLIENTS[1:], 0.5) == Offer("v2", frozenset(CLIENTS[1:4]))
    for name in CLIENTS[1:3]:
        assert rollout.record_disconnect(name, CLIENTS[4:], 0.6) is None
    assert rollout.record_disconnect("proxy-3", [], 0.7) == Offer("v2", None), "no client is left to probe"


def test_a_version_that_was_nacked_elsewhere_is_sent_to_no_client() -> None:
    rollout: ProbeRollout[str] = ProbeRollout(probe_count=3)
    assert rollout.restore("v1", "v2", NACK, 5.0) == Offer("v1", None)
    assert (rollout.stage, rollout.nack, rollout.version_for_new_clients) == (Stage.NACKED, NACK, "v1")
    assert rollout.tick(CLIENTS, 99.0) is None
    assert rollout.record_ack("proxy-0", "v2") is None
    assert rollout.publish("v3", CLIENTS, 6.0) == Offer("v3", frozenset(CLIENTS[:3])), (
        "its successor is probed"
    )


def test_a_restored_version_without_a_nack_is_probed_after_the_timeout() -> None:
    rollout: ProbeRollout[str] = ProbeRollout(probe_count=3)
    rollout.restore("v1", "v2", None, 5.0)
    assert (rollout.stage, rollout.version_for_new_clients) == (Stage.PROBING, "v1")
    assert rollout.record_ack("proxy-0", "v1") is None, "an ACK of the last good version proves nothing"
    assert rollout.tick(CLIENTS, 6.9) is None
    assert rollout.tick(CLIENTS, 7.0) == Offer("v2", frozenset(CLIENTS[:3]))
    for name in CLIENTS[:2]:
        assert rollout.record_ack(name, "v2") is None
    assert rollout.record_ack(CLIENTS[2], "v2") == Offer("v2", None)


@given(st.data())
def test_only_probes_receive_a_version_before_it_is_released(data: st.DataObject) -> None:
    rollout, received, now = released(), dict.fromkeys(CLIENTS, "v1"), 0.0

    def send(offer: Offer[str] | None) -> None:
        if offer is not None:
            received.update(dict.fromkeys(CLIENTS if offer.clients is None else offer.clients, offer.version))

    for step in range(data.draw(st.integers(1, 30))):
        client = data.draw(st.sampled_from(CLIENTS))
        match data.draw(st.sampled_from(["publish", "ack", "nack", "tick"])):
            case "publish":
                send(rollout.publish(data.draw(st.sampled_from(["v1", "v2", f"n{step}"])), CLIENTS, now))
            case "ack":
                send(rollout.record_ack(client, received[client]))
            case "nack":
                send(rollout.record_nack(client, received[client], Nack(client, "no")))
            case _:
                now += 1.0
                send(rollout.tick(CLIENTS, now))
        if rollout.stage is Stage.RELEASED:
            assert set(received.values()) == {rollout.target} == {rollout.last_good}
        elif rollout.stage is Stage.NACKED:
            assert set(received.values()) == {rollout.last_good}
        else:
            assert set(received.values()) <= {rollout.last_good, rollout.target}
            assert (rollout.deadline or 0) > now - 2.0
