"""What single answers of endpoints make of their backend."""

from __future__ import annotations

import pytest

from xds_server.health import UNCHECKED, EndpointHealth, HealthState, after_check, backend_health
from xds_server.rollout import Health


@pytest.mark.parametrize("before", HealthState)
def test_an_endpoint_is_dead_after_as_many_failures_as_the_threshold(before: HealthState) -> None:
    endpoints = EndpointHealth(state=before, consecutive_failures=0)
    for number in (1, 2):
        endpoints = after_check(endpoints, f"refused {number}", 3)
        assert endpoints == EndpointHealth(
            state=before, consecutive_failures=number, reason=f"refused {number}"
        )
    for number in (3, 4):
        endpoints = after_check(endpoints, f"refused {number}", 3)
        assert endpoints == EndpointHealth(
            state=HealthState.UNHEALTHY, consecutive_failures=3, reason=f"refused {number}"
        )
    assert after_check(endpoints, None, 3) == EndpointHealth(
        state=HealthState.HEALTHY, consecutive_failures=0, reason=""
    )


def test_a_threshold_of_one_needs_one_failure() -> None:
    assert after_check(UNCHECKED, "refused", 1) == EndpointHealth(
        state=HealthState.UNHEALTHY, consecutive_failures=1, reason="refused"
    )


@pytest.mark.parametrize(
    ("state", "failures", "wavering"),
    [
        (HealthState.UNKNOWN, 0, True),
        (HealthState.UNKNOWN, 2, True),
        (HealthState.HEALTHY, 0, False),
        (HealthState.HEALTHY, 1, True),
        (HealthState.UNHEALTHY, 3, False),
    ],
)
def test_an_endpoint_is_asked_soon_while_the_next_answer_may_decide(
    state: HealthState, failures: int, wavering: bool
) -> None:
    assert EndpointHealth(state=state, consecutive_failures=failures).check_soon is wavering


ALIVE, DEAD, UNKNOWN = (
    EndpointHealth(state=HealthState.HEALTHY, reason="old"),
    EndpointHealth(state=HealthState.UNHEALTHY, reason="no"),
    UNCHECKED,
)


@pytest.mark.parametrize(
    ("endpoints", "found"),
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
    endpoints: tuple[EndpointHealth, ...], found: tuple[int, int, str] | None
) -> None:
    expected = (
        None if found is None else Health(backend="v2", healthy=found[0], total=found[1], detail=found[2])
    )
    assert backend_health("v2", endpoints) == expected


def test_at_most_three_different_failures_are_reported_in_order() -> None:
    endpoints = [
        EndpointHealth(state=HealthState.UNHEALTHY, reason=words) for words in ("d", "b", "a", "c", "a")
    ]
    found = backend_health("v2", endpoints)
    assert found == Health(backend="v2", healthy=0, total=5, detail="a; b; c")
