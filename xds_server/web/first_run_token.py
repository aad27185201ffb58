"""Create the admin token of the first run, which is shown once, so that there is no default password."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from xds_server.access.audit import AuditEvent
from xds_server.access.identity import FULL_ACCESS, new_token

if TYPE_CHECKING:
    from xds_server.store import AccessStore

__all__ = ["create_first_run_token"]

_LIFETIME_SECONDS: Final = 86_400.0


def create_first_run_token(access: AccessStore, now: float) -> str | None:
    """Create the first-run token and return its text; None if the store needs none.

    The store needs one if it contains no tokens except expired first-run tokens, which are then revoked. The
    token expires after a day, and is deleted when another admin token for all routes is added.
    """
    tokens = access.tokens()
    if any(not token.first or token.is_valid(now) for token in tokens):
        return None
    for token in tokens:
        access.revoke_token(
            token.id,
            AuditEvent(
                at=now,
                actor="shiftplane",
                action="revoke-token",
                detail=f"token {token.id}: the first-run token has expired",
            ),
        )
    token, text = new_token(
        secrets.token_bytes(38),
        name="first-run",
        grant=FULL_ACCESS,
        by="shiftplane",
        now=now,
        expires_in=_LIFETIME_SECONDS,
        first=True,
    )
    event = AuditEvent(at=now, actor="shiftplane", action="create-token", detail=token.description)
    access.add_token(token, event)
    return text
