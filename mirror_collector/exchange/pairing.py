"""Bringing the legs of one request together again.

Legs come in any order, minutes apart, twice or never. A leg waits for its other half for one window, counted
from its arrival; what is waiting is bounded in number and in bytes, and the oldest goes first. Every leg that
goes in comes out exactly once: in a `Pair` or as an `Unpaired` with its reason.

The time is a parameter; nothing here waits.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeAlias

from mirror_collector.exchange.model import Leg, Pair, RequestId, Role, RouteName, Unpaired, UnpairedReason

__all__ = ["Pairing", "PairingLimits", "Settled"]

Settled: TypeAlias = Pair | Unpaired
_Key: TypeAlias = tuple[RouteName, RequestId]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingLimits:
    """How long and how much may wait."""

    window: float = 180.0
    """Seconds a leg waits for the other; longer than a shadow may take, or a hung shadow goes unnoticed."""

    max_legs: int = 50_000
    max_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        if self.window <= 0 or self.max_legs < 1 or self.max_bytes < 1:
            raise ValueError("the pairing limits must be positive")


@dataclass(frozen=True, slots=True)
class _Waiting:
    leg: Leg
    deadline: float


@dataclass(frozen=True, slots=True)
class _Done:
    """What became of a request lately, so that a straggler is called by its right name."""

    roles: frozenset[Role]
    forget_at: float


class Pairing:
    """The legs that wait, and the requests settled within the last window.

    Not thread-safe; one owner feeds it.
    """

    def __init__(self, limits: PairingLimits) -> None:
        self._limits = limits
        # All waits are equally long, so the order of arrival is the order of deadlines.
        self._waiting: OrderedDict[_Key, _Waiting] = OrderedDict()
        self._done: OrderedDict[_Key, _Done] = OrderedDict()
        self._bytes = 0
        self._now = float("-inf")

    def __len__(self) -> int:
        """Legs waiting."""
        return len(self._waiting)

    @property
    def waiting_bytes(self) -> int:
        """Bytes the waiting legs are accounted for."""
        return self._bytes

    @property
    def deadline(self) -> float | None:
        """When `expire` has something to do next; None while nothing waits."""
        first = next(iter(self._waiting.values()), None)
        return None if first is None else first.deadline

    def add(self, leg: Leg, now: float) -> tuple[Settled, ...]:
        """Take one leg in; return what it settled: itself, with its other half, or those it pushed out."""
        settled: list[Settled] = list(self.expire(now))
        key = (leg.route, leg.request_id)
        done = self._done.get(key)
        other = self._waiting.get(key)
        if done is not None:
            repeated = leg.role in done.roles
            reason = UnpairedReason.DUPLICATE if repeated else UnpairedReason.LATE
            self._settle(key, done.roles | {leg.role})
            settled.append(Unpaired(leg=leg, reason=reason))
        elif other is None:
            self._waiting[key] = _Waiting(leg, self._now + self._limits.window)
            self._bytes += leg.size
            settled += self._evict()
        elif other.leg.role is leg.role:
            settled.append(Unpaired(leg=leg, reason=UnpairedReason.DUPLICATE))
        else:
            self._take(key)
            self._settle(key, frozenset(Role))
            primary, shadow = (leg, other.leg) if leg.role is Role.PRIMARY else (other.leg, leg)
            settled.append(Pair(primary=primary, shadow=shadow))
        return tuple(settled)

    def expire(self, now: float) -> tuple[Unpaired, ...]:
        """Give up on the legs whose window is over."""
        # A clock set back must not shuffle the deadlines.
        self._now = max(self._now, now)
        while self._done and next(iter(self._done.values())).forget_at <= self._now:
            self._done.popitem(last=False)
        given_up: list[Unpaired] = []
        while self._waiting and next(iter(self._waiting.values())).deadline <= self._now:
            leg = self._give_up_oldest()
            given_up.append(Unpaired(leg=leg, reason=_MISSING[leg.role]))
        return tuple(given_up)

    def drain(self, reason: UnpairedReason) -> tuple[Unpaired, ...]:
        """Give up on everything that waits."""
        return tuple(Unpaired(leg=self._give_up_oldest(), reason=reason) for _ in range(len(self._waiting)))

    def _evict(self) -> list[Unpaired]:
        evicted: list[Unpaired] = []
        while len(self._waiting) > self._limits.max_legs or self._bytes > self._limits.max_bytes:
            evicted.append(Unpaired(leg=self._give_up_oldest(), reason=UnpairedReason.EVICTED))
        return evicted

    def _give_up_oldest(self) -> Leg:
        key = next(iter(self._waiting))
        leg = self._take(key)
        self._settle(key, frozenset({leg.role}))
        return leg

    def _take(self, key: _Key) -> Leg:
        leg = self._waiting.pop(key).leg
        self._bytes -= leg.size
        return leg

    def _settle(self, key: _Key, roles: frozenset[Role]) -> None:
        self._done.pop(key, None)
        self._done[key] = _Done(roles, self._now + self._limits.window)
        while len(self._done) > self._limits.max_legs:
            self._done.popitem(last=False)


_MISSING = {Role.PRIMARY: UnpairedReason.NO_SHADOW, Role.SHADOW: UnpairedReason.NO_PRIMARY}
