from hypothesis import given
from hypothesis import strategies as st

from xds_server.health import UNCHECKED, EndpointHealth, HealthState, after_check, summed

ANSWERS = st.lists(st.sampled_from([None, "refused"]), max_size=30)


@given(ANSWERS, st.integers(1, 5))
def test_death_takes_as_many_failures_in_a_row_and_life_one_answer(
    answers: list[str | None], threshold: int
) -> None:
    pulse, row = UNCHECKED, 0
    for failure in answers:
        pulse = after_check(pulse, failure, threshold)
        row = 0 if failure is None else row + 1
        if failure is None:
            assert pulse.vital is HealthState.ALIVE
        else:
            assert (pulse.vital is HealthState.DEAD) == (row >= threshold)


def pulses(*vitals: HealthState) -> tuple[EndpointHealth, ...]:
    return tuple(EndpointHealth(vital=vital, words=f"n{n} {vital.value}") for n, vital in enumerate(vitals))


def test_one_living_endpoint_decides_and_one_unknown_leaves_it_open() -> None:
    found = summed("v2", pulses(HealthState.DEAD, HealthState.ALIVE, HealthState.UNKNOWN))
    assert found is not None
    assert (found.healthy, found.total, found.detail) == (1, 3, "n0 dead")
    assert summed("v2", pulses(HealthState.DEAD, HealthState.UNKNOWN)) is None
    dead = summed("v2", pulses(HealthState.DEAD, HealthState.DEAD))
    assert dead is not None
    assert (dead.healthy, dead.total) == (0, 2)
