"""What one client asked for, of one type, on one stream.

The rules are those of the xDS protocol: an empty first list means everything for clusters, listeners and
virtual hosts ("legacy wildcard") and nothing for other types; once anything was named, an empty list means
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["Change", "Subscription"]

_NONE: Final[frozenset[str]] = frozenset()
_STAR: Final = frozenset({"*"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a request changed: names to answer (again), and names the client no longer follows.

    `widened` says that the client now follows everything, and did not before.
    """

    added: frozenset[str]
    removed: frozenset[str]
    widened: bool = False


_NO_CHANGE: Final = Change(added=_NONE, removed=_NONE)


@dataclass(slots=True, kw_only=True)
class Subscription:
    """Names and wildcard of one type; `wildcard_type` says whether naming nothing may mean all."""

    wildcard_type: bool
    wildcard: bool = False
    names: frozenset[str] = _NONE
    _explicit: bool = False

    def replace(self, listed: Iterable[str]) -> Change:
        """Apply the full list of a state-of-the-world request."""
        names, before = frozenset(listed), self.wildcard
        if not names and self.wildcard_type and not self._explicit:
            self.wildcard = True
            return _NO_CHANGE if before else Change(added=_NONE, removed=_NONE, widened=True)
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
        self.names = names or _NONE
        return change

    def update(self, subscribe: Collection[str], unsubscribe: Collection[str], *, first: bool) -> Change:
        """Apply the changes of a delta request; a name subscribed again is to be answered again."""
        if not first and not subscribe and not unsubscribe:
            return _NO_CHANGE
        added, gone, before = frozenset(subscribe), frozenset(unsubscribe), self.wildcard
        if first and not added and self.wildcard_type:
            self.wildcard = True
        if added:
            self._explicit = True
        # Naming something ends no wildcard, not even one that came of naming nothing: only its own name does.
        if "*" in added:
            self.wildcard = True
            added -= _STAR
        if "*" in gone:
            self.wildcard = False
            gone -= _STAR
        removed = gone & self.names
        if added or removed:
            self.names = (self.names | added) - removed or _NONE
        return Change(added=added, removed=removed, widened=self.wildcard and not before)

    def follows(self, name: str) -> bool:
        """Return whether the client wants to hear of `name`."""
        return self.wildcard or name in self.names
