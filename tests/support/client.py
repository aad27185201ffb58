"""An xDS client without I/O that calls a session, for tests of both variants."""

from __future__ import annotations

from dataclasses import dataclass, field

from xds_server.xds.session import Delta, Event, Session, Sotw
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, Snapshot, short_name
from xds_server.xds.wire import discovery_pb2 as wire

NODE = wire.Node(id="envoy-1", cluster="chat")
URLS = {"CDS": CLUSTER, "EDS": ENDPOINT, "LDS": LISTENER, "RDS": ROUTE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A response that the client parsed."""

    type: str
    nonce: str
    version: str
    names: tuple[str, ...]
    versions: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(slots=True)
class Client:
    """One stream of one client; `delta` selects the variant."""

    delta: bool
    session: Session = field(init=False)
    opened: bool = False

    def __post_init__(self) -> None:
        variant = Delta() if self.delta else Sotw()
        self.session = Session(variant, identifier="test", nonce_prefix="n")

    def send_request(
        self,
        kind: str,
        *names: str,
        without: tuple[str, ...] = (),
        nonce: str = "",
        error: str | None = None,
        initial_versions: dict[str, str] | None = None,
    ) -> tuple[Event, ...]:
        """Send a request; SotW lists all names, delta only the changes."""
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
                initial_resource_versions=initial_versions or {},
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

    def take(self) -> Received | None:
        """Return the next response, or None."""
        raw = self.session.next_response()
        if raw is None:
            return None
        if self.delta:
            delta = wire.DeltaDiscoveryResponse.FromString(raw)
            wrapped = [wire.Resource.FromString(body) for body in delta.resources]
            return Received(
                type=_kind(delta.type_url),
                nonce=delta.nonce,
                version=delta.system_version_info,
                names=tuple(resource.name for resource in wrapped),
                versions=tuple(resource.version for resource in wrapped),
                removed=tuple(delta.removed_resources),
            )
        full = wire.DiscoveryResponse.FromString(raw)
        resources = {} if self.session.snapshot is None else dict(self.session.snapshot.of(full.type_url))
        names = {resource.body: name for name, resource in resources.items()}
        return Received(
            type=_kind(full.type_url),
            nonce=full.nonce,
            version=full.version_info,
            names=tuple(names.get(body, "?") for body in full.resources),
        )

    def take_all(self) -> list[Received]:
        """Return all responses that the server sends without an ACK or NACK."""
        taken = []
        while (got := self.take()) is not None:
            taken.append(got)
        return taken

    def ack(self, got: Received, *names: str) -> None:
        """ACK a response; SotW repeats the names of the subscription."""
        self.send_request(got.type, *(() if self.delta else names), nonce=got.nonce)

    def boot(self, snapshot: Snapshot) -> None:
        """Subscribe to all resources and ACK them, as a proxy does at its start."""
        self.send_request("CDS")
        self.offer(snapshot)
        subscriptions: dict[str, tuple[str, ...]] = {}
        for kind, referenced in (("CDS", "EDS"), ("LDS", "RDS")):
            if kind == "LDS":
                self.send_request(kind)
            for got in self.take_all():
                self.ack(got, *subscriptions.get(got.type, ()))
            subscriptions[referenced] = tuple(snapshot.of(URLS[referenced]))
            self.send_request(referenced, *subscriptions[referenced])
            for got in self.take_all():
                self.ack(got, *subscriptions.get(got.type, ()))
        assert self.session.synced


def _kind(type_url: str) -> str:
    return {
        "Cluster": "CDS",
        "ClusterLoadAssignment": "EDS",
        "Listener": "LDS",
        "RouteConfiguration": "RDS",
    }.get(short_name(type_url), type_url)
