"""One connected client: its session, its writer, and what is shown about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from xds_server import ir
    from xds_server.xds.session import NodeInfo, Session

__all__ = ["Stream", "Writer"]


class Writer(Protocol):
    """The sending half of a stream's transport."""

    async def write(self, message: bytes) -> None:
        """Write one response; wait while the client does not read."""

    def cancel(self) -> bool:
        """End the stream; return whether it was still open."""


@dataclass(slots=True, kw_only=True, eq=False)
class Stream:
    """A connected client.

    `authorize` raises NodeDeniedError if the client's certificate does not match its node. `joined` is true
    after the stream was added to its group. `queued` is true while the stream is in the push queue or a
    response is being written.

    Times are seconds since the epoch, except `queued_at`, which uses the hub's monotonic clock.
    """

    session: Session
    writer: Writer
    peer: str
    connected_since: float
    last_seen: float
    authorize: Callable[[NodeInfo], None] | None = None
    node_class: ir.NodeClass | None = None
    mode: str = "gateway"
    joined: bool = False
    queued: bool = False
    queued_at: float = 0.0

    @property
    def node_id(self) -> str:
        """The id of the client's node; empty before its first request."""
        node = self.session.node
        return "" if node is None else node.id

    @property
    def log_fields(self) -> dict[str, str]:
        """The fields that identify the client in every log event about it."""
        group = "" if self.node_class is None else self.node_class.group
        return {"node": self.node_id, "group": group, "peer": self.peer}

    @property
    def aggregated(self) -> bool:
        """Whether the stream carries all types; only such a stream can ACK or NACK a whole version."""
        return self.session.single_type is None

    @property
    def key(self) -> tuple[str, str | None]:
        """The id of the node and, unless the stream is aggregated, its type.

        Of several streams with the same key, only the newest counts for convergence.
        """
        return self.node_id, self.session.single_type
