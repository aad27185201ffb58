"""What single answers of endpoints make of their backend."""

from __future__ import annotations

import pytest

from xds_server.health import UNCHECKED, EndpointHealth, HealthState, after_check, summed
from xds_server.rollout import Health


@pytest.mark.parametrize("before", HealthState)
def test_an_endpoint_is_dead_after_as_many_failures_as_the_threshold(before: HealthState) -> None:
    pulse = EndpointHealth(vital=before, noes=0)
    for number in (1, 2):
        pulse = after_check(pulse, f"refused {number}", 3)
        assert pulse == EndpointHealth(vital=before, noes=number, words=f"refused {number}")
    for number in (3, 4):
        pulse = after_check(pulse, f"refused {number}", 3)
        assert pulse == EndpointHealth(vital=HealthState.DEAD, noes=3, words=f"refused {number}")
    assert after_check(pulse, None, 3) == EndpointHealth(vital=HealthState.ALIVE, noes=0, words="")


def test_a_threshold_of_one_needs_one_failure() -> None:
    assert after_check(UNCHECKED, "refused", 1) == EndpointHealth(
        vital=HealthState.DEAD, noes=1, words="refused"
    )


@pytest.mark.parametrize(
    ("vital", "noes", "wavering"),
    [
        (HealthState.UNKNOWN, 0, True),
        (HealthState.UNKNOWN, 2, True),
        (HealthState.ALIVE, 0, False),
        (HealthState.ALIVE, 1, True),
        (HealthState.DEAD, 3, False),
    ],
)
def test_an_endpoint_is_asked_soon_while_the_next_answer_may_decide(
    vital: HealthState, noes: int, wavering: bool
) -> None:
    assert EndpointHealth(vital=vital, noes=noes).wavering is wavering


ALIVE, DEAD, UNKNOWN = (
    EndpointHealth(vital=HealthState.ALIVE, words="old"),
    EndpointHealth(vital=HealthState.DEAD, words="no"),
    UNCHECKED,
)


@pytest.mark.parametrize(
    ("pulses", "found"),
    [
        ((ALIVE,), (1, 1, "")),
        ((ALIVE, UNKNOWN, DEAD), (1, 3, "no")),
        ((ALIVE, ALIVE, DEAD), (2, 3, "no")),
        ((DEAD, DEAD), (0, 2, "no")),
        ((DEAD, UNKNOWN), None),
        ((UNKNOWN,), None),
        ((), (0, 0, "")),
    ],
)
def test_a_backend_lives_with_one_endpoint_and_is_dead_without_any(
    pulses: tuple[EndpointHealth, ...], found: tuple[int, int, str] | None
) -> None:
    expected = (
        None if found is None else Health(backend="v2", healthy=found[0], total=found[1], detail=found[2])
    )
    assert summed("v2", pulses) == expected


def test_at_most_three_different_failures_are_reported_in_order() -> None:
    pulses = [EndpointHealth(vital=HealthState.DEAD, words=words) for words in ("d", "b", "a", "c", "a")]
    found = summed("v2", pulses)
    assert found == Health(backend="v2", healthy=0, total=5, detail="a; b; c")
