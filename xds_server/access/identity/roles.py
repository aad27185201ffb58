"""Roles, and the grants that limit a role to routes with certain labels.

A grant is a role over the routes whose labels match a selector. A principal with several grants may do what
any of them allows. A selector without labels matches every route; operations that concern no single route,
such as managing tokens or verifying the audit log, require such a grant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FULL_ACCESS", "Grant", "Principal", "Role", "SelectorError", "parse_selector", "selector_text"]


class Role(IntEnum):
    """What a principal may do; each role includes the permissions of the lower ones."""

    VIEWER = 1
    """View routes, proxies and the audit log."""

    OPERATOR = 2
    """Apply specs, and promote, pause, abort, undo, retry or kill rollouts."""

    ADMIN = 3
    """Delete routes; with a grant for all routes also manage tokens."""

    @property
    def text(self) -> str:
        """The role as the API and the command line spell it, such as `viewer`."""
        return self.name.lower()


class SelectorError(ValueError):
    """A text is not a label selector; the message shows the allowed form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A role over the routes that have all of `labels`; without labels, over all routes."""

    role: Role
    labels: tuple[tuple[str, str], ...] = ()

    def covers(self, labels: Mapping[str, str]) -> bool:
        """Return whether the grant applies to a route with these labels."""
        return all(labels.get(name) == value for name, value in self.labels)


FULL_ACCESS: Final = Grant(role=Role.ADMIN)
"""The grant of an admin of all routes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """An authenticated user or program.

    `via` is how it authenticated: `token ID`, `login ISSUER`, or `open` if login is disabled.
    """

    name: str
    via: str
    grants: tuple[Grant, ...] = field(default=())

    def may(self, role: Role, labels: Mapping[str, str]) -> bool:
        """Return whether the principal has at least this role for a route with these labels."""
        return any(grant.role >= role and grant.covers(labels) for grant in self.grants)

    def may_everywhere(self, role: Role) -> bool:
        """Return whether the principal has at least this role for all routes."""
        return any(grant.role >= role and not grant.labels for grant in self.grants)

    @property
    def highest_role(self) -> Role:
        """The highest role the principal has for any route; viewer if the principal has no grants."""
        return max((grant.role for grant in self.grants), default=Role.VIEWER)

    @property
    def description(self) -> str:
        """The grants as text for users, such as `operator of routes with team=search`."""
        grants = [
            grant.role.text + (f" of routes with {selector_text(grant.labels)}" if grant.labels else "")
            for grant in self.grants
        ]
        return ", ".join(grants) or "no role"


_PART: Final = re.compile(r"([A-Za-z0-9./_-]{1,63})=([^,=\s]{1,63})")


def parse_selector(text: str) -> tuple[tuple[str, str], ...]:
    """Return the labels of a selector such as `team=search,tier=gold`; an empty text selects all routes.

    Raises:
        SelectorError: The text is not a selector.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    found = [_PART.fullmatch(part) for part in parts]
    names = [match[1] for match in found if match]
    # A script with empty variables can produce only commas; that must not select all routes.
    if None in found or (text.strip() and not parts) or len(set(names)) != len(names):
        raise SelectorError(
            f"{text!r} is not a label selector; allowed: labels such as team=search,tier=gold, each name once"
        )
    return tuple(sorted((match[1], match[2]) for match in found if match))


def selector_text(labels: tuple[tuple[str, str], ...]) -> str:
    """Return the selector as text that `parse_selector` reads."""
    return ",".join(f"{name}={value}" for name, value in labels)
