"""The state of one discovery stream: per resource type, what was sent, ACKed and must be reviewed."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from xds_server.xds.session.events import ClientResource, Nacked, ResourceStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from xds_server.xds.session.subscription import Subscription
    from xds_server.xds.snapshot import Resource, Snapshot

__all__ = [
    "NOTHING",
    "NOTHING_NACKED",
    "NO_NAMES",
    "PendingResponse",
    "StreamState",
    "TypeState",
    "content",
    "same_version",
]

_MAX_MAYBE_APPLIED: Final = 64
# Shared constants: every stream has several of these, and an empty set takes 216 bytes.
NO_NAMES: Final[frozenset[str]] = frozenset()
NOTHING_NACKED: Final[frozenset[tuple[str, str]]] = frozenset()
NOTHING: Final[Mapping[str, Resource]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingResponse:
    """A response that was sent and is neither ACKed nor NACKed yet."""

    nonce: str
    resources: tuple[Resource, ...]
    removed: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class TypeState:
    """The state of one resource type on one stream.

    `sent` is the resource last sent for each name; None means that the name was sent as removed. `acked` are
    the resources that the client ACKed. Both may be the snapshot's own mapping; they are copied before the
    first modification.

    `dirty` are the names to review before the next response, because the snapshot, the subscription or the
    client's state changed. A name stays dirty while it must wait. `resend` are names to send again although
    their version did not change. `reply_pending` is true while the client waits for a response, even an empty
    one. `in_flight` is the response that was neither ACKed nor NACKed yet. `requests` counts the requests of
    this type.

    `nack` is the last NACK, until the next ACK. `nacked_content` is the content of that response, which is
    not sent again. `maybe_applied` are resources of NACKed responses: the client may have applied some of
    them. `resumed` is true if the client reported resources of an earlier stream.
    """

    subscription: Subscription
    sent: Mapping[str, Resource | None] = field(default_factory=lambda: NOTHING)
    acked: Mapping[str, Resource] = field(default_factory=lambda: NOTHING)
    dirty: frozenset[str] = NO_NAMES
    resend: frozenset[str] = NO_NAMES
    reply_pending: bool = False
    requests: int = 0
    resumed: bool = False
    last_nonce: str = ""
    in_flight: PendingResponse | None = None
    nacked_content: frozenset[tuple[str, str]] = NOTHING_NACKED
    nack: Nacked | None = None
    maybe_applied: tuple[Resource, ...] = ()

    @property
    def can_respond(self) -> bool:
        """Whether there are names to review or a reply is pending, and no response is in flight."""
        return self.in_flight is None and (bool(self.dirty) or self.reply_pending)

    def record_sent(self, name: str, resource: Resource | None) -> None:
        """Record what was sent for a name; None if it was sent as removed."""
        if not isinstance(self.sent, dict):
            self.sent = dict(self.sent)
        self.sent[name] = resource

    def forget_sent(self, name: str) -> None:
        """Forget what was sent for a name, so that it is sent again when it is dirty."""
        if name in self.sent:
            if not isinstance(self.sent, dict):
                self.sent = dict(self.sent)
            del self.sent[name]

    def record_acked(self, resources: Collection[Resource], removed: Collection[str]) -> None:
        """Record the resources that the client applied and the names that it removed."""
        if not isinstance(self.acked, dict):
            self.acked = dict(self.acked)
        self.acked.update((resource.name, resource) for resource in resources)
        for name in removed:
            self.acked.pop(name, None)
        if self.maybe_applied:
            settled = {*removed, *(resource.name for resource in resources)}
            self.maybe_applied = tuple(r for r in self.maybe_applied if r.name not in settled)

    def learn_references(self, resource: Resource) -> None:
        """Record what a version refers to if the client reported that version without its content."""
        known = self.acked.get(resource.name)
        if known is not None and known.clusters is None and same_version(known, resource):
            self.record_acked((resource,), ())

    def record_maybe_applied(self, resources: Collection[Resource]) -> None:
        """Record the resources of a NACKed response: the client may have applied some of them."""
        self.maybe_applied = (*self.maybe_applied, *resources)[-_MAX_MAYBE_APPLIED:]

    def inventory(self, type_url: str, wanted: Mapping[str, Resource]) -> Iterator[ClientResource]:
        """Yield every resource that the client subscribed to or has, compared with the `wanted` ones."""
        nacked = {} if self.nack is None else dict.fromkeys(self.nack.names, self.nack)
        names = {*(name for name in wanted if self.subscription.includes(name)), *self.acked}
        for name in sorted(names):
            acked = self.acked.get(name)
            if name in nacked:
                status = ResourceStatus.NACKED
            elif acked is not None and name in wanted and same_version(acked, wanted[name]):
                status = ResourceStatus.SYNCED
            else:
                sent = self.sent.get(name) is not None
                status = ResourceStatus.SENT if sent else ResourceStatus.NOT_SENT
            yield ClientResource(
                type_url=type_url,
                name=name,
                version="" if acked is None else acked.version,
                body=b"" if acked is None else acked.body,
                status=status,
                error=nacked[name].message if name in nacked else "",
            )


@dataclass(slots=True, kw_only=True)
class StreamState:
    """The state of all resource types on one stream, and the snapshot the client should have.

    `full_sets` is true for the SotW variant, whose responses contain all resources of a wildcard type.
    `expected_types` are the types that this client subscribes to after clusters, in this order; it subscribes
    to a type only if it has resources of the previous type.
    """

    full_sets: bool
    snapshot: Snapshot | None = None
    expected_types: tuple[str, ...] = ()
    types: dict[str, TypeState] = field(default_factory=dict)


def content(resources: Iterable[Resource], removed: Iterable[str]) -> frozenset[tuple[str, str]]:
    """Return the content of a response as (name, version), to compare it with another response."""
    return frozenset((*((r.name, r.version) for r in resources), *((name, "") for name in removed)))


def same_version(one: Resource | None, other: Resource) -> bool:
    """Return whether both are the same version of a resource."""
    return one is not None and one.version == other.version
