"""Health of backends: active HTTP checks (I/O) and the state of each endpoint (pure)."""

from xds_server.health.checks import BackendCheck, HealthChecks, Target
from xds_server.health.state import UNCHECKED, EndpointHealth, HealthState, after_check, backend_health

__all__ = [
    "UNCHECKED",
    "BackendCheck",
    "EndpointHealth",
    "HealthChecks",
    "HealthState",
    "Target",
    "after_check",
    "backend_health",
]
