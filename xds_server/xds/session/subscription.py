"""The subscription of one client to one resource type on one stream.

The rules are those of the xDS protocol. An empty first list of names subscribes to all resources of a
wildcard type ("legacy wildcard") and to none of other types. After a client has named a resource, an empty
list subscribes to none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["Change", "Subscription"]

_NO_NAMES: Final[frozenset[str]] = frozenset()
_STAR: Final = frozenset({"*"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a request changed: names to send (again), and names no longer subscribed to.

    `widened` is true if the client is now subscribed to all resources and was not before.
    """

    added: frozenset[str]
    removed: frozenset[str]
    widened: bool = False


_NO_CHANGE: Final = Change(added=_NO_NAMES, removed=_NO_NAMES)


@dataclass(slots=True, kw_only=True)
class Subscription:
    """Names and wildcard of one type; an empty first list is a wildcard only if `wildcard_type` is true."""

    wildcard_type: bool
    wildcard: bool = False
    names: frozenset[str] = _NO_NAMES
    _explicit: bool = False

    def replace(self, listed: Iterable[str]) -> Change:
        """Apply a SotW request, which lists all names."""
        names, before = frozenset(listed), self.wildcard
        if not names and self.wildcard_type and not self._explicit:
            self.wildcard = True
            return _NO_CHANGE if before else Change(added=_NO_NAMES, removed=_NO_NAMES, widened=True)
        self._explicit = True
        self.wildcard = "*" in names
        names -= _STAR
        if names == self.names and self.wildcard == before:
            return _NO_CHANGE
        change = Change(
            added=names - self.names,
            removed=self.names - names,
            widened=self.wildcard and not before,
        )
        self.names = names or _NO_NAMES
        return change

    def update(self, subscribe: Collection[str], unsubscribe: Collection[str], *, first: bool) -> Change:
        """Apply a delta request; a name that is subscribed to again is sent again."""
        if not first and not subscribe and not unsubscribe:
            return _NO_CHANGE
        added, gone, before = frozenset(subscribe), frozenset(unsubscribe), self.wildcard
        if first and not added and self.wildcard_type:
            self.wildcard = True
        if added:
            self._explicit = True
        # Subscribing to a name does not end a wildcard, not even a legacy one: only unsubscribing from "*"
        # does.
        if "*" in added:
            self.wildcard = True
            added -= _STAR
        if "*" in gone:
            self.wildcard = False
            gone -= _STAR
        removed = gone & self.names
        if added or removed:
            self.names = (self.names | added) - removed or _NO_NAMES
        return Change(added=added, removed=removed, widened=self.wildcard and not before)

    def includes(self, name: str) -> bool:
        """Return whether the client is subscribed to the resource `name`."""
        return self.wildcard or name in self.names
