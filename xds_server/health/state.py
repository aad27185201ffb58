"""Health of endpoints and backends, derived from single health checks (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from xds_server.rollout.events import Health

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["UNCHECKED", "EndpointHealth", "HealthState", "after_check", "backend_health"]

_MAX_REASONS: Final = 3


class HealthState(Enum):
    """The health of an endpoint."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointHealth:
    """The health of one endpoint; `reason` is the failure of the last check, "" after a success."""

    state: HealthState = HealthState.UNKNOWN
    consecutive_failures: int = 0
    reason: str = ""

    @property
    def check_soon(self) -> bool:
        """Whether the next check may change the state, so that it should not wait for the interval."""
        return self.state is HealthState.UNKNOWN or (
            self.state is HealthState.HEALTHY and self.consecutive_failures > 0
        )


UNCHECKED: Final = EndpointHealth()


def after_check(health: EndpointHealth, failure: str | None, threshold: int) -> EndpointHealth:
    """Return the health after one more check; `failure` is why the check failed, None for a success.

    One success makes an endpoint healthy; `threshold` failures in a row make it unhealthy.
    """
    if failure is None:
        return EndpointHealth(state=HealthState.HEALTHY)
    failures = min(health.consecutive_failures + 1, threshold)
    return EndpointHealth(
        state=HealthState.UNHEALTHY if failures >= threshold else health.state,
        consecutive_failures=failures,
        reason=failure,
    )


def backend_health(backend: str, endpoints: Collection[EndpointHealth]) -> Health | None:
    """Return the health of a backend; None while it is undecided.

    One healthy endpoint decides; without one, the health is undecided until every endpoint is unhealthy.
    """
    healthy = sum(endpoint.state is HealthState.HEALTHY for endpoint in endpoints)
    if not healthy and any(endpoint.state is HealthState.UNKNOWN for endpoint in endpoints):
        return None
    reasons = sorted({endpoint.reason for endpoint in endpoints if endpoint.state is HealthState.UNHEALTHY})
    return Health(
        backend=backend, healthy=healthy, total=len(endpoints), detail="; ".join(reasons[:_MAX_REASONS])
    )
