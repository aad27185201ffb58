"""Events as others are told of them, and who wants to hear of which."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xds_server.notifications.messages.template import Template

__all__ = [
    "KINDS",
    "TEST",
    "Event",
    "Format",
    "Message",
    "Notifications",
    "Secret",
    "Target",
    "redacted",
]

KINDS: Final[Mapping[str, str]] = {
    "accepted": "a spec began a rollout",
    "updated": "a spec changed what runs, and began no rollout",
    "superseded": "a new spec ended a rollout that was not over",
    "deleted": "the route was deleted",
    "step_began": "a step was entered",
    "step_held": "the proxies hold a step: its clock runs",
    "not_held": "a step waits for proxies that do not hold it",
    "not_alive": "a step waits for a candidate that was not seen alive",
    "degraded": "the progress deadline passed while proxies do not hold a step",
    "healthy": "a rollout is over, and everything holds",
    "promoted": "somebody went on to the next step, or to the last",
    "paused": "somebody stopped the clock",
    "resumed": "somebody let the clock go on, or ended a pause",
    "aborted": "somebody took a rollout back",
    "undone": "somebody took back what a rollout did",
    "retried": "somebody began a rollout anew",
    "rolled_back": "the proxies hold what it was taken back to",
    "killed": "one backend serves everyone",
    "kill_held": "the proxies hold a kill",
    "unkilled": "a kill was taken back",
    "verdict": "the evidence says something else than before",
    "failed": "the evidence takes a rollout back",
    "alarm": "an alarm fired",
    "undecided": "the evidence decided nothing, and the spec takes that back",
    "extended": "the evidence decided nothing yet: the step is longer",
    "held": "the evidence decided nothing: the step waits for an operator",
    "went_on": "the evidence decided nothing, and the spec goes on",
    "evidence": "a shadow has the pairs it needs",
    "likeness": "the verdict on a shadow's answers changed",
    "budget": "the share of copies changed with what they cost",
    "dead": "a backend has no living endpoint",
    "alive": "a backend that was dead lives",
    "candidate_died": "a candidate died, and is taken back",
}
"""Every kind of event, and what it says."""

TEST: Final = "test"
"""The kind of what `shiftplane notify test` sends; no rollout has it."""


class Format(Enum):
    """How a target wants to be told."""

    SLACK = "slack"
    WEBHOOK = "webhook"
    CLOUDEVENTS = "cloudevents"


@dataclass(frozen=True, slots=True)
class Secret:
    """Text that is only told to who asks for it by name."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return "[redacted]"

    __repr__ = __str__


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of a route's history; weights in percent, `labels` are those of the route at that time.

    An event of the store can have several lines: `place` counts them.
    """

    seq: int
    place: int
    at: float
    route: str
    kind: str
    actor: str
    message: str
    labels: Mapping[str, str] = field(default_factory=dict)
    phase: str | None = None
    generation: int | None = None
    revision: int | None = None
    weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The same each time it is told, and another for every other event; a new store begins anew."""
        return f"{int(self.at * 1000):x}-{self.seq}-{self.place}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Who is told, how, and of what; older events than `max_age` seconds are no news any more."""

    name: str
    format: Format
    url: Secret
    secret: Secret | None = None
    events: tuple[str, ...] = ("*",)
    routes: tuple[str, ...] = ("*",)
    labels: Mapping[str, str] = field(default_factory=dict)
    template: Template | None = None
    max_age: float = 3600.0

    def wants(self, event: Event) -> bool:
        """Return whether it is to be told of an event."""
        return (
            any(fnmatchcase(event.kind, glob) for glob in self.events)
            and any(fnmatchcase(event.route, glob) for glob in self.routes)
            and self.labels.items() <= event.labels.items()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Notifications:
    """All targets; `public_url` is where people reach the control plane's pages, None for nowhere."""

    targets: tuple[Target, ...]
    public_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is posted. `fault` says why a template was not used."""

    body: bytes
    headers: Mapping[str, str]
    fault: str = ""


def redacted(target: Target, words: str) -> str:
    """Return words that came back from a target without what only it may know."""
    parts = urlsplit(target.url.value)
    path = parts.path.strip("/")
    hidden = [target.url.value, path, path.rpartition("/")[2], parts.query]
    hidden += [] if target.secret is None else [target.secret.value]
    for secret in hidden:
        if len(secret) >= 6:
            words = words.replace(secret, "[redacted]")
    return words
