"""The I/O shell around rollouts: specs, commands and observations in; stored events and snapshots out."""

from xds_server.engine.acceptance import AppliedRoute, ApplyResult, SpecPrecondition
from xds_server.engine.audit import log_checkpoint
from xds_server.engine.caller import Caller
from xds_server.engine.engine import Engine, build_engine
from xds_server.engine.errors import (
    CommandRefusedError,
    EngineError,
    ForbiddenError,
    SpecRefusedError,
    StaleError,
    TooManyRefusalsError,
    UnknownRouteError,
)
from xds_server.engine.inbox import ReconcileInbox
from xds_server.rollout import Action

__all__ = [
    "Action",
    "AppliedRoute",
    "ApplyResult",
    "Caller",
    "CommandRefusedError",
    "Engine",
    "EngineError",
    "ForbiddenError",
    "ReconcileInbox",
    "SpecPrecondition",
    "SpecRefusedError",
    "StaleError",
    "TooManyRefusalsError",
    "UnknownRouteError",
    "build_engine",
    "log_checkpoint",
]
