"""The events of a rollout and the effects that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from xds_server.rollout.state import (  # noqa: TC001 - the codec reads annotations at run time
    Finding,
    Program,
    StoredEquivalence,
    StoredLapsed,
    StoredNames,
)

__all__ = [
    "Action",
    "Alarm",
    "Command",
    "CommandNotAllowedError",
    "Converged",
    "Effect",
    "Event",
    "Evidence",
    "Health",
    "NotConverged",
    "Publish",
    "Record",
    "RolloutError",
    "ShadowTokenRate",
    "SpecAccepted",
    "Tick",
    "Verdict",
]


class RolloutError(Exception):
    """Base class of the errors of this package.

    `CommandNotAllowedError`: the phase does not allow the command. `codec.UnreadableError`: a stored state or
    event cannot be read.
    """


class CommandNotAllowedError(RolloutError):
    """The phase does not allow the command; the message names what is allowed."""


class Action(Enum):
    """The commands of an operator."""

    PROMOTE = "promote"
    PROMOTE_FULL = "promote-full"
    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    UNDO = "undo"
    RETRY = "retry"
    KILL = "kill"
    UNKILL = "unkill"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecAccepted:
    """A spec passed validation; equal specs have equal digests."""

    route: str
    program: Program
    digest: str
    actor: str
    reason: str = ""
    kind: Literal["spec"] = "spec"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time has passed; `synced` is whether a quorum of connected proxies has the newest revision now."""

    synced: bool
    kind: Literal["tick"] = "tick"


@dataclass(frozen=True, slots=True, kw_only=True)
class Converged:
    """A quorum of connected proxies is synced with `revision`."""

    revision: int
    acked: int
    connected: int
    kind: Literal["converged"] = "converged"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotConverged:
    """Less than a quorum of connected proxies is synced with `revision`.

    `refused` is whether a proxy rejected it. `detail` names the proxies that are not synced, or repeats the
    NACK.
    """

    revision: int
    refused: bool
    detail: str
    kind: Literal["notConverged"] = "notConverged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """An operator's command and the reason given for it."""

    command: Action
    actor: str
    reason: str
    kind: Literal["command"] = "command"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The healthy endpoints of a backend; `detail` has the failures of the unhealthy ones."""

    backend: str
    healthy: int
    total: int
    detail: str = ""
    kind: Literal["health"] = "health"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The number of pairs of answers ever read and compared between the two backends of the shadow.

    `equivalence` is the verdict on the pairs of this shadow, "" before there is one; `detail` explains it.
    `blind` is whether too many answers of an API could not be read.
    """

    pairs: int
    equivalence: StoredEquivalence = ""
    detail: str = ""
    blind: bool = False
    kind: Literal["evidence"] = "evidence"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowTokenRate:
    """The recent cost of mirrored requests, including noise-baseline copies, in tokens per second."""

    tokens_per_second: float
    kind: Literal["spent"] = "spent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result of an analysis, and in `detail` the numbers that decided it; `lapsed` as in `State`.

    `failed` are the backends that a Fail is about; empty in events of earlier versions.
    """

    finding: Finding
    detail: str
    failed: StoredNames = ()
    lapsed: StoredLapsed = False
    kind: Literal["verdict"] = "verdict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """An external alarm started to fire; `rollback` is whether it requests a rollback."""

    name: str
    detail: str
    rollback: bool
    kind: Literal["alarm"] = "alarm"


Event = (
    SpecAccepted
    | Tick
    | Converged
    | NotConverged
    | Command
    | Health
    | Evidence
    | ShadowTokenRate
    | Verdict
    | Alarm
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """Send the newest configuration of the route to the proxies."""

    kind: Literal["publish"] = "publish"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """An entry for the history of the route; `what` is its snake_case kind."""

    what: str
    message: str
    kind: Literal["record"] = "record"


Effect = Publish | Record
