"""Tokens and sessions as they are kept: by digest, with an end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xds_server.identity.roles import Grant, Principal, Role

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Session", "Token", "grants_from_json", "grants_to_json"]


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


def grants_to_json(grants: Iterable[Grant]) -> list[dict[str, Any]]:
    """Return JSON values that `grants_from_json` reads."""
    return [{"role": grant.role.word, "labels": dict(grant.labels)} for grant in grants]


def grants_from_json(value: list[dict[str, Any]]) -> tuple[Grant, ...]:
    """Return the grants `grants_to_json` wrote."""
    return tuple(
        Grant(role=Role[one["role"].upper()], labels=tuple(sorted(one["labels"].items()))) for one in value
    )
