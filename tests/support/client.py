"""An xDS client without I/O. It encodes requests itself and decodes every response from its bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

from xds_server.xds.session import Delta, Event, Session, Sotw
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, Snapshot, short_name
from xds_server.xds.wire import discovery_pb2 as wire

NODE = wire.Node(id="envoy-1", cluster="chat")
URLS = {"CDS": CLUSTER, "EDS": ENDPOINT, "LDS": LISTENER, "RDS": ROUTE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A decoded discovery response."""

    type: str
    nonce: str
    version: str
    names: tuple[str, ...]
    versions: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(slots=True)
class Client:
    """One stream of one client; `delta` selects delta xDS instead of SotW xDS."""

    delta: bool
    session: Session = field(init=False)
    opened: bool = False

    def __post_init__(self) -> None:
        variant = Delta() if self.delta else Sotw()
        self.session = Session(variant, identifier="test", nonce_prefix="n")

    def request(
        self,
        kind: str,
        *names: str,
        without: tuple[str, ...] = (),
        nonce: str = "",
        error: str | None = None,
        versions: dict[str, str] | None = None,
    ) -> tuple[Event, ...]:
        """Send a request. With delta xDS, `names` and `without` are the changes of the subscription."""
        node = None if self.opened else NODE
        self.opened = True
        detail = None if error is None else wire.Status(code=13, message=error)
        message: wire.DiscoveryRequest | wire.DeltaDiscoveryRequest
        if self.delta:
            message = wire.DeltaDiscoveryRequest(
                node=node,
                type_url=URLS.get(kind, kind),
                resource_names_subscribe=names,
                resource_names_unsubscribe=without,
                response_nonce=nonce,
                error_detail=detail,
                initial_resource_versions=versions or {},
            )
        else:
            message = wire.DiscoveryRequest(
                node=node,
                type_url=URLS.get(kind, kind),
                resource_names=names,
                response_nonce=nonce,
                error_detail=detail,
            )
        return self.session.receive(message.SerializeToString())

    def offer(self, snapshot: Snapshot) -> None:
        self.session.offer(snapshot)

    def take(self) -> Response | None:
        """Return the next response, or None."""
        raw = self.session.next_response()
        if raw is None:
            return None
        if self.delta:
            delta = wire.DeltaDiscoveryResponse.FromString(raw)
            entries = [wire.Resource.FromString(body) for body in delta.resources]
            return Response(
                type=_kind(delta.type_url),
                nonce=delta.nonce,
                version=delta.system_version_info,
                names=tuple(entry.name for entry in entries),
                versions=tuple(entry.version for entry in entries),
                removed=tuple(delta.removed_resources),
            )
        full = wire.DiscoveryResponse.FromString(raw)
        current = {} if self.session.snapshot is None else dict(self.session.snapshot.of(full.type_url))
        names = {entry.body: name for name, entry in current.items()}
        return Response(
            type=_kind(full.type_url),
            nonce=full.nonce,
            version=full.version_info,
            names=tuple(names.get(body, "?") for body in full.resources),
        )

    def take_all(self) -> list[Response]:
        """Return all pending responses without an acknowledgment."""
        responses = []
        while (response := self.take()) is not None:
            responses.append(response)
        return responses

    def ack(self, response: Response, *names: str) -> None:
        """Acknowledge a response. With SotW xDS, the request repeats the subscribed names."""
        self.request(response.type, *(() if self.delta else names), nonce=response.nonce)

    def boot(self, snapshot: Snapshot) -> None:
        """Subscribe to all types and acknowledge the responses, as a proxy does at its start."""
        self.request("CDS")
        self.offer(snapshot)
        subscribed: dict[str, tuple[str, ...]] = {}
        for kind, refers in (("CDS", "EDS"), ("LDS", "RDS")):
            if kind == "LDS":
                self.request(kind)
            for response in self.take_all():
                self.ack(response, *subscribed.get(response.type, ()))
            subscribed[refers] = tuple(snapshot.of(URLS[refers]))
            self.request(refers, *subscribed[refers])
            for response in self.take_all():
                self.ack(response, *subscribed.get(response.type, ()))
        assert self.session.synced


def _kind(type_url: str) -> str:
    return {
        "Cluster": "CDS",
        "ClusterLoadAssignment": "EDS",
        "Listener": "LDS",
        "RouteConfiguration": "RDS",
    }.get(short_name(type_url), type_url)
