"""An xDS client without I/O; it validates every response."""

from __future__ import annotations

from dataclasses import dataclass, field

from xds_server.protocol import Delta, Event, Session, StateOfTheWorld
from xds_server.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, Snapshot, short_name
from xds_server.wire import discovery_pb2 as wire

NODE = wire.Node(id="envoy-1", cluster="chat")
URLS = {"CDS": CLUSTER, "EDS": ENDPOINT, "LDS": LISTENER, "RDS": ROUTE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """A decoded response."""

    type: str
    nonce: str
    version: str
    names: tuple[str, ...]
    versions: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(slots=True)
class Client:
    """One stream of one client; `delta` selects the protocol variant."""

    delta: bool
    session: Session = field(init=False)
    opened: bool = False

    def __post_init__(self) -> None:
        flavour = Delta() if self.delta else StateOfTheWorld()
        self.session = Session(flavour, identifier="test", nonce_prefix="n")

    def ask(
        self,
        kind: str,
        *names: str,
        without: tuple[str, ...] = (),
        nonce: str = "",
        error: str | None = None,
        holds: dict[str, str] | None = None,
    ) -> tuple[Event, ...]:
        """Send a request; state-of-the-world lists all names, delta only the changes."""
        node = None if self.opened else NODE
        self.opened = True
        detail = None if error is None else wire.Status(code=13, message=error)
        request: wire.DiscoveryRequest | wire.DeltaDiscoveryRequest
        if self.delta:
            request = wire.DeltaDiscoveryRequest(
                node=node,
                type_url=URLS.get(kind, kind),
                resource_names_subscribe=names,
                resource_names_unsubscribe=without,
                response_nonce=nonce,
                error_detail=detail,
                initial_resource_versions=holds or {},
            )
        else:
            request = wire.DiscoveryRequest(
                node=node,
                type_url=URLS.get(kind, kind),
                resource_names=names,
                response_nonce=nonce,
                error_detail=detail,
            )
        return self.session.receive(request.SerializeToString())

    def offer(self, snapshot: Snapshot) -> None:
        self.session.offer(snapshot)

    def take(self) -> Got | None:
        """Return the next response, or None."""
        raw = self.session.next_response()
        if raw is None:
            return None
        if self.delta:
            delta = wire.DeltaDiscoveryResponse.FromString(raw)
            entries = [wire.Resource.FromString(body) for body in delta.resources]
            return Got(
                type=_kind(delta.type_url),
                nonce=delta.nonce,
                version=delta.system_version_info,
                names=tuple(entry.name for entry in entries),
                versions=tuple(entry.version for entry in entries),
                removed=tuple(delta.removed_resources),
            )
        full = wire.DiscoveryResponse.FromString(raw)
        held = {} if self.session.snapshot is None else dict(self.session.snapshot.of(full.type_url))
        names = {entry.body: name for name, entry in held.items()}
        return Got(
            type=_kind(full.type_url),
            nonce=full.nonce,
            version=full.version_info,
            names=tuple(names.get(body, "?") for body in full.resources),
        )

    def take_all(self) -> list[Got]:
        """Return all responses that the session has ready, without answering them."""
        taken = []
        while (got := self.take()) is not None:
            taken.append(got)
        return taken

    def accept(self, got: Got, *names: str) -> None:
        """ACK a response; state-of-the-world repeats the subscribed names."""
        self.ask(got.type, *(() if self.delta else names), nonce=got.nonce)

    def boot(self, snapshot: Snapshot) -> None:
        """Subscribe to all resources and ACK them, as a proxy does when it starts."""
        self.ask("CDS")
        self.offer(snapshot)
        follow: dict[str, tuple[str, ...]] = {}
        for kind, refers in (("CDS", "EDS"), ("LDS", "RDS")):
            if kind == "LDS":
                self.ask(kind)
            for got in self.take_all():
                self.accept(got, *follow.get(got.type, ()))
            follow[refers] = tuple(snapshot.of(URLS[refers]))
            self.ask(refers, *follow[refers])
            for got in self.take_all():
                self.accept(got, *follow.get(got.type, ()))
        assert self.session.synced


def _kind(type_url: str) -> str:
    return {
        "Cluster": "CDS",
        "ClusterLoadAssignment": "EDS",
        "Listener": "LDS",
        "RouteConfiguration": "RDS",
    }.get(short_name(type_url), type_url)
