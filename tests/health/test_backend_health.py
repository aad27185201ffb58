"""The health of endpoints and backends at the boundaries of the failure threshold."""

from __future__ import annotations

import pytest

from xds_server.health import UNCHECKED, EndpointHealth, HealthState, after_check, backend_health
from xds_server.rollout import Health


@pytest.mark.parametrize("before", HealthState)
def test_an_endpoint_is_unhealthy_after_as_many_failures_as_the_threshold(before: HealthState) -> None:
    health = EndpointHealth(state=before, consecutive_failures=0)
    for number in (1, 2):
        health = after_check(health, f"refused {number}", 3)
        assert health == EndpointHealth(state=before, consecutive_failures=number, reason=f"refused {number}")
    for number in (3, 4):
        health = after_check(health, f"refused {number}", 3)
        assert health == EndpointHealth(
            state=HealthState.UNHEALTHY, consecutive_failures=3, reason=f"refused {number}"
        )
    assert after_check(health, None, 3) == EndpointHealth(
        state=HealthState.HEALTHY, consecutive_failures=0, reason=""
    )


def test_a_threshold_of_one_requires_one_failure() -> None:
    assert after_check(UNCHECKED, "refused", 1) == EndpointHealth(
        state=HealthState.UNHEALTHY, consecutive_failures=1, reason="refused"
    )


@pytest.mark.parametrize(
    ("health_state", "failures", "check_soon"),
    [
        (HealthState.UNKNOWN, 0, True),
        (HealthState.UNKNOWN, 2, True),
        (HealthState.HEALTHY, 0, False),
        (HealthState.HEALTHY, 1, True),
        (HealthState.UNHEALTHY, 3, False),
    ],
)
def test_an_endpoint_is_checked_soon_while_the_next_check_may_change_its_state(
    health_state: HealthState, failures: int, check_soon: bool
) -> None:
    assert EndpointHealth(state=health_state, consecutive_failures=failures).check_soon is check_soon


HEALTHY, UNHEALTHY, UNKNOWN = (
    EndpointHealth(state=HealthState.HEALTHY, reason="old"),
    EndpointHealth(state=HealthState.UNHEALTHY, reason="no"),
    UNCHECKED,
)


@pytest.mark.parametrize(
    ("endpoints", "counts"),
    [
        ((HEALTHY,), (1, 1, "")),
        ((HEALTHY, UNKNOWN, UNHEALTHY), (1, 3, "no")),
        ((HEALTHY, HEALTHY, UNHEALTHY), (2, 3, "no")),
        ((UNHEALTHY, UNHEALTHY), (0, 2, "no")),
        ((UNHEALTHY, UNKNOWN), None),
        ((UNKNOWN,), None),
        ((), (0, 0, "")),
    ],
)
def test_a_backend_is_healthy_with_one_healthy_endpoint_and_unhealthy_without_any(
    endpoints: tuple[EndpointHealth, ...], counts: tuple[int, int, str] | None
) -> None:
    expected = (
        None if counts is None else Health(backend="v2", healthy=counts[0], total=counts[1], detail=counts[2])
    )
    assert backend_health("v2", endpoints) == expected


def test_at_most_three_different_failures_are_reported_in_order() -> None:
    endpoints = [
        EndpointHealth(state=HealthState.UNHEALTHY, reason=reason) for reason in ("d", "b", "a", "c", "a")
    ]
    health = backend_health("v2", endpoints)
    assert health == Health(backend="v2", healthy=0, total=5, detail="a; b; c")
