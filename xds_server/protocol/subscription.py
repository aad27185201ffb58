"""What one client asked for, of one type, on one stream.

The rules are those of the xDS protocol: an empty first list means everything for clusters and listeners
("legacy wildcard") and nothing for other types; once anything was named, an empty list means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["Change", "Subscription"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a request changed: names to answer (again), and names the client no longer follows.

    `widened` says that the client now follows everything, and did not before.
    """

    added: frozenset[str]
    removed: frozenset[str]
    widened: bool = False


_NO_CHANGE: Final = Change(added=frozenset(), removed=frozenset())


@dataclass(slots=True, kw_only=True)
class Subscription:
    """Names and wildcard of one type; `wildcard_type` says whether naming nothing may mean all."""

    wildcard_type: bool
    wildcard: bool = False
    names: set[str] = field(default_factory=set)
    _explicit: bool = False

    def replace(self, listed: Iterable[str]) -> Change:
        """Apply the full list of a state-of-the-world request."""
        names, before = set(listed), self.wildcard
        if not names and self.wildcard_type and not self._explicit:
            self.wildcard = True
            return _NO_CHANGE if before else Change(added=frozenset(), removed=frozenset(), widened=True)
        self._explicit = True
        self.wildcard = "*" in names
        names.discard("*")
        if names == self.names and self.wildcard == before:
            return _NO_CHANGE
        change = Change(
            added=frozenset(names - self.names),
            removed=frozenset(self.names - names),
            widened=self.wildcard and not before,
        )
        self.names = names
        return change

    def update(self, subscribe: Collection[str], unsubscribe: Collection[str], *, first: bool) -> Change:
        """Apply the changes of a delta request; a name subscribed again is to be answered again."""
        if not first and not subscribe and not unsubscribe:
            return _NO_CHANGE
        added, gone, before = set(subscribe), set(unsubscribe), self.wildcard
        if first and not added and self.wildcard_type:
            self.wildcard = True
        if added:
            self._explicit = True
        # A legacy wildcard ends as soon as something is named; an explicit one ends by its own name.
        if "*" in added:
            self.wildcard = True
            added.discard("*")
        if "*" in gone:
            self.wildcard = False
            gone.discard("*")
        removed = gone & self.names
        self.names |= added
        self.names -= removed
        return Change(
            added=frozenset(added), removed=frozenset(removed), widened=self.wildcard and not before
        )

    def follows(self, name: str) -> bool:
        """Return whether the client wants to hear of `name`."""
        return self.wildcard or name in self.names
