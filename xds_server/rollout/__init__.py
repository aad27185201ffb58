"""The rollout machine: a state, an event and the time in; the next state and its effects out (pure)."""

from xds_server.rollout.codec import (
    UnreadableError,
    event_from_json,
    event_to_json,
    state_from_json,
    state_to_json,
)
from xds_server.rollout.events import (
    Command,
    CommandKind,
    Converged,
    Effect,
    Event,
    NotConverged,
    Publish,
    Record,
    Refused,
    RolloutError,
    SpecAccepted,
    Tick,
)
from xds_server.rollout.program import program
from xds_server.rollout.state import (
    FULL,
    LIVE,
    Bake,
    Outcome,
    Pause,
    Phase,
    Program,
    SetWeight,
    Shadow,
    State,
    Step,
)
from xds_server.rollout.step import next_deadline, step
from xds_server.rollout.transitions import TABLE

__all__ = [
    "FULL",
    "LIVE",
    "TABLE",
    "Bake",
    "Command",
    "CommandKind",
    "Converged",
    "Effect",
    "Event",
    "NotConverged",
    "Outcome",
    "Pause",
    "Phase",
    "Program",
    "Publish",
    "Record",
    "Refused",
    "RolloutError",
    "SetWeight",
    "Shadow",
    "SpecAccepted",
    "State",
    "Step",
    "Tick",
    "UnreadableError",
    "event_from_json",
    "event_to_json",
    "next_deadline",
    "program",
    "state_from_json",
    "state_to_json",
    "step",
]
