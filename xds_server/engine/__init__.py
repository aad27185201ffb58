"""The shell around rollouts: specs, commands and facts in; stored events and published worlds out."""

from xds_server.engine.engine import Engine, no_summary
from xds_server.engine.errors import CommandRefusedError, EngineError, SpecRefusedError, UnknownRouteError
from xds_server.engine.live import Action, Applied, AppliedRoute

__all__ = [
    "Action",
    "Applied",
    "AppliedRoute",
    "CommandRefusedError",
    "Engine",
    "EngineError",
    "SpecRefusedError",
    "UnknownRouteError",
    "no_summary",
]
