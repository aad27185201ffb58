"""One connected client: its session, and what an operator wants to know about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from xds_server import ir
    from xds_server.xds.session import NodeInfo, Session

__all__ = ["Stream", "Writer"]


class Writer(Protocol):
    """The half of a transport that takes responses."""

    async def write(self, message: bytes) -> None:
        """Hand one response over; waits while the client does not read."""

    def cancel(self) -> bool:
        """End the stream from this side."""


@dataclass(slots=True, kw_only=True, eq=False)
class Stream:
    """A connected client. `queued` says that a push is already waiting: newer worlds replace, never add.

    Times people see are seconds since the epoch; `queued_at`, when it began to wait for its turn, goes by the
    hub's steady clock. `vet` raises when the client may not be the node it says it is, before it is told
    anything.
    """

    session: Session
    writer: Writer
    peer: str
    connected_since: float
    last_seen: float
    vet: Callable[[NodeInfo], None] | None = None
    proxies: ir.NodeClass | None = None
    mode: str = "gateway"
    joined: bool = False
    queued: bool = False
    queued_at: float = 0.0

    @property
    def node_id(self) -> str:
        """The name the client goes by; empty before it said it."""
        node = self.session.node
        return "" if node is None else node.id

    @property
    def who(self) -> dict[str, str]:
        """What every line of the log says of it."""
        group = "" if self.proxies is None else self.proxies.group
        return {"node": self.node_id, "group": group, "peer": self.peer}

    @property
    def whole(self) -> bool:
        """Whether it carries all types: only such a stream can accept a version, or refuse it."""
        return self.session.only is None

    @property
    def key(self) -> tuple[str, str | None]:
        """What a newer stream of the same client replaces: one node may have a stream per type."""
        return self.node_id, self.session.only
