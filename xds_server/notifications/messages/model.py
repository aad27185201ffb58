"""Events, notification targets, and which target receives which event."""

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
    "TEST_KIND",
    "TITLES",
    "Event",
    "Format",
    "Message",
    "Notifications",
    "Secret",
    "Target",
    "redact",
]

KINDS: Final[Mapping[str, str]] = {
    "accepted": "a spec started a rollout",
    "updated": "a spec changed the running configuration without starting a rollout",
    "superseded": "a new spec replaced a rollout that was in progress",
    "deleted": "the route was deleted",
    "step_began": "a rollout entered a step",
    "step_held": "the proxies converged on a weight step: the next step can begin",
    "not_held": "some proxies are not synced, or a proxy NACKed the configuration",
    "not_alive": "a step waits until a backend that would gain users is healthy",
    "degraded": "the progress deadline passed before the proxies converged",
    "healthy": "a rollout ended without a rollback, or the spec describes no rollout",
    "promoted": "an operator advanced a rollout to its next step or its last weight",
    "paused": "an operator paused a rollout",
    "resumed": "an operator resumed a rollout or ended a pause",
    "aborted": "an operator aborted a rollout",
    "undone": "an operator undid a rollout",
    "retried": "an operator restarted a rollout, or its wait for proxies",
    "rolled_back": "the proxies converged on a rollback",
    "killed": "a kill began: one backend serves all users",
    "kill_held": "the proxies converged on a kill",
    "unkilled": "a kill was ended",
    "verdict": "the verdict of the analysis changed",
    "failed": "the verdict of the analysis is Fail: the rollout is rolled back",
    "withdrawn": "a backend failed: the stable backend serves the users that targets, rules, experiments "
    "and the preview assign to it",
    "alarm": "an alarm fired",
    "undecided": "the time of a step is over without the verdict Pass: the spec requires a rollback",
    "extended": "the time of a step is over without the verdict Pass: the step is extended",
    "held": "the time of a step is over without the verdict Pass: the step waits for an operator",
    "went_on": "the time of a step is over without the verdict Pass: the spec lets the rollout continue",
    "evidence": "a shadow step has the required number of pairs",
    "likeness": "the equivalence verdict of a shadow step changed",
    "budget": "the share of mirrored requests changed to stay within the token budget",
    "dead": "a backend has no healthy endpoint",
    "alive": "a backend has a healthy endpoint again",
    "candidate_died": "the candidate has no healthy endpoint and is rolled back",
}
"""Every kind of event, with its meaning."""

TITLES: Final[Mapping[str, str]] = {
    "accepted": "rollout started",
    "updated": "spec updated",
    "superseded": "rollout replaced by a new spec",
    "deleted": "route deleted",
    "step_began": "step started",
    "step_held": "weight reached the proxies",
    "not_held": "proxies not synced",
    "not_alive": "waiting for a healthy backend",
    "degraded": "progress deadline exceeded",
    "healthy": "rollout completed",
    "promoted": "advanced by an operator",
    "paused": "rollout paused",
    "resumed": "rollout resumed",
    "aborted": "rollout aborted",
    "undone": "rollout undone",
    "retried": "rollout retried",
    "rolled_back": "rolled back",
    "killed": "kill switch turned on",
    "kill_held": "kill switch active on the proxies",
    "unkilled": "kill switch turned off",
    "verdict": "verdict changed",
    "failed": "verdict Fail",
    "withdrawn": "backend withdrawn",
    "alarm": "alarm fired",
    "undecided": "no verdict Pass in time, rolling back",
    "extended": "step extended, no verdict Pass yet",
    "held": "no verdict Pass, waiting for an operator",
    "went_on": "continued without the verdict Pass",
    "evidence": "enough pairs compared",
    "likeness": "equivalence verdict changed",
    "budget": "mirrored share changed",
    "dead": "backend unhealthy",
    "alive": "backend healthy again",
    "candidate_died": "candidate unhealthy, rolling back",
}
"""A short title for every kind of event, for headers and tables."""

TEST_KIND: Final = "test"
"""The kind of the message that `shiftplane notify test` sends; no route event has it."""


class Format(Enum):
    """The message format of a target."""

    SLACK = "slack"
    WEBHOOK = "webhook"
    CLOUDEVENTS = "cloudevents"


@dataclass(frozen=True, slots=True)
class Secret:
    """Text that prints as `[redacted]`; only `value` returns it."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return "[redacted]"

    __repr__ = __str__


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A record of a route's history; weights are in percent, `labels` are the route's at that time.

    An event of the store can have several records; `place` is the index of this one.
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
        """An id that is unique in this store and the same for every delivery of the event."""
        return f"{int(self.at * 1000):x}-{self.seq}-{self.place}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A receiver of notifications; events older than `max_age` seconds are not delivered to it."""

    name: str
    format: Format
    url: Secret
    secret: Secret | None = None
    events: tuple[str, ...] = ("*",)
    routes: tuple[str, ...] = ("*",)
    labels: Mapping[str, str] = field(default_factory=dict)
    template: Template | None = None
    max_age: float = 3600.0

    def matches(self, event: Event) -> bool:
        """Return whether the target is configured to receive an event."""
        return (
            any(fnmatchcase(event.kind, glob) for glob in self.events)
            and any(fnmatchcase(event.route, glob) for glob in self.routes)
            and self.labels.items() <= event.labels.items()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Notifications:
    """All targets; `public_url` is the URL of the control plane's pages for links, None for no links."""

    targets: tuple[Target, ...]
    public_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An HTTP body and its headers; `template_error` is why the target's template could not be used."""

    body: bytes
    headers: Mapping[str, str]
    template_error: str = ""


def redact(target: Target, text: str) -> str:
    """Return text from a target's response without the secrets of that target."""
    parts = urlsplit(target.url.value)
    path = parts.path.strip("/")
    secrets = [target.url.value, path, path.rpartition("/")[2], parts.query]
    secrets += [] if target.secret is None else [target.secret.value]
    for secret in secrets:
        if len(secret) >= 6:
            text = text.replace(secret, "[redacted]")
    return text
