"""The shell around rollouts: specs, commands and facts in; stored events and published worlds out."""

from xds_server.engine.caller import Caller
from xds_server.engine.desk import no_summary
from xds_server.engine.engine import Engine
from xds_server.engine.errors import (
    CommandRefusedError,
    EngineError,
    ForbiddenError,
    SpecRefusedError,
    StaleError,
    TooManyRefusalsError,
    UnknownRouteError,
)
from xds_server.engine.live import Action, AppliedRoute, ApplyResult, SpecPrecondition

__all__ = [
    "Action",
    "AppliedRoute",
    "ApplyResult",
    "Caller",
    "CommandRefusedError",
    "Engine",
    "EngineError",
    "ForbiddenError",
    "SpecPrecondition",
    "SpecRefusedError",
    "StaleError",
    "TooManyRefusalsError",
    "UnknownRouteError",
    "no_summary",
]
