"""Pairing returns each leg exactly once, in any order of arrival."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mirror_collector.exchange import (
    Leg,
    Pair,
    Pairing,
    PairingLimits,
    PairingResult,
    Role,
    Unpaired,
    UnpairedReason,
)
from tests.collector.builders import leg

P, S, N = Role.PRIMARY, Role.SHADOW, Role.NOISE


def make_pairing(*, window: float = 10.0, max_legs: int = 100, max_bytes: int = 1 << 30) -> Pairing:
    return Pairing(PairingLimits(window=window, max_legs=max_legs, max_bytes=max_bytes))


def reasons(settled: tuple[PairingResult, ...]) -> list[str]:
    return ["pair" if isinstance(one, Pair) else one.reason.value for one in settled]


def test_legs_are_paired_in_either_order() -> None:
    for first, second in ((P, S), (S, P)):
        pairing = make_pairing()
        assert pairing.add(leg(first), 0.0) == ()
        (pair,) = pairing.add(leg(second), 9.0)
        assert isinstance(pair, Pair)
        assert (pair.primary.role, pair.shadow.role) == (P, S)
        assert (len(pairing), pairing.waiting_bytes, pairing.deadline) == (0, 0, None)


def test_request_ids_are_distinct_per_route() -> None:
    pairing = make_pairing()
    pairing.add(leg(P, route="chat"), 0.0)
    assert pairing.add(leg(S, route="code"), 0.0) == ()
    assert len(pairing) == 2


def test_the_window_starts_with_the_first_leg() -> None:
    pairing = make_pairing(window=10.0)
    pairing.add(leg(P, "a"), 0.0)
    pairing.add(leg(S, "b"), 4.0)
    assert pairing.deadline == 10.0
    assert pairing.expire(9.9) == ()
    assert reasons(pairing.expire(10.0)) == ["no_shadow"]
    assert reasons(pairing.expire(99.0)) == ["no_primary"]


def test_a_repeated_role_is_a_duplicate() -> None:
    pairing = make_pairing()
    pairing.add(leg(P), 0.0)
    assert reasons(pairing.add(leg(P), 1.0)) == ["duplicate"]
    assert reasons(pairing.add(leg(S), 2.0)) == ["pair"]
    assert reasons(pairing.add(leg(S), 3.0)) == ["duplicate"]


def test_a_leg_after_the_window_is_late_and_its_repetition_a_duplicate() -> None:
    pairing = make_pairing(window=10.0)
    pairing.add(leg(P), 0.0)
    assert reasons(pairing.add(leg(S), 12.0)) == ["no_shadow", "late"]
    assert reasons(pairing.add(leg(S), 13.0)) == ["duplicate"]


def test_a_settled_request_expires_after_one_window() -> None:
    pairing = make_pairing(window=10.0)
    pairing.add(leg(P), 0.0)
    pairing.add(leg(S), 1.0)
    assert pairing.add(leg(P), 11.0) == ()


def test_the_oldest_request_is_evicted_at_the_leg_limit() -> None:
    pairing = make_pairing(max_legs=2)
    for name in "ab":
        pairing.add(leg(P, name), 0.0)
    (evicted,) = pairing.add(leg(P, "c"), 0.0)
    assert isinstance(evicted, Unpaired)
    assert (evicted.leg.request_id, evicted.reason) == ("a", UnpairedReason.EVICTED)
    assert reasons(pairing.add(leg(S, "a"), 0.0)) == ["late"]


def test_the_oldest_request_is_evicted_at_the_byte_limit() -> None:
    big = leg(P, "a", b"x" * 5000)
    pairing = make_pairing(max_bytes=big.size + 10)
    pairing.add(big, 0.0)
    assert reasons(pairing.add(leg(P, "b", b"y" * 5000), 0.0)) == ["evicted"]
    assert pairing.waiting_bytes <= big.size + 10


def test_a_clock_set_back_does_not_change_deadlines() -> None:
    pairing = make_pairing(window=10.0)
    pairing.add(leg(P, "a"), 100.0)
    pairing.add(leg(P, "b"), 0.0)
    assert pairing.expire(109.0) == ()
    assert reasons(pairing.expire(110.0)) == ["no_shadow", "no_shadow"]


arrivals = st.lists(
    st.tuples(st.sampled_from(list(Role)), st.integers(0, 6), st.floats(0, 8), st.sampled_from([0, 3000])),
    max_size=60,
)


@given(arrivals, st.integers(1, 6), st.integers(2000, 20_000))
def test_every_leg_is_returned_exactly_once(
    arrivals_: list[tuple[Role, int, float, int]], max_legs: int, max_bytes: int
) -> None:
    pairing = make_pairing(window=10.0, max_legs=max_legs, max_bytes=max_bytes)
    now = 0.0
    added: list[Leg] = []
    settled: list[PairingResult] = []
    for role, number, pause, size in arrivals_:
        now += pause
        one = leg(role, f"r{number}", b"x" * (size + len(added) + 1))
        one = replace(one, expects_noise=number % 2 == 0)
        added.append(one)
        settled += pairing.add(one, now)
        assert len(pairing) <= max_legs
        assert pairing.waiting_bytes <= max_bytes
    settled += pairing.expire(now + 5.0)
    settled += pairing.drain(UnpairedReason.SHUTDOWN)

    returned = Counter(
        id(part) for one in settled for part in (one.legs if isinstance(one, Pair) else (one.leg,))
    )
    assert returned == Counter(id(one) for one in added)
    pairs = [one for one in settled if isinstance(one, Pair)]
    paired = sum(len(pair.legs) for pair in pairs)
    assert len(added) == paired + sum(isinstance(one, Unpaired) for one in settled)
    assert all(pair.primary.request_id == pair.shadow.request_id for pair in pairs)
    assert (len(pairing), pairing.waiting_bytes) == (0, 0)


@given(st.permutations([(role, f"r{n}") for role in Role for n in range(5)]))
def test_all_legs_within_the_window_are_paired_in_any_order(order: list[tuple[Role, str]]) -> None:
    pairing = make_pairing()
    settled = [
        one for role, name in order for one in pairing.add(replace(leg(role, name), expects_noise=True), 1.0)
    ]
    assert [type(one) for one in settled] == [Pair] * 5
    assert all(isinstance(one, Pair) and one.noise is not None for one in settled)


def test_an_announced_noise_leg_is_awaited_for_one_window() -> None:
    pairing = make_pairing(window=10.0)
    pairing.add(replace(leg(P), expects_noise=True), 0.0)
    assert pairing.add(leg(S), 1.0) == ()
    (pair,) = pairing.expire(10.0)
    assert isinstance(pair, Pair)
    assert pair.noise is None
    assert reasons(pairing.add(leg(N), 11.0)) == ["late"]


def test_an_unannounced_noise_leg_is_a_duplicate() -> None:
    pairing = make_pairing()
    pairing.add(leg(P), 0.0)
    pairing.add(leg(S), 0.0)
    assert reasons(pairing.add(leg(N), 1.0)) == ["duplicate"]


def test_copies_without_their_primary() -> None:
    pairing = make_pairing(window=10.0)
    pairing.add(leg(S), 0.0)
    pairing.add(leg(N), 0.0)
    assert reasons(pairing.expire(10.0)) == ["no_primary", "no_primary"]
