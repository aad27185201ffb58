"""What one client follows of one resource type: what it was told, what it took, what is to be looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from xds_server.xds.session.events import ClientResource, Nacked, ResourceStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from xds_server.xds.session.subscription import Subscription
    from xds_server.xds.snapshot import Entry

__all__ = ["NOTHING", "NOTHING_REFUSED", "NO_NAMES", "PendingResponse", "TypeState", "content", "same"]

_MOST_DOUBTS: Final = 64
# Every stream has a few of these, and an empty set is not small.
NO_NAMES: Final[frozenset[str]] = frozenset()
NOTHING_REFUSED: Final[frozenset[tuple[str, str]]] = frozenset()
NOTHING: Final[Mapping[str, Entry]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingResponse:
    """A response that was handed out and not yet answered."""

    nonce: str
    entries: tuple[Entry, ...]
    removed: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class TypeState:
    """What one client follows of one resource type, and how far it has got.

    `told` is what the client was last told of each name (None: that there is no such resource), `accepted`
    what it took; both may be the world's own table, and are copied before they are changed. `look` are the
    names whose standing may have changed since they were last looked at; what cannot be said yet stays in it.
    `again` are names to repeat though they did not change; `owed` says that the client waits for an answer
    even if there is nothing to say. `refused` is what the last refused response said: the same is not said
    again, anything else is. `doubtful` are entries of refused responses, which it may hold nevertheless.
    `returned` says that it came with resources of an earlier stream.
    """

    subscription: Subscription
    told: Mapping[str, Entry | None] = field(default_factory=lambda: NOTHING)
    accepted: Mapping[str, Entry] = field(default_factory=lambda: NOTHING)
    look: frozenset[str] = NO_NAMES
    again: frozenset[str] = NO_NAMES
    owed: bool = False
    requests: int = 0
    returned: bool = False
    last_nonce: str = ""
    flight: PendingResponse | None = None
    refused: frozenset[tuple[str, str]] = NOTHING_REFUSED
    rejection: Nacked | None = None
    doubtful: tuple[Entry, ...] = ()

    def tell(self, name: str, entry: Entry | None) -> None:
        """Note what the client is told of a name."""
        if not isinstance(self.told, dict):
            self.told = dict(self.told)
        self.told[name] = entry

    def untell(self, name: str) -> None:
        """Forget what the client was told of a name."""
        if name in self.told:
            if not isinstance(self.told, dict):
                self.told = dict(self.told)
            del self.told[name]

    def accept(self, entries: Collection[Entry], gone: Collection[str]) -> None:
        """Note what the client took, and what it let go."""
        if not isinstance(self.accepted, dict):
            self.accepted = dict(self.accepted)
        self.accepted.update((entry.name, entry) for entry in entries)
        for name in gone:
            self.accepted.pop(name, None)
        if self.doubtful:
            settled = {*gone, *(entry.name for entry in entries)}
            self.doubtful = tuple(entry for entry in self.doubtful if entry.name not in settled)

    def recognise(self, entry: Entry) -> None:
        """Learn what a version refers to that the client said it holds."""
        held = self.accepted.get(entry.name)
        if held is not None and held.clusters is None and same(held, entry):
            self.accept((entry,), ())

    def doubt(self, entries: Collection[Entry]) -> None:
        """Remember what was refused as a whole: the client may have applied a part of it."""
        self.doubtful = (*self.doubtful, *entries)[-_MOST_DOUBTS:]

    def inventory(self, type_url: str, world: Mapping[str, Entry]) -> Iterator[ClientResource]:
        """Yield every resource the client follows or holds, and how it stands."""
        refused = {} if self.rejection is None else dict.fromkeys(self.rejection.names, self.rejection)
        names = {*(name for name in world if self.subscription.follows(name)), *self.accepted}
        for name in sorted(names):
            held = self.accepted.get(name)
            if name in refused:
                standing = ResourceStatus.REFUSED
            elif held is not None and name in world and same(held, world[name]):
                standing = ResourceStatus.HELD
            else:
                standing = ResourceStatus.SENT if self.told.get(name) is not None else ResourceStatus.UNSENT
            yield ClientResource(
                type_url=type_url,
                name=name,
                version="" if held is None else held.version,
                body=b"" if held is None else held.body,
                standing=standing,
                words=refused[name].message if name in refused else "",
            )


def content(entries: Iterable[Entry], removed: Iterable[str]) -> frozenset[tuple[str, str]]:
    """Return what a response says, for comparing it with another."""
    return frozenset((*((entry.name, entry.version) for entry in entries), *((name, "") for name in removed)))


def same(one: Entry | None, other: Entry) -> bool:
    """Return whether both are the same version of a resource."""
    return one is not None and one.version == other.version
