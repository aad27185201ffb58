"""Which clients receive a new version first: a few probes, then all clients (pure).

A proxy that NACKs a version keeps its previous configuration, but a proxy that starts while a bad version is
served has no configuration. A version that no client ACKed before is therefore sent to a few proxies first,
the probes. Proxies that connect meanwhile receive the last good version.

* When all probes ACKed the version, it is released to all clients.
* When a probe NACKs the version, it is stopped: the probes receive the last good version again, and no other
  client of this process receives the bad one.
* When the timeout expires and at least one probe ACKed the version, it is released. If none did, other
  clients become probes. The version is also released when three rounds end without a NACK, or when no other
  client is left.
* When no probe ACKed the version in three rounds, and all probes of the last one disconnected, it is stopped.

The very first version is released at once, because there is no version to fall back to, unless another
process reported one (`restore`). A NACK after the release does not stop a version.

Clients are opaque; time is a parameter that never decreases; versions are content hashes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import Final, Generic, TypeVar

__all__ = ["Nack", "Offer", "ProbeRollout", "Stage"]

_MAX_ROUNDS: Final = 3
_MAX_ACKED_VERSIONS: Final = 32

C = TypeVar("C", bound=Hashable)


class Stage(Enum):
    """How far the newest version has been rolled out."""

    RELEASED = "released"
    PROBING = "probing"
    NACKED = "nacked"


@dataclass(frozen=True, slots=True)
class Offer(Generic[C]):
    """A version to send, and the clients to send it to; None means all clients."""

    version: str
    clients: frozenset[C] | None


@dataclass(frozen=True, slots=True)
class Nack:
    """The node that NACKed the newest version, and its error message.

    If the version was stopped because no probe ACKed it, `node` is empty and `message` gives the reason.
    """

    node: str
    message: str

    @property
    def cause(self) -> str:
        """What stopped the version, as text for users."""
        return f"a NACK of {self.node}" if self.node else "missing ACKs"


@dataclass(slots=True, kw_only=True)
class ProbeRollout(Generic[C]):
    """The rollout of the newest version (`target`) to the clients of one node class.

    `last_good` is the version to fall back to. `probe_count` probes receive the target in each round. A round
    ends after `probe_timeout` seconds, at `deadline`.
    """

    probe_count: int = 3
    probe_timeout: float = 2.0
    last_good: str = ""
    target: str = ""
    stage: Stage = Stage.RELEASED
    nack: Nack | None = None
    deadline: float | None = None
    _probed: set[C] = field(default_factory=set)
    _pending: set[C] = field(default_factory=set)
    _acked: bool = False
    _rounds: int = 0
    _acked_versions: deque[str] = field(default_factory=lambda: deque(maxlen=_MAX_ACKED_VERSIONS))

    @property
    def version_for_new_clients(self) -> str:
        """The version that a client receives when it connects."""
        return self.target if self.stage is Stage.RELEASED else self.last_good

    def publish(self, version: str, clients: Iterable[C], now: float) -> Offer[C] | None:
        """Start the rollout of a new version; a version that was ACKed before needs no probes."""
        if version == self.target:
            return None
        self.target, self.nack, self._rounds, self._acked = version, None, 0, False
        if not self.last_good or version == self.last_good or version in self._acked_versions:
            return self._release()
        # The probes of an abandoned version become probes of this one, so that they do not stay on the
        # abandoned version.
        former = self._probed if self.stage is Stage.PROBING else set()
        self._probed = set()
        return self._probe([*former, *clients], max(self.probe_count, len(former)), now)

    def restore(self, last_good: str, target: str, nack: Nack | None, now: float) -> Offer[C]:
        """Adopt the state that another process reported: all clients receive the last good version.

        A target without a NACK is sent to probes after the timeout. Until then, clients have time to ACK the
        last good version.
        """
        self.last_good, self.target, self.nack = last_good, target, nack
        self._probed, self._pending, self._rounds, self._acked = set(), set(), 0, False
        self.stage = Stage.PROBING if nack is None else Stage.NACKED
        self.deadline = now + self.probe_timeout if nack is None else None
        return Offer(last_good, None)

    def record_ack(self, client: C, version: str) -> Offer[C] | None:
        """Record that a client ACKed all of a version."""
        if self.stage is not Stage.PROBING or version != self.target:
            if version not in self._acked_versions and version == self.last_good:
                self._acked_versions.append(version)
            return None
        self._acked |= client in self._probed
        self._pending.discard(client)
        return self._release() if self._probed and not self._pending else None

    def record_nack(self, client: C, version: str, nack: Nack) -> Offer[C] | None:
        """Record that a client NACKed a part of a version; only the NACK of a probe stops the version."""
        return self.stop(version, nack) if client in self._probed else None

    def stop(self, version: str, nack: Nack) -> Offer[C] | None:
        """Stop a version that a probe NACKed, here or in another process; no effect after its release."""
        if self.stage is not Stage.PROBING or version != self.target:
            return None
        if version in self._acked_versions:
            self._acked_versions.remove(version)
        probed, self._probed, self._pending = frozenset(self._probed), set(), set()
        self.stage, self.nack, self.deadline = Stage.NACKED, nack, None
        return Offer(self.last_good, probed)

    def record_disconnect(self, client: C, clients: Iterable[C], now: float) -> Offer[C] | None:
        """Record that a client disconnected; `clients` are those to choose new probes from."""
        self._probed.discard(client)
        if self.stage is not Stage.PROBING or client not in self._pending:
            return None
        self._pending.discard(client)
        if self._pending:
            return None
        if self._acked:
            return self._release()
        self._rounds += 1
        if self._rounds >= _MAX_ROUNDS:
            # The version may be what makes proxies disconnect, so no other proxy receives it.
            message = (
                f"in {self._rounds} rounds, no proxy that received the version ACKed it; "
                "all proxies of the last round disconnected"
            )
            return self.stop(self.target, Nack("", message))
        return self._probe(clients, self.probe_count, now)

    def tick(self, clients: Iterable[C], now: float) -> Offer[C] | None:
        """After the deadline, release the version if a probe ACKed it, or choose new probes of `clients`."""
        if self.stage is not Stage.PROBING or self.deadline is None or now < self.deadline:
            return None
        self._rounds += 1
        if self._acked or self._rounds >= _MAX_ROUNDS:
            return self._release()
        return self._probe(clients, self.probe_count, now)

    def _probe(self, clients: Iterable[C], count: int, now: float) -> Offer[C]:
        fresh = dict.fromkeys(islice((client for client in clients if client not in self._probed), count))
        if not fresh:
            return self._release()
        self.stage, self.deadline = Stage.PROBING, now + self.probe_timeout
        self._probed.update(fresh)
        self._pending = set(fresh)
        return Offer(self.target, frozenset(fresh))

    def _release(self) -> Offer[C]:
        if self._acked and self.target not in self._acked_versions:
            self._acked_versions.append(self.target)
        self.stage, self.last_good, self.deadline = Stage.RELEASED, self.target, None
        self._probed, self._pending = set(), set()
        return Offer(self.target, None)
