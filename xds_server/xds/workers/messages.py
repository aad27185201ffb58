"""How the control plane and its acceptor processes talk: framed messages over a private socket.

Values of ours on one side, bytes of `protos/feed.proto` on the wire. A world travels as its difference to the
one sent before, so that a weight step costs its own size however large the world is.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from xds_server import ir
from xds_server.analysis.counts import Counts, Leg, Role, counts_from_values, counts_to_values
from xds_server.xds.session import Nack
from xds_server.xds.snapshot import CLUSTER, Snapshot, build, changes
from xds_server.xds.wire import feed_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from google.protobuf.message import Message

__all__ = [
    "class_of",
    "counted",
    "counted_of",
    "proxies_class",
    "read_frame",
    "refusal",
    "refusal_of",
    "send",
    "world_message",
    "world_of",
]

_HEAD: Final = 4
_MOST_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A resource as it came over the feed: acceptors do without the messages it was made of."""

    type_url: str
    name: str
    version: str
    body: bytes
    refers_to: frozenset[tuple[str, str]]


def send(writer: asyncio.StreamWriter, message: Message) -> None:
    """Queue a message; whoever sends much waits in `drain` before the next."""
    raw = message.SerializeToString()
    writer.write(len(raw).to_bytes(_HEAD, "big") + raw)


async def read_frame(reader: asyncio.StreamReader) -> bytes | None:
    """Return the next message, or None at the end."""
    try:
        size = int.from_bytes(await reader.readexactly(_HEAD), "big")
        return await reader.readexactly(size) if size <= _MOST_BYTES else None
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def proxies_class(proxies: ir.NodeClass) -> wire.Class:
    """Return a class of proxies as it travels."""
    return wire.Class(
        group=proxies.group,
        host=proxies.entry.host,
        port=proxies.entry.port,
        envoy=proxies.envoy,
        virtual_hosts_apart=proxies.virtual_hosts_apart,
    )


def class_of(message: wire.Class) -> ir.NodeClass:
    """Return a class of proxies from the wire."""
    return ir.NodeClass(
        group=message.group,
        entry=ir.Address(host=message.host, port=message.port),
        envoy=message.envoy,
        virtual_hosts_apart=message.virtual_hosts_apart,
    )


def refusal(proxies: ir.NodeClass, version: str, found: Nack) -> wire.Refusal:
    """Return a refusal as it travels."""
    return wire.Refusal(proxies=proxies_class(proxies), version=version, node=found.node, words=found.words)


def refusal_of(message: wire.Refusal) -> Nack:
    """Return a refusal from the wire."""
    return Nack(message.node, message.words)


def world_message(
    proxies: ir.NodeClass, former: Snapshot | None, world: Snapshot, *, good: bool = False
) -> wire.World:
    """Return what turns `former` into `world`; `good` says that it is only what to fall back to."""
    base = "" if former is None else former.version
    message = wire.World(proxies=proxies_class(proxies), version=world.version, base=base, good=good)
    for kind, names in changes(former, world).items():
        entries = world.of(kind)
        for name in sorted(names):
            entry = entries.get(name)
            if entry is None:
                message.gone.add(type_url=kind, name=name)
            else:
                message.changed.add(
                    type_url=kind,
                    name=name,
                    version=entry.version,
                    body=entry.body,
                    clusters=sorted(entry.clusters or ()),
                )
    return message


def world_of(message: wire.World, former: Snapshot | None) -> Snapshot:
    """Return the world a message makes of `former`.

    Raises:
        ValueError: It was meant for another one.
    """
    gone = {(item.type_url, item.name) for item in message.gone}
    renewed = {(item.type_url, item.name) for item in message.changed}
    kept = [
        _Source(
            type_url=kind,
            name=entry.name,
            version=entry.version,
            body=entry.body,
            refers_to=frozenset((CLUSTER, name) for name in entry.clusters or ()),
        )
        for kind, entries in ({} if former is None else former.entries).items()
        for entry in entries.values()
        if (kind, entry.name) not in gone | renewed
    ]
    fresh = [
        _Source(
            type_url=item.type_url,
            name=item.name,
            version=item.version,
            body=item.body,
            refers_to=frozenset((CLUSTER, name) for name in item.clusters),
        )
        for item in message.changed
    ]
    built = build([*kept, *fresh], former)
    if built.version != message.version:
        raise ValueError(f"a difference led to version {built.version} and not to {message.version}")
    return built


def counted(legs: Mapping[tuple[str, Leg], Counts]) -> wire.CountedLegs:
    """Return what the proxies of groups counted, to be sent."""
    return wire.CountedLegs(
        legs=[
            wire.Counted(
                group=group,
                route=leg.route,
                variant=leg.variant,
                shadow=leg.role is Role.SHADOW,
                values=counts_to_values(counts),
            )
            for (group, leg), counts in legs.items()
        ]
    )


def counted_of(message: wire.CountedLegs) -> Iterator[tuple[str, Leg, Counts]]:
    """Yield what was sent of each group and leg."""
    for one in message.legs:
        role = Role.SHADOW if one.shadow else Role.PRIMARY
        yield one.group, Leg(route=one.route, variant=one.variant, role=role), counts_from_values(one.values)
