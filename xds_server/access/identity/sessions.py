"""Tokens and sessions as they are kept: by digest, with an end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from xds_server.access.identity.roles import Grant, Principal, Role
from xds_server.access.identity.secrets import mint

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "LIVES",
    "NAMES",
    "Session",
    "Token",
    "grants_from_json",
    "grants_to_json",
    "new_token",
    "token_to_json",
]

NAMES: Final = "^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$"
"""What tokens may be called."""

LIVES: Final = (60, 366 * 86_400)
"""Seconds a token lives, at least and at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token somebody carries; times are seconds since the epoch.

    One of the `first` run ends as soon as another admin's is there.
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

    def lives(self, now: float) -> bool:
        """Return whether it still opens anything."""
        return now < self.expires_at

    @property
    def principal(self) -> Principal:
        """Who shows it."""
        return Principal(name=self.name, via=f"token {self.id}", grants=self.grants)

    @property
    def words(self) -> str:
        """Which it is and what it lets its owner do, as people read it."""
        return f"{self.name} ({self.id}): {self.principal.words}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Somebody logged in to the pages. A session that began with a token ends with it."""

    digest: str
    name: str
    via: str
    grants: tuple[Grant, ...]
    csrf: str
    created_at: float
    seen_at: float
    expires_at: float
    token: str | None = None

    def lives(self, now: float, idle: float) -> bool:
        """Return whether it goes on, given the seconds it may lie unused."""
        return now < self.expires_at and now - self.seen_at < idle

    @property
    def principal(self) -> Principal:
        """Who it is of."""
        return Principal(name=self.name, via=self.via, grants=self.grants)


def new_token(  # noqa: PLR0913 - what a token is made of
    randomness: bytes,
    *,
    name: str,
    grant: Grant,
    by: str,
    now: float,
    expires_in: float,
    first: bool = False,
) -> tuple[Token, str]:
    """Return a token made of 38 random bytes, and its text, which is kept nowhere."""
    made = mint(randomness)
    token = Token(
        id=made.id,
        name=name,
        digest=made.digest,
        grants=(grant,),
        created_at=now,
        created_by=by,
        expires_at=now + expires_in,
        first=first,
    )
    return token, made.text


def token_to_json(token: Token) -> dict[str, Any]:
    """Return a token as plain JSON values, without its digest."""
    return {
        "id": token.id,
        "name": token.name,
        "role": token.grants[0].role.word,
        "routes": dict(token.grants[0].labels),
        "created_at": token.created_at,
        "created_by": token.created_by,
        "expires_at": token.expires_at,
        "last_used_at": token.last_used_at,
        "first": token.first,
    }


def grants_to_json(grants: Iterable[Grant]) -> list[dict[str, Any]]:
    """Return JSON values that `grants_from_json` reads."""
    return [{"role": grant.role.word, "labels": dict(grant.labels)} for grant in grants]


def grants_from_json(value: list[dict[str, Any]]) -> tuple[Grant, ...]:
    """Return the grants `grants_to_json` wrote."""
    return tuple(
        Grant(role=Role[one["role"].upper()], labels=tuple(sorted(one["labels"].items()))) for one in value
    )
