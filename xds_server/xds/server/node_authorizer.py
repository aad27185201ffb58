"""Who may be which node, where clients show certificates: the rules, and what becomes of a refusal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import grpc
import structlog

from xds_server.xds.session import IdentityRule, NodeDeniedError, NodeInfo, Peer, vet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from xds_server.xds.server.stream import Stream

__all__ = ["NodeAuthorizer"]

_QUIET_SECONDS: Final = 60.0
_MOST_REMEMBERED: Final = 1_000

log = structlog.get_logger()


class NodeAuthorizer:
    """Holds a node against its client's certificate; without rules everybody is who they say they are."""

    def __init__(self, rules: Sequence[IdentityRule] = ()) -> None:
        """With `rules`, whoever shows no certificate is nobody."""
        self._rules = tuple(rules)
        self._said: dict[str, float] = {}

    def of(self, context: Any) -> Callable[[NodeInfo], None] | None:
        """Return the check of one stream, which raises IdentityRefusedError; None where there is none."""
        if not self._rules:
            return None
        peer = _peer(context)
        return lambda node: vet(self._rules, peer, node_id=node.id, group=node.group)

    def may_see(self, context: Any) -> Callable[[Stream], bool]:
        """Return which nodes a client may be told of: those its certificate could be."""
        check = self.of(context)
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

    def refuse(self, refused: NodeDeniedError, address: str) -> tuple[grpc.StatusCode, str]:
        """Log a refusal and return the status it ends a stream with."""
        reason, now = str(refused), time.monotonic()
        # A proxy with a wrong certificate comes back every few seconds, and says the same each time.
        if now - self._said.get(reason, -_QUIET_SECONDS) >= _QUIET_SECONDS:
            if len(self._said) >= _MOST_REMEMBERED:
                self._said.clear()  # Names are the peers' choice; forgetting costs a second warning.
            self._said[reason] = now
            log.warning("xds_identity_refused", peer=address, reason=reason)
        code = grpc.StatusCode.PERMISSION_DENIED if refused.known else grpc.StatusCode.UNAUTHENTICATED
        return code, reason


def _peer(context: Any) -> Peer:
    """Return the names of the certificate a client has shown, which the handshake has verified.

    gRPC sorts them by kind; in its list of all of them, an e-mail address could pass for a DNS name.
    """
    shown = context.auth_context()

    def names(kind: str) -> tuple[str, ...]:
        return tuple(bytes(value).decode("utf-8", "replace") for value in shown.get(kind, ()))

    return Peer(uris=names("peer_uri"), dns=names("peer_dns"))
