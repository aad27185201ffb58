"""The caller of a change (identity, reason and rights), and the audit events of its requests (pure)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xds_server.access.audit import AuditEvent, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from xds_server.rollout import State

__all__ = ["Caller", "OperatorRequest", "anything", "audited_state"]


def anything(_labels: Mapping[str, str]) -> bool:
    """Permit every route: the rights of a caller without limits."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The user or program that requests a change.

    `via` is the token, login or spec folder that authenticated the request, `source` the address from which
    the request came. `key` is the idempotency key of the request and `digest` a hash of its content. `may`
    returns whether the caller may change a route with these labels.
    """

    actor: str
    reason: str = ""
    via: str = ""
    source: str = ""
    key: str = ""
    digest: str = ""
    may: Callable[[Mapping[str, str]], bool] = anything

    def audit_event(  # noqa: PLR0913 - the fields of an audit event
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
        """Return the audit event of something this caller did or attempted at `at` (epoch seconds)."""
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
    """A request of a caller that is audited; `action` is its name in the audit log."""

    by: Caller
    action: str


def audited_state(state: State | None, spec: str | None = None) -> str:
    """Return a route's state as the audit log stores it (JSON); empty for a route that does not exist."""
    if state is None:
        return ""
    document = {
        "phase": state.phase.value,
        "generation": state.generation,
        "revision": state.revision,
        "weights": {variant: share / 100 for variant, share in state.weights.items()},
        "mirror_percent": state.mirror / 100,
        "killed_to": None if state.kill is None else state.kill.serve,
    }
    if spec is not None:
        document["spec"] = spec
    return json.dumps(document, sort_keys=True, separators=(",", ":"))
