"""Whether backends answer: the state of each endpoint (pure) and the checks that probe it (I/O)."""

from xds_server.health.checks import HealthChecks, Target, Watched
from xds_server.health.state import UNCHECKED, EndpointHealth, HealthState, after_check, summed

__all__ = [
    "UNCHECKED",
    "EndpointHealth",
    "HealthChecks",
    "HealthState",
    "Target",
    "Watched",
    "after_check",
    "summed",
]
