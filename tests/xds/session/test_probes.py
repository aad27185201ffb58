"""Which probes are asked, in how many rounds, and what counts as a proof or a refusal of a version."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds_server.xds.session import Nack, Offer, ProbeRollout, Stage

MANY = [f"proxy-{number}" for number in range(20)]
NO = Nack("proxy-0", "no such extension")


def released(version: str = "v1") -> ProbeRollout[str]:
    ring: ProbeRollout[str] = ProbeRollout(size=3, patience=2.0)
    ring.publish(version, MANY, 0.0)
    return ring


def probing(version: str = "v2", now: float = 0.0) -> ProbeRollout[str]:
    ring = released()
    assert ring.publish(version, MANY, now) == Offer(version, frozenset(MANY[:3]))
    return ring


def proven(ring: ProbeRollout[str], version: str, now: float = 0.0) -> None:
    """Publish a version and let all its probes accept it."""
    offer = ring.publish(version, MANY, now)
    assert offer is not None
    for client in offer.clients or MANY[:1]:
        ring.accepted(client, version)
    assert ring.stage is Stage.RELEASED


def stands(ring: ProbeRollout[str]) -> tuple[Stage, str, str, float | None, Nack | None]:
    return ring.stage, ring.good, ring.for_newcomers, ring.deadline, ring.refusal


# Rounds


def test_each_round_asks_other_probes_until_the_third_has_passed() -> None:
    ring = probing(now=10.0)
    assert stands(ring) == (Stage.PROBING, "v1", "v1", 12.0, None)
    assert ring.tick(MANY, 11.999) is None
    assert ring.tick(MANY, 12.0) == Offer("v2", frozenset(MANY[3:6]))
    assert ring.deadline == 14.0
    assert ring.tick(MANY, 13.0) is None
    assert ring.tick(MANY, 14.0) == Offer("v2", frozenset(MANY[6:9]))
    assert ring.tick(MANY, 16.0) == Offer("v2", None)
    assert stands(ring) == (Stage.RELEASED, "v2", "v2", None, None)
    assert ring.tick(MANY, 99.0) is None


def test_a_successor_has_all_its_rounds() -> None:
    ring = probing()
    for now in (2.0, 4.0):
        ring.tick(MANY, now)
    assert ring.publish("v3", MANY[9:], 5.0) == Offer("v3", frozenset(MANY[:9])), "all who know v2 are asked"
    offers = [ring.tick(MANY, now) for now in (7.0, 9.0)]
    assert offers == [Offer("v3", frozenset(MANY[9:12])), Offer("v3", frozenset(MANY[12:15]))]
    assert ring.tick(MANY, 11.0) == Offer("v3", None)


def test_a_successor_is_not_released_by_what_its_predecessor_proved() -> None:
    ring = probing()
    ring.accepted("proxy-0", "v2")
    ring.publish("v3", MANY, 1.0)
    assert ring.tick(MANY, 3.0) == Offer("v3", frozenset(MANY[3:6])), "nobody has accepted v3 yet"


def test_without_anybody_to_ask_a_version_goes_out() -> None:
    ring = released()
    assert ring.publish("v2", [], 1.0) == Offer("v2", None)
    assert stands(ring) == (Stage.RELEASED, "v2", "v2", None, None)


def test_after_a_restart_the_rounds_begin_with_the_first_deadline() -> None:
    ring: ProbeRollout[str] = ProbeRollout(size=3, patience=2.0)
    assert ring.recall("v1", "v2", None, 5.0) == Offer("v1", None)
    assert stands(ring) == (Stage.PROBING, "v1", "v1", 7.0, None)
    assert ring.accepted("proxy-0", "v2") is None, "it was not asked"
    assert ring.stage is Stage.PROBING
    asked = [ring.tick(MANY, now) for now in (7.0, 9.0)]
    assert asked == [Offer("v2", frozenset(MANY[:3])), Offer("v2", frozenset(MANY[3:6]))]
    assert ring.tick(MANY, 11.0) == Offer("v2", None)


def test_a_version_refused_elsewhere_has_no_deadline() -> None:
    ring = probing()
    assert ring.recall("v1", "v2", NO, 5.0) == Offer("v1", None)
    assert stands(ring) == (Stage.REFUSED, "v1", "v1", None, NO)
    assert ring.refused("proxy-0", "v2", NO) is None, "nobody is asked any more"
    assert ring.left("proxy-0", MANY, 6.0) is None


# Refusals


def test_only_a_refusal_of_the_newest_version_by_a_probe_stops_it() -> None:
    ring = probing()
    assert ring.refused("proxy-9", "v2", NO) is None, "not a probe"
    assert ring.refused("proxy-0", "v1", NO) is None, "another version"
    assert ring.stop("v1", NO) is None
    assert stands(ring) == (Stage.PROBING, "v1", "v1", 2.0, None)
    assert ring.refused("proxy-2", "v2", NO) == Offer("v1", frozenset(MANY[:3]))
    assert stands(ring) == (Stage.REFUSED, "v1", "v1", None, NO)
    assert ring.stop("v2", Nack("proxy-1", "other words")) is None, "it is stopped already"
    assert ring.refusal == NO


def test_a_refusal_after_the_release_is_one_proxys_own_matter() -> None:
    ring = released()
    proven(ring, "v2")
    assert ring.refused("proxy-0", "v2", NO) is None
    assert ring.stop("v2", NO) is None
    assert stands(ring) == (Stage.RELEASED, "v2", "v2", None, None)


def test_a_probe_that_left_has_no_say() -> None:
    ring = probing()
    assert ring.left("proxy-0", MANY[1:], 1.0) is None
    assert ring.refused("proxy-0", "v2", NO) is None
    assert ring.stop("v2", NO) == Offer("v1", frozenset(MANY[1:3]))


# Proofs


def test_the_last_probe_that_is_waited_for_decides() -> None:
    ring = probing()
    for client in ("proxy-0", "proxy-9", "proxy-0"):
        assert ring.accepted(client, "v2") is None
    assert ring.left("proxy-1", MANY, 1.0) is None
    assert ring.left("proxy-9", MANY, 1.0) is None, "not a probe"
    assert ring.left("proxy-2", MANY, 1.0) == Offer("v2", None), "one accepted it, and the others went away"
    assert stands(ring) == (Stage.RELEASED, "v2", "v2", None, None)


def test_a_client_that_is_no_probe_proves_nothing() -> None:
    ring = probing()
    ring.accepted("proxy-9", "v2")
    assert ring.tick(MANY, 2.0) == Offer("v2", frozenset(MANY[3:6]))


@pytest.mark.parametrize("accepted", [True, False])
def test_the_first_version_is_proven_once_a_client_holds_it(accepted: bool) -> None:
    ring = released()
    if accepted:
        ring.accepted("proxy-5", "v1")
    proven(ring, "v2")
    expected = Offer("v1", None) if accepted else Offer("v1", frozenset(MANY[:3]))
    assert ring.publish("v1", MANY, 9.0) == expected


def test_what_a_client_holds_of_another_version_proves_nothing() -> None:
    ring = released()
    ring.accepted("proxy-5", "v0")
    assert ring.publish("v0", MANY, 9.0) == Offer("v0", frozenset(MANY[:3]))


def test_the_last_thirty_two_proven_versions_need_no_probes() -> None:
    ring = released()
    for number in range(33):
        proven(ring, f"n{number}")
    assert ring.publish("n1", MANY, 9.0) == Offer("n1", None)
    assert ring.publish("n0", MANY, 9.0) == Offer("n0", frozenset(MANY[:3])), "forgotten"


def test_accepting_a_proven_version_again_forgets_no_other() -> None:
    ring = released()
    for number in range(32):
        proven(ring, f"n{number}")
    for _ in range(40):
        ring.accepted("proxy-5", "n31")
        ring.publish("n30", MANY, 9.0)
        ring.publish("n31", MANY, 9.0)
    assert ring.publish("n0", MANY, 9.0) == Offer("n0", None)


def test_a_proven_version_that_is_refused_is_proven_no_more() -> None:
    ring = released()
    proven(ring, "v2")
    proven(ring, "v3")
    ring.recall("v3", "v2", None, 1.0)
    assert ring.tick(MANY, 3.0) == Offer("v2", frozenset(MANY[:3]))
    assert ring.refused("proxy-0", "v2", NO) == Offer("v3", frozenset(MANY[:3]))
    proven(ring, "v4")
    assert ring.publish("v2", MANY, 9.0) == Offer("v2", frozenset(MANY[:3]))


def test_a_version_on_which_two_rounds_went_away_has_a_third() -> None:
    ring = probing()
    for first in (0, 3):
        left = [ring.left(name, MANY[first + 3 :], 1.0) for name in MANY[first : first + 3]]
        assert left == [None, None, Offer("v2", frozenset(MANY[first + 3 : first + 6]))]
        assert ring.deadline == 3.0
    left = [ring.left(name, MANY[9:], 1.0) for name in MANY[6:9]]
    assert left == [None, None, Offer("v1", frozenset())]
    assert ring.stage is Stage.REFUSED
    assert ring.refusal == Nack(
        "nobody left to say why", "3 rounds of probes went away when they were told of it"
    )


def check(ring: ProbeRollout[str], told: dict[str, str], now: float) -> None:
    """Check which versions clients have been told of."""
    allowed = {
        Stage.RELEASED: {ring.target},
        Stage.REFUSED: {ring.good},
        Stage.PROBING: {ring.good, ring.target},
    }
    assert set(told.values()) <= allowed[ring.stage]
    if ring.stage is Stage.PROBING:
        assert now < (ring.deadline or 0) <= now + ring.patience
    else:
        assert ring.deadline is None
    assert (ring.refusal is not None) is (ring.stage is Stage.REFUSED)


@given(st.data())
def test_clients_that_come_and_go_hear_of_no_version_before_its_release(data: st.DataObject) -> None:
    ring, now = released(), 0.0
    told = dict.fromkeys(MANY[:6], "v1")

    def give(offer: Offer[str] | None) -> None:
        if offer is not None:
            clients = list(told) if offer.clients is None else [c for c in offer.clients if c in told]
            told.update(dict.fromkeys(clients, offer.version))

    for turn in range(data.draw(st.integers(1, 30))):
        client = data.draw(st.sampled_from(MANY))
        match data.draw(st.sampled_from(["publish", "accept", "refuse", "tick", "leave", "join"])):
            case "publish":
                give(ring.publish(f"n{turn}", list(told), now))
            case "accept" if client in told:
                give(ring.accepted(client, told[client]))
            case "refuse" if client in told:
                give(ring.refused(client, told[client], Nack(client, "no")))
            case "leave" if client in told:
                del told[client]
                give(ring.left(client, list(told), now))
            case "join" if client not in told:
                told[client] = ring.for_newcomers
            case _:
                now += 1.0
                give(ring.tick(list(told), now))
        check(ring, told, now)
