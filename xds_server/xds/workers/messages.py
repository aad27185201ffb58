"""The worker protocol: length-prefixed messages of `protos/worker.proto` over a private Unix socket.

A snapshot is sent as its difference to the previous one, so that the size of the message for a weight step
does not depend on the size of the snapshot.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from xds_server import ir
from xds_server.analysis.counts import Counts, Leg, Role, counts_from_values, counts_to_values
from xds_server.xds.session import Nack
from xds_server.xds.snapshot import CLUSTER, Resource, Snapshot, build, changes
from xds_server.xds.wire import worker_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from google.protobuf.message import Message

__all__ = [
    "apply_snapshot",
    "counts_from_wire",
    "counts_to_wire",
    "nack_from_wire",
    "nack_to_wire",
    "node_class_from_wire",
    "node_class_to_wire",
    "read_frame",
    "send",
    "snapshot_to_wire",
]

_LENGTH_BYTES: Final = 4
_MAX_FRAME_BYTES: Final = 1 << 30


def send(writer: asyncio.StreamWriter, message: Message) -> None:
    """Add a message to the send buffer; the caller awaits `drain` before it sends large amounts."""
    raw = message.SerializeToString()
    writer.write(len(raw).to_bytes(_LENGTH_BYTES, "big") + raw)


async def read_frame(reader: asyncio.StreamReader) -> bytes | None:
    """Return the next message, or None after the connection closed or if the length is invalid."""
    try:
        size = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
        return await reader.readexactly(size) if size <= _MAX_FRAME_BYTES else None
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def node_class_to_wire(node_class: ir.NodeClass) -> wire.NodeClass:
    """Return a node class as a message."""
    return wire.NodeClass(
        group=node_class.group,
        host=node_class.entry.host,
        port=node_class.entry.port,
        envoy=node_class.envoy,
        virtual_hosts_apart=node_class.virtual_hosts_apart,
    )


def node_class_from_wire(message: wire.NodeClass) -> ir.NodeClass:
    """Return the node class in a message."""
    return ir.NodeClass(
        group=message.group,
        entry=ir.Address(host=message.host, port=message.port),
        envoy=message.envoy,
        virtual_hosts_apart=message.virtual_hosts_apart,
    )


def nack_to_wire(node_class: ir.NodeClass, version: str, nack: Nack) -> wire.VersionNack:
    """Return the NACK of a version as a message."""
    return wire.VersionNack(
        node_class=node_class_to_wire(node_class), version=version, node=nack.node, message=nack.message
    )


def nack_from_wire(message: wire.VersionNack) -> Nack:
    """Return the NACK in a message."""
    return Nack(message.node, message.message)


def snapshot_to_wire(
    node_class: ir.NodeClass, base: Snapshot | None, snapshot: Snapshot, *, fallback: bool = False
) -> wire.SnapshotUpdate:
    """Return the difference between `base` and `snapshot`; without a base, the complete snapshot.

    `fallback` marks the last good snapshot, after which the newest snapshot is sent.
    """
    message = wire.SnapshotUpdate(
        node_class=node_class_to_wire(node_class),
        version=snapshot.version,
        base_version="" if base is None else base.version,
        fallback=fallback,
    )
    for type_url, names in changes(base, snapshot).items():
        resources = snapshot.of(type_url)
        for name in sorted(names):
            resource = resources.get(name)
            if resource is None:
                message.removed.add(type_url=type_url, name=name)
            else:
                message.changed.add(
                    type_url=type_url,
                    name=name,
                    version=resource.version,
                    body=resource.body,
                    clusters=sorted(resource.clusters or ()),
                )
    return message


def apply_snapshot(message: wire.SnapshotUpdate, base: Snapshot | None) -> Snapshot:
    """Return the snapshot that a message describes as its difference to `base`.

    Raises:
        ValueError: The result does not have the version in the message: `base` is not the sender's base.
    """
    replaced = {(item.type_url, item.name) for item in message.removed}
    replaced |= {(item.type_url, item.name) for item in message.changed}
    kept = [
        resource
        for named in ({} if base is None else base.resources).values()
        for resource in named.values()
        if (resource.type_url, resource.name) not in replaced
    ]
    changed = [
        Resource(
            type_url=item.type_url,
            name=item.name,
            version=item.version,
            body=item.body,
            refers_to=frozenset((CLUSTER, name) for name in item.clusters),
        )
        for item in message.changed
    ]
    built = build([*kept, *changed], base)
    if built.version != message.version:
        raise ValueError(f"a snapshot update resulted in version {built.version}, expected {message.version}")
    return built


def counts_to_wire(legs: Mapping[tuple[str, Leg], Counts]) -> wire.CountsReport:
    """Return the counts of legs, by group and leg, as a message."""
    return wire.CountsReport(
        legs=[
            wire.LegCounts(
                group=group,
                route=leg.route,
                variant=leg.variant,
                shadow=leg.role is Role.SHADOW,
                values=counts_to_values(counts),
            )
            for (group, leg), counts in legs.items()
        ]
    )


def counts_from_wire(message: wire.CountsReport) -> Iterator[tuple[str, Leg, Counts]]:
    """Yield group, leg and counts of each leg in a message."""
    for one in message.legs:
        role = Role.SHADOW if one.shadow else Role.PRIMARY
        yield one.group, Leg(route=one.route, variant=one.variant, role=role), counts_from_values(one.values)
