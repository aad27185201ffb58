"""The first run: one admin's token, shown once, so that nobody ever has a default password."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from xds_server.access.audit import AuditEvent
from xds_server.access.identity import EVERYTHING, new_token

if TYPE_CHECKING:
    from xds_server.store import AccessStore

__all__ = ["first_token"]

_LIFE: Final = 86_400.0


def first_token(access: AccessStore, now: float) -> str | None:
    """Make the token of the first run and return its text; None where somebody can come in already.

    It ends after a day, and as soon as an admin made another for an admin.
    """
    known = access.tokens()
    if any(not token.first or token.lives(now) for token in known):
        return None
    for token in known:
        access.revoke(
            token.id, AuditEvent(at=now, actor="shiftplane", action="revoke-token", detail=token.id)
        )
    token, text = new_token(
        secrets.token_bytes(38),
        name="first-run",
        grant=EVERYTHING,
        by="shiftplane",
        now=now,
        expires_in=_LIFE,
        first=True,
    )
    access.add_token(token, AuditEvent(at=now, actor="shiftplane", action="create-token", detail=token.words))
    return text
