"""Store tokens and sessions in the same file as the routes; secrets are stored as digests only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from xds_server.access.identity import Role, Session, Token, grants_from_json, grants_to_json

if TYPE_CHECKING:
    from xds_server.access.audit import AuditEvent
    from xds_server.store.file import StoreFile

__all__ = ["AccessStore"]

_TOKEN_COLUMNS: Final = "id, name, digest, grants, created_at, created_by, expires_at, last_used_at, first"  # noqa: S105 - not a secret
_SESSION_COLUMNS: Final = "digest, name, via, grants, csrf, created_at, seen_at, expires_at, token"


class AccessStore:
    """Tokens and sessions; methods with an `event` write it to the audit log in the same transaction."""

    def __init__(self, file: StoreFile) -> None:
        self._file = file

    def tokens(self) -> tuple[Token, ...]:
        """Return all tokens including expired ones, oldest first."""
        with self._file.reading() as db:
            rows = db.execute(f"SELECT {_TOKEN_COLUMNS} FROM tokens ORDER BY created_at, id").fetchall()  # noqa: S608
        return tuple(_token(row) for row in rows)

    def token(self, ident: str) -> Token | None:
        """Return the token with this id; None if there is none."""
        with self._file.reading() as db:
            row = db.execute(f"SELECT {_TOKEN_COLUMNS} FROM tokens WHERE id = ?", (ident,)).fetchone()  # noqa: S608
        return None if row is None else _token(row)

    def add_token(self, token: Token, event: AuditEvent) -> None:
        """Store a new token. A new admin token for all routes deletes the token of the first run."""
        with self._file.writing() as db:
            if not token.first and any(
                grant.role is Role.ADMIN and not grant.labels for grant in token.grants
            ):
                db.execute("DELETE FROM tokens WHERE first")
            grants = json.dumps(grants_to_json(token.grants))
            db.execute(
                f"INSERT INTO tokens ({_TOKEN_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constant names
                (
                    token.id,
                    token.name,
                    token.digest,
                    grants,
                    token.created_at,
                    token.created_by,
                    token.expires_at,
                    token.last_used_at,
                    int(token.first),
                ),
            )
            self._file.audit(event)

    def revoke_token(self, ident: str, event: AuditEvent) -> bool:
        """Delete a token and the sessions that were started with it; return whether it existed."""
        with self._file.writing() as db:
            found = db.execute("DELETE FROM tokens WHERE id = ?", (ident,)).rowcount > 0
            if found:
                self._file.audit(event)
        return found

    def record_token_use(self, ident: str, now: float) -> None:
        """Store when a token was last used."""
        with self._file.writing() as db:
            db.execute("UPDATE tokens SET last_used_at = ? WHERE id = ?", (now, ident))

    def session(self, digest: str) -> Session | None:
        """Return the session with this digest; None if there is none, as after its token was revoked."""
        with self._file.reading() as db:
            statement = f"SELECT {_SESSION_COLUMNS} FROM sessions WHERE digest = ?"  # noqa: S608 - constant names
            row = db.execute(statement, (digest,)).fetchone()
        return None if row is None else _session(row)

    def add_session(self, session: Session, event: AuditEvent) -> None:
        """Store a new session, and delete expired ones."""
        with self._file.writing() as db:
            db.execute("DELETE FROM sessions WHERE expires_at < ?", (session.created_at,))
            grants = json.dumps(grants_to_json(session.grants))
            db.execute(
                f"INSERT INTO sessions ({_SESSION_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constants
                (
                    session.digest,
                    session.name,
                    session.via,
                    grants,
                    session.csrf,
                    session.created_at,
                    session.seen_at,
                    session.expires_at,
                    session.token,
                ),
            )
            self._file.audit(event)

    def record_session_use(self, digest: str, now: float) -> None:
        """Store when a session was last used."""
        with self._file.writing() as db:
            db.execute("UPDATE sessions SET seen_at = ? WHERE digest = ?", (now, digest))

    def end_session(self, digest: str, event: AuditEvent) -> None:
        """Delete a session."""
        with self._file.writing() as db:
            db.execute("DELETE FROM sessions WHERE digest = ?", (digest,))
            self._file.audit(event)


def _token(row: tuple[Any, ...]) -> Token:
    ident, name, digest, grants, created_at, created_by, expires_at, last_used_at, first = row
    return Token(
        id=ident,
        name=name,
        digest=digest,
        grants=grants_from_json(json.loads(grants)),
        created_at=created_at,
        created_by=created_by,
        expires_at=expires_at,
        last_used_at=last_used_at,
        first=bool(first),
    )


def _session(row: tuple[Any, ...]) -> Session:
    digest, name, via, grants, csrf, created_at, seen_at, expires_at, token = row
    return Session(
        digest=digest,
        name=name,
        via=via,
        grants=grants_from_json(json.loads(grants)),
        csrf=csrf,
        created_at=created_at,
        seen_at=seen_at,
        expires_at=expires_at,
        token=token,
    )
