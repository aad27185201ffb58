"""States and events as JSON text and back, without loss; keys of earlier releases stay readable."""

from __future__ import annotations

import json
from typing import Annotated, Final

from pydantic import Discriminator, TypeAdapter, ValidationError

from xds_server.rollout.events import (
    Alarm,
    Command,
    Converged,
    Event,
    Evidence,
    Health,
    NotConverged,
    RolloutError,
    ShadowTokenRate,
    SpecAccepted,
    Tick,
    Verdict,
)
from xds_server.rollout.slots import reallocate
from xds_server.rollout.state import STRATEGY_SPLIT, State

__all__ = ["UnreadableError", "event_from_json", "event_to_json", "state_from_json", "state_to_json"]

_STATE: Final = TypeAdapter(State)
_EVENT: Final[TypeAdapter[Event]] = TypeAdapter(
    Annotated[
        SpecAccepted
        | Tick
        | Converged
        | NotConverged
        | Command
        | Health
        | Evidence
        | ShadowTokenRate
        | Verdict
        | Alarm,
        Discriminator("kind"),
    ]
)


class UnreadableError(RolloutError):
    """A stored state or event cannot be read by this version."""


def state_to_json(state: State) -> str:
    """Return a state as JSON text."""
    return _STATE.dump_json(state, by_alias=True).decode()


def state_from_json(text: str) -> State:
    """Return the state of a JSON text.

    Raises:
        UnreadableError: The text is not a rollout state.
    """
    try:
        return _STATE.validate_json(_upgraded(text))
    except ValidationError as error:
        raise UnreadableError(
            f"the JSON text is not a rollout state; validation errors: {error.error_count()}"
        ) from error


def _upgraded(text: str) -> str:
    """Return the state in the current format; the first format had the candidate's weight and no splits."""
    if '"splits"' in text or '"weight"' not in text:
        return text
    try:
        old = json.loads(text)
        stable, candidate = old["program"]["stable"], old["program"]["candidate"]
        segments = reallocate((), stable, {candidate: old["weight"]} if candidate else {})
    except (ValueError, KeyError, TypeError):
        return text  # The validation that follows rejects it.
    layout = [{"variant": segment.variant, "slots": segment.slots} for segment in segments]
    return json.dumps(old | {"splits": [{"name": STRATEGY_SPLIT, "segments": layout}]})


def event_to_json(event: Event) -> str:
    """Return an event as JSON text."""
    return _EVENT.dump_json(event, by_alias=True).decode()


def event_from_json(text: str) -> Event:
    """Return the event of a JSON text.

    Raises:
        UnreadableError: The text is not a rollout event.
    """
    try:
        return _EVENT.validate_json(text)
    except ValidationError as error:
        raise UnreadableError(
            f"the JSON text is not a rollout event; validation errors: {error.error_count()}"
        ) from error
