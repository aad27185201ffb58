"""Which probes are asked, in how many rounds, and what counts as a proof or a refusal of a version."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds_server.xds.session import Nack, Offer, ProbeRollout, Stage

MANY = [f"proxy-{number}" for number in range(20)]
NO = Nack("proxy-0", "no such extension")


def released(version: str = "v1") -> ProbeRollout[str]:
    rollout: ProbeRollout[str] = ProbeRollout(probe_count=3, probe_timeout=2.0)
    rollout.publish(version, MANY, 0.0)
    return rollout


def probing(version: str = "v2", now: float = 0.0) -> ProbeRollout[str]:
    rollout = released()
    assert rollout.publish(version, MANY, now) == Offer(version, frozenset(MANY[:3]))
    return rollout


def proven(rollout: ProbeRollout[str], version: str, now: float = 0.0) -> None:
    """Publish a version and let all its probes accept it."""
    offer = rollout.publish(version, MANY, now)
    assert offer is not None
    for client in offer.clients or MANY[:1]:
        rollout.record_ack(client, version)
    assert rollout.stage is Stage.RELEASED


def state_of(rollout: ProbeRollout[str]) -> tuple[Stage, str, str, float | None, Nack | None]:
    return rollout.stage, rollout.last_good, rollout.version_for_new_clients, rollout.deadline, rollout.nack


# Rounds


def test_each_round_asks_other_probes_until_the_third_has_passed() -> None:
    rollout = probing(now=10.0)
    assert state_of(rollout) == (Stage.PROBING, "v1", "v1", 12.0, None)
    assert rollout.tick(MANY, 11.999) is None
    assert rollout.tick(MANY, 12.0) == Offer("v2", frozenset(MANY[3:6]))
    assert rollout.deadline == 14.0
    assert rollout.tick(MANY, 13.0) is None
    assert rollout.tick(MANY, 14.0) == Offer("v2", frozenset(MANY[6:9]))
    assert rollout.tick(MANY, 16.0) == Offer("v2", None)
    assert state_of(rollout) == (Stage.RELEASED, "v2", "v2", None, None)
    assert rollout.tick(MANY, 99.0) is None


def test_a_successor_has_all_its_rounds() -> None:
    rollout = probing()
    for now in (2.0, 4.0):
        rollout.tick(MANY, now)
    assert rollout.publish("v3", MANY[9:], 5.0) == Offer("v3", frozenset(MANY[:9])), "every probe of v2"
    offers = [rollout.tick(MANY, now) for now in (7.0, 9.0)]
    assert offers == [Offer("v3", frozenset(MANY[9:12])), Offer("v3", frozenset(MANY[12:15]))]
    assert rollout.tick(MANY, 11.0) == Offer("v3", None)


def test_a_successor_is_not_released_by_what_its_predecessor_proved() -> None:
    rollout = probing()
    rollout.record_ack("proxy-0", "v2")
    rollout.publish("v3", MANY, 1.0)
    assert rollout.tick(MANY, 3.0) == Offer("v3", frozenset(MANY[3:6])), "no client has accepted v3 yet"


def test_without_clients_a_version_is_released() -> None:
    rollout = released()
    assert rollout.publish("v2", [], 1.0) == Offer("v2", None)
    assert state_of(rollout) == (Stage.RELEASED, "v2", "v2", None, None)


def test_after_a_restart_the_rounds_begin_with_the_first_deadline() -> None:
    rollout: ProbeRollout[str] = ProbeRollout(probe_count=3, probe_timeout=2.0)
    assert rollout.restore("v1", "v2", None, 5.0) == Offer("v1", None)
    assert state_of(rollout) == (Stage.PROBING, "v1", "v1", 7.0, None)
    assert rollout.record_ack("proxy-0", "v2") is None, "it was not asked"
    assert rollout.stage is Stage.PROBING
    asked = [rollout.tick(MANY, now) for now in (7.0, 9.0)]
    assert asked == [Offer("v2", frozenset(MANY[:3])), Offer("v2", frozenset(MANY[3:6]))]
    assert rollout.tick(MANY, 11.0) == Offer("v2", None)


def test_a_version_refused_elsewhere_has_no_deadline() -> None:
    rollout = probing()
    assert rollout.restore("v1", "v2", NO, 5.0) == Offer("v1", None)
    assert state_of(rollout) == (Stage.NACKED, "v1", "v1", None, NO)
    assert rollout.record_nack("proxy-0", "v2", NO) is None, "no client is asked any more"
    assert rollout.record_disconnect("proxy-0", MANY, 6.0) is None


# Refusals


def test_only_a_refusal_of_the_newest_version_by_a_probe_stops_it() -> None:
    rollout = probing()
    assert rollout.record_nack("proxy-9", "v2", NO) is None, "not a probe"
    assert rollout.record_nack("proxy-0", "v1", NO) is None, "another version"
    assert rollout.stop("v1", NO) is None
    assert state_of(rollout) == (Stage.PROBING, "v1", "v1", 2.0, None)
    assert rollout.record_nack("proxy-2", "v2", NO) == Offer("v1", frozenset(MANY[:3]))
    assert state_of(rollout) == (Stage.NACKED, "v1", "v1", None, NO)
    assert rollout.stop("v2", Nack("proxy-1", "other words")) is None, "it is stopped already"
    assert rollout.nack == NO


def test_a_refusal_after_the_release_is_one_proxys_own_matter() -> None:
    rollout = released()
    proven(rollout, "v2")
    assert rollout.record_nack("proxy-0", "v2", NO) is None
    assert rollout.stop("v2", NO) is None
    assert state_of(rollout) == (Stage.RELEASED, "v2", "v2", None, None)


def test_a_probe_that_left_has_no_say() -> None:
    rollout = probing()
    assert rollout.record_disconnect("proxy-0", MANY[1:], 1.0) is None
    assert rollout.record_nack("proxy-0", "v2", NO) is None
    assert rollout.stop("v2", NO) == Offer("v1", frozenset(MANY[1:3]))


# Proofs


def test_the_last_probe_that_is_waited_for_decides() -> None:
    rollout = probing()
    for client in ("proxy-0", "proxy-9", "proxy-0"):
        assert rollout.record_ack(client, "v2") is None
    assert rollout.record_disconnect("proxy-1", MANY, 1.0) is None
    assert rollout.record_disconnect("proxy-9", MANY, 1.0) is None, "not a probe"
    assert rollout.record_disconnect("proxy-2", MANY, 1.0) == Offer("v2", None), (
        "one ACKed, the others are gone"
    )
    assert state_of(rollout) == (Stage.RELEASED, "v2", "v2", None, None)


def test_a_client_that_is_no_probe_proves_nothing() -> None:
    rollout = probing()
    rollout.record_ack("proxy-9", "v2")
    assert rollout.tick(MANY, 2.0) == Offer("v2", frozenset(MANY[3:6]))


@pytest.mark.parametrize("accepted", [True, False])
def test_the_first_version_is_proven_once_a_client_holds_it(accepted: bool) -> None:
    rollout = released()
    if accepted:
        rollout.record_ack("proxy-5", "v1")
    proven(rollout, "v2")
    expected = Offer("v1", None) if accepted else Offer("v1", frozenset(MANY[:3]))
    assert rollout.publish("v1", MANY, 9.0) == expected


def test_what_a_client_holds_of_another_version_proves_nothing() -> None:
    rollout = released()
    rollout.record_ack("proxy-5", "v0")
    assert rollout.publish("v0", MANY, 9.0) == Offer("v0", frozenset(MANY[:3]))


def test_the_last_thirty_two_proven_versions_need_no_probes() -> None:
    rollout = released()
    for number in range(33):
        proven(rollout, f"n{number}")
    assert rollout.publish("n1", MANY, 9.0) == Offer("n1", None)
    assert rollout.publish("n0", MANY, 9.0) == Offer("n0", frozenset(MANY[:3])), "forgotten"


def test_accepting_a_proven_version_again_forgets_no_other() -> None:
    rollout = released()
    for number in range(32):
        proven(rollout, f"n{number}")
    for _ in range(40):
        rollout.record_ack("proxy-5", "n31")
        rollout.publish("n30", MANY, 9.0)
        rollout.publish("n31", MANY, 9.0)
    assert rollout.publish("n0", MANY, 9.0) == Offer("n0", None)


def test_a_proven_version_that_is_refused_is_proven_no_more() -> None:
    rollout = released()
    proven(rollout, "v2")
    proven(rollout, "v3")
    rollout.restore("v3", "v2", None, 1.0)
    assert rollout.tick(MANY, 3.0) == Offer("v2", frozenset(MANY[:3]))
    assert rollout.record_nack("proxy-0", "v2", NO) == Offer("v3", frozenset(MANY[:3]))
    proven(rollout, "v4")
    assert rollout.publish("v2", MANY, 9.0) == Offer("v2", frozenset(MANY[:3]))


def test_a_version_on_which_two_rounds_went_away_has_a_third() -> None:
    rollout = probing()
    for first in (0, 3):
        left = [rollout.record_disconnect(name, MANY[first + 3 :], 1.0) for name in MANY[first : first + 3]]
        assert left == [None, None, Offer("v2", frozenset(MANY[first + 3 : first + 6]))]
        assert rollout.deadline == 3.0
    left = [rollout.record_disconnect(name, MANY[9:], 1.0) for name in MANY[6:9]]
    assert left == [None, None, Offer("v1", frozenset())]
    assert rollout.stage is Stage.NACKED
    message = (
        "in 3 rounds, no proxy that received the version ACKed it; all proxies of the last round disconnected"
    )
    assert rollout.nack == Nack("", message)
    assert rollout.nack.cause == "missing ACKs"


def check(rollout: ProbeRollout[str], sent: dict[str, str], now: float) -> None:
    """Check which versions clients received."""
    allowed = {
        Stage.RELEASED: {rollout.target},
        Stage.NACKED: {rollout.last_good},
        Stage.PROBING: {rollout.last_good, rollout.target},
    }
    assert set(sent.values()) <= allowed[rollout.stage]
    if rollout.stage is Stage.PROBING:
        assert now < (rollout.deadline or 0) <= now + rollout.probe_timeout
    else:
        assert rollout.deadline is None
    assert (rollout.nack is not None) is (rollout.stage is Stage.NACKED)


@given(st.data())
def test_reconnecting_clients_receive_no_version_before_its_release(data: st.DataObject) -> None:
    rollout, now = released(), 0.0
    sent = dict.fromkeys(MANY[:6], "v1")

    def give(offer: Offer[str] | None) -> None:
        if offer is not None:
            clients = list(sent) if offer.clients is None else [c for c in offer.clients if c in sent]
            sent.update(dict.fromkeys(clients, offer.version))

    for turn in range(data.draw(st.integers(1, 30))):
        client = data.draw(st.sampled_from(MANY))
        match data.draw(st.sampled_from(["publish", "accept", "refuse", "tick", "leave", "join"])):
            case "publish":
                give(rollout.publish(f"n{turn}", list(sent), now))
            case "accept" if client in sent:
                give(rollout.record_ack(client, sent[client]))
            case "refuse" if client in sent:
                give(rollout.record_nack(client, sent[client], Nack(client, "no")))
            case "leave" if client in sent:
                del sent[client]
                give(rollout.record_disconnect(client, list(sent), now))
            case "join" if client not in sent:
                sent[client] = rollout.version_for_new_clients
            case _:
                now += 1.0
                give(rollout.tick(list(sent), now))
        check(rollout, sent, now)
