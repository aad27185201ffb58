"""The state of endpoints and backends after single health checks."""

from hypothesis import given
from hypothesis import strategies as st

from xds_server.health import UNCHECKED, EndpointHealth, HealthState, after_check, backend_health

CHECKS = st.lists(st.sampled_from([None, "refused"]), max_size=30)


@given(CHECKS, st.integers(1, 5))
def test_one_success_makes_healthy_and_threshold_failures_unhealthy(
    checks: list[str | None], threshold: int
) -> None:
    health, failures = UNCHECKED, 0
    for failure in checks:
        health = after_check(health, failure, threshold)
        failures = 0 if failure is None else failures + 1
        if failure is None:
            assert health.state is HealthState.HEALTHY
        else:
            assert (health.state is HealthState.UNHEALTHY) == (failures >= threshold)


def endpoints(*states: HealthState) -> tuple[EndpointHealth, ...]:
    return tuple(EndpointHealth(state=state, reason=f"n{n} {state.value}") for n, state in enumerate(states))


def test_one_healthy_endpoint_decides_and_one_unknown_leaves_the_backend_undecided() -> None:
    health = backend_health("v2", endpoints(HealthState.UNHEALTHY, HealthState.HEALTHY, HealthState.UNKNOWN))
    assert health is not None
    assert (health.healthy, health.total, health.detail) == (1, 3, "n0 unhealthy")
    assert backend_health("v2", endpoints(HealthState.UNHEALTHY, HealthState.UNKNOWN)) is None
    unhealthy = backend_health("v2", endpoints(HealthState.UNHEALTHY, HealthState.UNHEALTHY))
    assert unhealthy is not None
    assert (unhealthy.healthy, unhealthy.total) == (0, 2)
