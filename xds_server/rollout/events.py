"""What can happen to a rollout, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from xds_server.rollout.state import Finding, Program  # noqa: TC001 - the codec reads annotations at run time

__all__ = [
    "Action",
    "Alarm",
    "Command",
    "Converged",
    "Effect",
    "Event",
    "Evidence",
    "Health",
    "NotConverged",
    "Publish",
    "Record",
    "Refused",
    "RolloutError",
    "SpecAccepted",
    "Spent",
    "Tick",
    "Verdict",
]


class RolloutError(Exception):
    """Root of what the machine refuses.

    RolloutError
    └── Refused     the phase does not allow the command; the message says what is allowed
    """


class Refused(RolloutError):  # noqa: N818 - a refusal is an answer, not a defect
    """The phase does not allow the command; the message says what is allowed."""


class Action(Enum):
    """What an operator may say."""

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
    """A checked spec; `digest` is equal for specs that mean the same."""

    route: str
    program: Program
    digest: str
    actor: str
    reason: str = ""
    kind: Literal["spec"] = "spec"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time has passed. `synced`: a quorum of connected proxies holds the newest world right now."""

    synced: bool
    kind: Literal["tick"] = "tick"


@dataclass(frozen=True, slots=True, kw_only=True)
class Converged:
    """A quorum of connected proxies holds `revision`."""

    revision: int
    acked: int
    connected: int
    kind: Literal["converged"] = "converged"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotConverged:
    """The proxies do not hold `revision`; `detail` says who is missing or repeats who refused it."""

    revision: int
    refused: bool
    detail: str
    kind: Literal["notConverged"] = "notConverged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """An operator says something, and why."""

    command: Action
    actor: str
    reason: str
    kind: Literal["command"] = "command"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How many endpoints of a backend live; `detail` says what the dead ones answered."""

    backend: str
    healthy: int
    total: int
    detail: str = ""
    kind: Literal["health"] = "health"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """How many pairs of answers of the shadow's backends were ever compared.

    `likeness` is the verdict on those of this shadow, empty for none yet, and `detail` what decided it.
    """

    pairs: int
    likeness: str = ""
    detail: str = ""
    kind: Literal["evidence"] = "evidence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What copies cost the candidate lately, in tokens per second."""

    tokens_per_second: float
    kind: Literal["spent"] = "spent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an analysis found, and the numbers that decided."""

    finding: Finding
    detail: str
    kind: Literal["verdict"] = "verdict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """An alarm from outside fires; `rollback` says whether that is a reason to take the rollout back."""

    name: str
    detail: str
    rollback: bool
    kind: Literal["alarm"] = "alarm"


Event = SpecAccepted | Tick | Converged | NotConverged | Command | Health | Evidence | Spent | Verdict | Alarm


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """Tell the proxies the newest world."""

    kind: Literal["publish"] = "publish"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Something an operator wants to read later; `what` is a snake_case name."""

    what: str
    message: str
    kind: Literal["record"] = "record"


Effect = Publish | Record
