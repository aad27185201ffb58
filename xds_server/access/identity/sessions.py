"""Tokens and sessions as the store keeps them: by digest, with an expiry time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from xds_server.access.identity.roles import Grant, Principal, Role
from xds_server.access.identity.secrets import issue_secret

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "TOKEN_LIFETIME_SECONDS",
    "TOKEN_NAME_PATTERN",
    "Session",
    "Token",
    "grants_from_json",
    "grants_to_json",
    "new_token",
    "token_to_json",
]

TOKEN_NAME_PATTERN: Final = "^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$"  # noqa: S105 - not a secret
"""Regular expression for the name of a token."""

TOKEN_LIFETIME_SECONDS: Final = (60, 366 * 86_400)
"""The shortest and the longest lifetime of a token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A bearer token; times are seconds since the epoch.

    `first` marks the token of the first run. The store deletes that token when another admin token for all
    routes is added.
    """

    id: str
    name: str
    digest: str
    grants: tuple[Grant, ...]
    created_at: float
    created_by: str
    expires_at: float
    last_used_at: float | None = None
    first: bool = False

    def is_valid(self, now: float) -> bool:
        """Return whether the token has not expired."""
        return now < self.expires_at

    @property
    def principal(self) -> Principal:
        """The principal that this token authenticates."""
        return Principal(name=self.name, via=f"token {self.id}", grants=self.grants)

    @property
    def description(self) -> str:
        """The token's name, id and grants as text for users."""
        return f"{self.name} ({self.id}): {self.principal.description}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A login to the web pages. A session that was started with a token ends when the token does."""

    digest: str
    name: str
    via: str
    grants: tuple[Grant, ...]
    csrf: str
    created_at: float
    seen_at: float
    expires_at: float
    token: str | None = None

    def is_valid(self, now: float, idle: float) -> bool:
        """Return whether the session has not expired and was used within the last `idle` seconds."""
        return now < self.expires_at and now - self.seen_at < idle

    @property
    def principal(self) -> Principal:
        """The principal that logged in."""
        return Principal(name=self.name, via=self.via, grants=self.grants)


def new_token(  # noqa: PLR0913 - the fields of a token
    randomness: bytes,
    *,
    name: str,
    grant: Grant,
    by: str,
    now: float,
    expires_in: float,
    first: bool = False,
) -> tuple[Token, str]:
    """Return a token made of 38 random bytes, and its text, which is not stored."""
    secret = issue_secret(randomness)
    token = Token(
        id=secret.id,
        name=name,
        digest=secret.digest,
        grants=(grant,),
        created_at=now,
        created_by=by,
        expires_at=now + expires_in,
        first=first,
    )
    return token, secret.text


def token_to_json(token: Token) -> dict[str, Any]:
    """Return a token as JSON values, without its digest."""
    return {
        "id": token.id,
        "name": token.name,
        "role": token.grants[0].role.text,
        "routes": dict(token.grants[0].labels),
        "created_at": token.created_at,
        "created_by": token.created_by,
        "expires_at": token.expires_at,
        "last_used_at": token.last_used_at,
        "first": token.first,
    }


def grants_to_json(grants: Iterable[Grant]) -> list[dict[str, Any]]:
    """Return grants as JSON values that `grants_from_json` reads."""
    return [{"role": grant.role.text, "labels": dict(grant.labels)} for grant in grants]


def grants_from_json(value: list[dict[str, Any]]) -> tuple[Grant, ...]:
    """Return the grants that `grants_to_json` wrote."""
    return tuple(
        Grant(role=Role[item["role"].upper()], labels=tuple(sorted(item["labels"].items()))) for item in value
    )
