"""Pairing of the legs of one request.

Legs arrive in any order, possibly minutes apart, repeatedly or never. A request waits for its missing legs
for one window, which starts with its first leg. The number and the size of waiting legs are limited; the
oldest request is evicted first. Each added leg is returned exactly once: in a `Pair`, or as `Unpaired` with a
reason. If a noise leg was announced, the pair also waits for it, and is returned without it at the end of the
window.

The current time is a parameter; nothing here waits.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TypeAlias

from mirror_collector.exchange.model import Leg, Pair, RequestId, Role, RouteName, Unpaired, UnpairedReason

__all__ = ["Pairing", "PairingLimits", "PairingResult"]

PairingResult: TypeAlias = Pair | Unpaired
_Key: TypeAlias = tuple[RouteName, RequestId]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingLimits:
    """How long legs wait, and how many legs and bytes may wait at the same time."""

    window: float = 180.0
    """Seconds a request waits for its legs; must exceed the timeout of the shadow."""

    max_legs: int = 50_000
    max_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        if self.window <= 0 or self.max_legs < 1 or self.max_bytes < 1:
            raise ValueError("the pairing limits must be positive")


@dataclass(slots=True)
class _PendingRequest:
    deadline: float
    legs: dict[Role, Leg] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all expected legs have arrived."""
        primary = self.legs.get(Role.PRIMARY)
        if primary is None or Role.SHADOW not in self.legs:
            return False
        return not primary.expects_noise or Role.NOISE in self.legs

    def results(self, reason: UnpairedReason | None) -> list[PairingResult]:
        """Return the pair, or the unpaired legs; without `reason`, the missing role is the reason."""
        primary, shadow = self.legs.get(Role.PRIMARY), self.legs.get(Role.SHADOW)
        if primary is not None and shadow is not None:
            return [Pair(primary=primary, shadow=shadow, noise=self.legs.get(Role.NOISE))]
        return [Unpaired(leg=leg, reason=reason or self._missing_role()) for leg in self.legs.values()]

    def _missing_role(self) -> UnpairedReason:
        return UnpairedReason.NO_SHADOW if Role.PRIMARY in self.legs else UnpairedReason.NO_PRIMARY


@dataclass(frozen=True, slots=True)
class _SettledRequest:
    """The roles of a settled request, whose legs were returned as a pair or as unpaired.

    Kept for one window to distinguish late legs from duplicates.
    """

    roles: frozenset[Role]
    expires_at: float


class Pairing:
    """The waiting legs, and the requests settled within the last window.

    Not thread-safe.
    """

    def __init__(self, limits: PairingLimits) -> None:
        self._limits = limits
        # All requests wait equally long, so insertion order is the order of deadlines.
        self._pending: OrderedDict[_Key, _PendingRequest] = OrderedDict()
        self._settled: OrderedDict[_Key, _SettledRequest] = OrderedDict()
        self._legs = 0
        self._bytes = 0
        self._now = float("-inf")

    def __len__(self) -> int:
        """Number of waiting legs."""
        return self._legs

    @property
    def waiting_bytes(self) -> int:
        """Size of the waiting legs in bytes, as charged to the limit."""
        return self._bytes

    @property
    def deadline(self) -> float | None:
        """Time of the next expiry; None while no leg waits."""
        first = next(iter(self._pending.values()), None)
        return None if first is None else first.deadline

    def add(self, leg: Leg, now: float) -> tuple[PairingResult, ...]:
        """Add one leg; return the resulting pairs and unpaired legs.

        These are the pair of the leg if it is complete, or the leg itself if it is late or a duplicate, and
        the pairs and legs of requests that expired or were evicted.
        """
        results: list[PairingResult] = list(self.expire(now))
        key = (leg.route, leg.request_id)
        settled = self._settled.get(key)
        if settled is not None:
            duplicate = leg.role in settled.roles
            reason = UnpairedReason.DUPLICATE if duplicate else UnpairedReason.LATE
            self._remember(key, settled.roles | {leg.role})
            results.append(Unpaired(leg=leg, reason=reason))
            return tuple(results)
        pending = self._pending.get(key)
        if pending is None:
            pending = self._pending[key] = _PendingRequest(self._now + self._limits.window)
        if leg.role in pending.legs:
            results.append(Unpaired(leg=leg, reason=UnpairedReason.DUPLICATE))
            return tuple(results)
        pending.legs[leg.role] = leg
        self._legs += 1
        self._bytes += leg.size
        if pending.complete:
            results += self._settle(key, None)
        else:
            results += self._evict()
        return tuple(results)

    def expire(self, now: float) -> tuple[PairingResult, ...]:
        """Settle the requests whose window has ended."""
        # A clock that is set back must not change the order of deadlines.
        self._now = max(self._now, now)
        while self._settled and next(iter(self._settled.values())).expires_at <= self._now:
            self._settled.popitem(last=False)
        expired: list[PairingResult] = []
        while self._pending and next(iter(self._pending.values())).deadline <= self._now:
            expired += self._settle(next(iter(self._pending)), None)
        return tuple(expired)

    def drain(self, reason: UnpairedReason) -> tuple[PairingResult, ...]:
        """Settle all requests; legs that lack a counterpart are unpaired for `reason`."""
        drained: list[PairingResult] = []
        while self._pending:
            drained += self._settle(next(iter(self._pending)), reason)
        return tuple(drained)

    def _evict(self) -> list[PairingResult]:
        evicted: list[PairingResult] = []
        while self._legs > self._limits.max_legs or self._bytes > self._limits.max_bytes:
            evicted += self._settle(next(iter(self._pending)), UnpairedReason.EVICTED)
        return evicted

    def _settle(self, key: _Key, reason: UnpairedReason | None) -> list[PairingResult]:
        pending = self._pending.pop(key)
        results = pending.results(reason)
        self._legs -= len(pending.legs)
        self._bytes -= sum(leg.size for leg in pending.legs.values())
        roles = frozenset(pending.legs)
        # A noise leg that was not announced counts as a duplicate if it arrives after the pair is complete.
        no_noise_expected = pending.complete and Role.NOISE not in roles
        self._remember(key, roles | {Role.NOISE} if no_noise_expected else roles)
        return results

    def _remember(self, key: _Key, roles: frozenset[Role]) -> None:
        self._settled.pop(key, None)
        self._settled[key] = _SettledRequest(roles, self._now + self._limits.window)
        while len(self._settled) > self._limits.max_legs:
            self._settled.popitem(last=False)
