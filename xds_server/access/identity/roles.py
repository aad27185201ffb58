"""Roles, and the routes they are held for.

A grant is a role over the routes whose labels match a selector; whoever has several may do what any of them
allows. A selector without labels matches every route, and what belongs to no route at all (tokens, the chain
of the audit) takes such a grant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EVERYTHING", "Grant", "Principal", "Role", "SelectorError", "parse_selector", "selector_text"]


class Role(IntEnum):
    """What somebody may do; each may do what those before may."""

    VIEWER = 1
    """See routes, proxies and who did what."""

    OPERATOR = 2
    """Apply specs, and promote, pause, abort, undo, retry, kill."""

    ADMIN = 3
    """Delete routes; without a selector also hand out tokens."""

    @property
    def word(self) -> str:
        """Its name as people write it."""
        return self.name.lower()


class SelectorError(ValueError):
    """A selector that is none; the message says what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A role over the routes that have all of `labels`; none: over everything."""

    role: Role
    labels: tuple[tuple[str, str], ...] = ()

    def covers(self, labels: Mapping[str, str]) -> bool:
        """Return whether a route with these labels is one of them."""
        return all(labels.get(name) == value for name, value in self.labels)


EVERYTHING: Final = Grant(role=Role.ADMIN)
"""What an admin has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Somebody who may do something. `via` says how they came in, such as `token 3f9c` or `login`."""

    name: str
    via: str
    grants: tuple[Grant, ...] = field(default=())

    def may(self, role: Role, labels: Mapping[str, str]) -> bool:
        """Return whether they hold at least this role for a route with these labels."""
        return any(grant.role >= role and grant.covers(labels) for grant in self.grants)

    def may_everywhere(self, role: Role) -> bool:
        """Return whether they hold at least this role for everything."""
        return any(grant.role >= role and not grant.labels for grant in self.grants)

    @property
    def highest(self) -> Role:
        """The highest role they hold anywhere."""
        return max((grant.role for grant in self.grants), default=Role.VIEWER)

    @property
    def words(self) -> str:
        """What they may do, as people read it: `operator of team=search`."""
        said = [
            grant.role.word + (f" of {selector_text(grant.labels)}" if grant.labels else "")
            for grant in self.grants
        ]
        return ", ".join(said) or "nothing"


_PART: Final = re.compile(r"([A-Za-z0-9./_-]{1,63})=([^,=\s]{1,63})")


def parse_selector(text: str) -> tuple[tuple[str, str], ...]:
    """Return the labels of `team=search,tier=gold`; an empty text selects everything.

    Raises:
        SelectorError: It is no such text.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    found = [_PART.fullmatch(part) for part in parts]
    names = [match[1] for match in found if match]
    # Commas alone are what is left of labels that a script did not have: that is not meant to be everything.
    if None in found or (text.strip() and not parts) or len(set(names)) != len(names):
        raise SelectorError(
            f"{text!r} is no selector; labels such as team=search,tier=gold are allowed, each once"
        )
    return tuple(sorted((match[1], match[2]) for match in found if match))


def selector_text(labels: tuple[tuple[str, str], ...]) -> str:
    """Return the text `parse_selector` reads."""
    return ",".join(f"{name}={value}" for name, value in labels)
