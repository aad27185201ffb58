"""Check client certificates against nodes on the mutual TLS port, and report denied clients."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import grpc
import structlog

from xds_server.xds.session import IdentityRule, NodeDeniedError, NodeInfo, Peer, authorize_node

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from xds_server.xds.server.stream import Stream

__all__ = ["NodeAuthorizer"]

_LOG_INTERVAL_SECONDS: Final = 60.0
_MAX_LOGGED_REASONS: Final = 1_000

log = structlog.get_logger()


class NodeAuthorizer:
    """Checks that a client's certificate matches its node; without rules, every node is allowed."""

    def __init__(self, rules: Sequence[IdentityRule] = ()) -> None:
        """With `rules`, a client without a certificate is denied."""
        self._rules = tuple(rules)
        self._logged_at: dict[str, float] = {}

    def check_for(self, context: Any) -> Callable[[NodeInfo], None] | None:
        """Return a function that checks a node against a call's certificate; None if there are no rules.

        The function raises NodeDeniedError.
        """
        if not self._rules:
            return None
        peer = _peer(context)
        return lambda node: authorize_node(self._rules, peer, node_id=node.id, group=node.group)

    def visibility(self, context: Any) -> Callable[[Stream], bool]:
        """Return a predicate for the streams a client may see: its certificate must match their nodes."""
        check = self.check_for(context)
        if check is None:
            return lambda _stream: True

        def allowed(stream: Stream) -> bool:
            node = stream.session.node
            if node is None:
                return False
            try:
                check(node)
            except NodeDeniedError:
                return False
            return True

        return allowed

    def report(self, denied: NodeDeniedError, address: str) -> tuple[grpc.StatusCode, str]:
        """Log a denied client, and return the status that ends its stream.

        Each reason is logged once a minute: a proxy with a wrong certificate reconnects every few seconds.
        """
        reason, now = str(denied), time.monotonic()
        if now - self._logged_at.get(reason, -_LOG_INTERVAL_SECONDS) >= _LOG_INTERVAL_SECONDS:
            if len(self._logged_at) >= _MAX_LOGGED_REASONS:
                self._logged_at.clear()  # Clients choose their names; clearing costs a repeated warning.
            self._logged_at[reason] = now
            log.warning("xds_node_denied", peer=address, reason=reason)
        code = grpc.StatusCode.PERMISSION_DENIED if denied.identified else grpc.StatusCode.UNAUTHENTICATED
        return code, reason


def _peer(context: Any) -> Peer:
    """Return the names of a client's certificate, which the handshake has verified.

    The names are read by kind: in gRPC's list of all names, an e-mail address looks like a DNS name.
    """
    properties = context.auth_context()

    def names(kind: str) -> tuple[str, ...]:
        return tuple(bytes(value).decode("utf-8", "replace") for value in properties.get(kind, ()))

    return Peer(uris=names("peer_uri"), dns=names("peer_dns"))
