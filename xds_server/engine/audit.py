"""Writes audit events for what changes no route: refused attempts, logins, tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from xds_server.access.audit import Outcome
from xds_server.access.identity import FailureLimiter
from xds_server.engine.errors import TooManyRefusalsError
from xds_server.store import run_in_store_thread

if TYPE_CHECKING:
    from xds_server.access.audit import AuditEvent, Checkpoint
    from xds_server.clock import Clock
    from xds_server.engine.caller import Caller
    from xds_server.store import SqliteStore

__all__ = ["AuditRecorder", "log_checkpoint"]

_REFUSALS_AT_ONCE: Final = 100
"""Refused attempts of one caller that are written without delay; after that, one every few seconds."""

log = structlog.get_logger()


class AuditRecorder:
    """Appends audit events to the store."""

    def __init__(self, store: SqliteStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._refused = FailureLimiter(burst=_REFUSALS_AT_ONCE)

    async def record(self, event: AuditEvent) -> None:
        """Write an event."""
        await run_in_store_thread(self._store.add_audit_event, event)

    async def refuse(self, by: Caller, action: str, route: str, reason: str) -> None:
        """Write a refused attempt.

        Raises:
            TooManyRefusalsError: The caller was refused so often that more events would only fill the log.
        """
        # The limit goes by the authenticated name, not by the user name that the client reports.
        who, now = f"{by.via} {by.actor.partition(' (as ')[0]}", self._clock.monotonic()
        if wait := self._refused.retry_after(who, now):
            raise TooManyRefusalsError(reason, wait)
        self._refused.record_failure(who, now)
        refused = by.audit_event(action, route, self._clock.now(), outcome=Outcome.REFUSED, detail=reason)
        await self.record(refused)


def log_checkpoint(checkpoint: Checkpoint) -> None:
    """Log the head of the audit chain, so that the log can prove a later rewrite of the store."""
    log.info("audited", seq=checkpoint.seq, hash=checkpoint.hash)
