"""Who is told of a new world first: a few probes, then everybody (pure).

A proxy that refuses its configuration keeps serving what it had, but one that starts anew while a bad version
is out would have nothing. So a version that was not accepted before goes to a few proxies, the probes, and
proxies that start meanwhile are given the last good one. When all probes have accepted it, it goes to all.
The first refusal by a probe stops it: probes are given the good version again, and nobody else here is told
of the bad one. Silence is no refusal: probes that say nothing are passed over, and a version that met nothing
worse goes to all. One on which round after round of probes went away is stopped.

The very first version goes to all, for there is nothing to fall back to, unless another process knows what is
good (`recall`). A refusal after a version went to all is one proxy's own matter.

Clients are opaque; time is a parameter that never goes back; versions are content hashes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import Final, Generic, TypeVar

__all__ = ["Nack", "Offer", "ProbeRollout", "Stage"]

_ROUNDS: Final = 3
_PROVEN: Final = 32

C = TypeVar("C", bound=Hashable)


class Stage(Enum):
    """Where the newest version stands."""

    RELEASED = "released"
    PROBING = "probing"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Offer(Generic[C]):
    """Give `version` to these clients; None means all of them."""

    version: str
    clients: frozenset[C] | None


@dataclass(frozen=True, slots=True)
class Nack:
    """Who refused the newest version, and in which words."""

    node: str
    words: str


@dataclass(slots=True, kw_only=True)
class ProbeRollout(Generic[C]):
    """The newest version (`target`) of one class of proxies, the last `good` one, and how far it has got.

    `size` probes are asked at a time, all of them `patience` seconds before the next; `deadline` is when.
    """

    size: int = 3
    patience: float = 2.0
    good: str = ""
    target: str = ""
    stage: Stage = Stage.RELEASED
    refusal: Nack | None = None
    deadline: float | None = None
    _told: set[C] = field(default_factory=set)
    _waiting: set[C] = field(default_factory=set)
    _agreed: bool = False
    _rounds: int = 0
    _proven: deque[str] = field(default_factory=lambda: deque(maxlen=_PROVEN))

    @property
    def for_newcomers(self) -> str:
        """The version a client is given that connects now."""
        return self.target if self.stage is Stage.RELEASED else self.good

    def publish(self, version: str, clients: Iterable[C], now: float) -> Offer[C] | None:
        """Take a new version; a version that was accepted before needs no probes."""
        if version == self.target:
            return None
        self.target, self.refusal, self._rounds, self._agreed = version, None, 0, False
        if not self.good or version == self.good or version in self._proven:
            return self._release()
        # Who was told of an abandoned version must be told of this one.
        former = self._told if self.stage is Stage.PROBING else set()
        self._told = set()
        return self._probe([*former, *clients], max(self.size, len(former)), now)

    def recall(self, good: str, target: str, refusal: Nack | None, now: float) -> Offer[C]:
        """Take over what was found elsewhere: all are given the good version, the newest is held back.

        One that nobody refused yet is offered to probes in a moment, once clients hold the good one.
        """
        self.good, self.target, self.refusal = good, target, refusal
        self._told, self._waiting, self._rounds, self._agreed = set(), set(), 0, False
        self.stage = Stage.PROBING if refusal is None else Stage.REFUSED
        self.deadline = now + self.patience if refusal is None else None
        return Offer(good, None)

    def accepted(self, client: C, version: str) -> Offer[C] | None:
        """Hear that a client holds all of a version."""
        if self.stage is not Stage.PROBING or version != self.target:
            if version not in self._proven and version == self.good:
                self._proven.append(version)
            return None
        self._agreed |= client in self._told
        self._waiting.discard(client)
        return self._release() if self._told and not self._waiting else None

    def refused(self, client: C, version: str, refusal: Nack) -> Offer[C] | None:
        """Hear that a client refused a part of a version."""
        return self.stop(version, refusal) if client in self._told else None

    def stop(self, version: str, refusal: Nack) -> Offer[C] | None:
        """Hear that a version was refused somewhere; one that everybody has already stays with them."""
        if self.stage is not Stage.PROBING or version != self.target:
            return None
        if version in self._proven:
            self._proven.remove(version)
        told, self._told, self._waiting = frozenset(self._told), set(), set()
        self.stage, self.refusal, self.deadline = Stage.REFUSED, refusal, None
        return Offer(self.good, told)

    def left(self, client: C, clients: Iterable[C], now: float) -> Offer[C] | None:
        """Hear that a client has gone."""
        self._told.discard(client)
        if self.stage is not Stage.PROBING or client not in self._waiting:
            return None
        self._waiting.discard(client)
        if self._waiting:
            return None
        if self._agreed:
            return self._release()
        self._rounds += 1
        if self._rounds >= _ROUNDS:
            # Whoever is told of it goes away: others are spared until there is another version.
            words = f"{self._rounds} rounds of probes went away when they were told of it"
            return self.stop(self.target, Nack("nobody left to say why", words))
        return self._probe(clients, self.size, now)

    def tick(self, clients: Iterable[C], now: float) -> Offer[C] | None:
        """Hear what time it is: silent probes are passed over."""
        if self.stage is not Stage.PROBING or self.deadline is None or now < self.deadline:
            return None
        self._rounds += 1
        if self._agreed or self._rounds >= _ROUNDS:
            return self._release()
        return self._probe(clients, self.size, now)

    def _probe(self, clients: Iterable[C], size: int, now: float) -> Offer[C]:
        fresh = dict.fromkeys(islice((client for client in clients if client not in self._told), size))
        if not fresh:
            return self._release()
        self.stage, self.deadline = Stage.PROBING, now + self.patience
        self._told.update(fresh)
        self._waiting = set(fresh)
        return Offer(self.target, frozenset(fresh))

    def _release(self) -> Offer[C]:
        if self._agreed and self.target not in self._proven:
            self._proven.append(self.target)
        self.stage, self.good, self.deadline = Stage.RELEASED, self.target, None
        self._told, self._waiting = set(), set()
        return Offer(self.target, None)
