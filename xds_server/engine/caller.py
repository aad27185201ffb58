"""Who asks for a change and why, what they may touch, and what is written down of it (pure)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xds_server.access.audit import AuditEvent, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from xds_server.rollout import State

__all__ = ["Caller", "OperatorRequest", "anything", "standing"]


def anything(_labels: Mapping[str, str]) -> bool:
    """Stand in for a caller that nobody limits."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody who asks for a change.

    `via` says how they came in, `source` from which address. `key` is the idempotency key of the request and
    `digest` one of what it asks for. `may` says whether they may do this to a route with these labels.
    """

    actor: str
    reason: str = ""
    via: str = ""
    source: str = ""
    key: str = ""
    digest: str = ""
    may: Callable[[Mapping[str, str]], bool] = anything

    def deed(  # noqa: PLR0913 - the fields of a deed
        self,
        action: str,
        route: str,
        at: float,
        *,
        outcome: Outcome = Outcome.DONE,
        detail: str = "",
        before: str = "",
        after: str = "",
    ) -> AuditEvent:
        """Return what is written down of something they did."""
        return AuditEvent(
            at=at,
            actor=self.actor,
            action=action,
            route=route,
            reason=self.reason,
            outcome=outcome,
            detail=detail,
            via=self.via,
            source=self.source,
            before=before,
            after=after,
            key=self.key,
            digest=self.digest,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRequest:
    """Something a caller told a route to do."""

    by: Caller
    action: str


def standing(state: State | None, spec: str | None = None) -> str:
    """Return how a route stands, as the audit keeps it; empty for one that is not there."""
    if state is None:
        return ""
    found = {
        "phase": state.phase.value,
        "generation": state.generation,
        "revision": state.revision,
        "weights": {variant: share / 100 for variant, share in state.weights.items()},
        "mirror_percent": state.mirror / 100,
        "killed_to": None if state.kill is None else state.kill.serve,
    }
    if spec is not None:
        found["spec"] = spec
    return json.dumps(found, sort_keys=True, separators=(",", ":"))
