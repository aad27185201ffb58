"""Bringing the legs of one request together again.

Legs come in any order, minutes apart, twice or never. A request waits for what it lacks for one window,
counted from its first leg; what is waiting is bounded in number and in bytes, and the oldest goes first.
Every leg that goes in comes out exactly once: in a `Pair` or as an `Unpaired` with its reason. A pair whose
second copy to the primary's variant was announced waits for that as well, and goes without it at the end of
the window.

The time is a parameter; nothing here waits.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TypeAlias

from mirror_collector.exchange.model import Leg, Pair, RequestId, Role, RouteName, Unpaired, UnpairedReason

__all__ = ["Pairing", "PairingLimits", "Settled"]

Settled: TypeAlias = Pair | Unpaired
_Key: TypeAlias = tuple[RouteName, RequestId]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingLimits:
    """How long and how much may wait."""

    window: float = 180.0
    """Seconds a leg waits for the others; longer than a shadow may take, or a hung shadow goes unnoticed."""

    max_legs: int = 50_000
    max_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        if self.window <= 0 or self.max_legs < 1 or self.max_bytes < 1:
            raise ValueError("the pairing limits must be positive")


@dataclass(slots=True)
class _Waiting:
    deadline: float
    legs: dict[Role, Leg] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether nothing more is to come."""
        primary = self.legs.get(Role.PRIMARY)
        if primary is None or Role.SHADOW not in self.legs:
            return False
        return not primary.expects_noise or Role.NOISE in self.legs

    def settled(self, reason: UnpairedReason | None) -> list[Settled]:
        """What becomes of it; without a `reason` the window is over, and who is missing says why."""
        primary, shadow = self.legs.get(Role.PRIMARY), self.legs.get(Role.SHADOW)
        if primary is not None and shadow is not None:
            return [Pair(primary=primary, shadow=shadow, noise=self.legs.get(Role.NOISE))]
        return [Unpaired(leg=leg, reason=reason or self._missing()) for leg in self.legs.values()]

    def _missing(self) -> UnpairedReason:
        return UnpairedReason.NO_SHADOW if Role.PRIMARY in self.legs else UnpairedReason.NO_PRIMARY


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
        self._legs = 0
        self._bytes = 0
        self._now = float("-inf")

    def __len__(self) -> int:
        """Legs waiting."""
        return self._legs

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
        """Take one leg in; return what it settled: itself, with the others, or those it pushed out."""
        settled: list[Settled] = list(self.expire(now))
        key = (leg.route, leg.request_id)
        done = self._done.get(key)
        if done is not None:
            repeated = leg.role in done.roles
            reason = UnpairedReason.DUPLICATE if repeated else UnpairedReason.LATE
            self._settle(key, done.roles | {leg.role})
            settled.append(Unpaired(leg=leg, reason=reason))
            return tuple(settled)
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = _Waiting(self._now + self._limits.window)
        if leg.role in waiting.legs:
            settled.append(Unpaired(leg=leg, reason=UnpairedReason.DUPLICATE))
            return tuple(settled)
        waiting.legs[leg.role] = leg
        self._legs += 1
        self._bytes += leg.size
        if waiting.whole:
            settled += self._take(key, None)
        else:
            settled += self._evict()
        return tuple(settled)

    def expire(self, now: float) -> tuple[Settled, ...]:
        """Give up on what is missing where the window is over."""
        # A clock set back must not shuffle the deadlines.
        self._now = max(self._now, now)
        while self._done and next(iter(self._done.values())).forget_at <= self._now:
            self._done.popitem(last=False)
        given_up: list[Settled] = []
        while self._waiting and next(iter(self._waiting.values())).deadline <= self._now:
            given_up += self._take(next(iter(self._waiting)), None)
        return tuple(given_up)

    def drain(self, reason: UnpairedReason) -> tuple[Settled, ...]:
        """Give up on everything that is missing."""
        drained: list[Settled] = []
        while self._waiting:
            drained += self._take(next(iter(self._waiting)), reason)
        return tuple(drained)

    def _evict(self) -> list[Settled]:
        evicted: list[Settled] = []
        while self._legs > self._limits.max_legs or self._bytes > self._limits.max_bytes:
            evicted += self._take(next(iter(self._waiting)), UnpairedReason.EVICTED)
        return evicted

    def _take(self, key: _Key, reason: UnpairedReason | None) -> list[Settled]:
        waiting = self._waiting.pop(key)
        settled = waiting.settled(reason)
        self._legs -= len(waiting.legs)
        self._bytes -= sum(leg.size for leg in waiting.legs.values())
        roles = frozenset(waiting.legs)
        # A second copy nobody announced is one too many, whenever it comes.
        paired = waiting.whole and Role.NOISE not in roles
        self._settle(key, roles | {Role.NOISE} if paired else roles)
        return settled

    def _settle(self, key: _Key, roles: frozenset[Role]) -> None:
        self._done.pop(key, None)
        self._done[key] = _Done(roles, self._now + self._limits.window)
        while len(self._done) > self._limits.max_legs:
            self._done.popitem(last=False)
