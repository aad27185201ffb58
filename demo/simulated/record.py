"""What a simulated server received: counts of everything, details of the last requests only."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from demo.simulated.faults import FaultMode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Received", "RequestLog"]

_SECRET_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "cookie"})


@dataclass(slots=True, kw_only=True)
class Received:
    """One request. What the body says (hash, model, stream) is None where it was not read or understood."""

    sequence: int
    method: str
    path: str
    headers: Mapping[str, str]
    fault: FaultMode = FaultMode.NONE
    status: int | None = None
    aborted: bool = False
    stream: bool | None = None
    body_bytes: int | None = None
    body_sha256: str | None = None
    model: str | None = None

    def document(self, only: Sequence[str]) -> dict[str, Any]:
        """As JSON; ``only`` names the headers to show (all when empty)."""
        wanted = frozenset(name.lower() for name in only)
        return {
            "sequence": self.sequence,
            "method": self.method,
            "path": self.path,
            "fault": self.fault.value,
            "status": self.status,
            "aborted": self.aborted,
            "stream": self.stream,
            "body_bytes": self.body_bytes,
            "body_sha256": self.body_sha256,
            "model": self.model,
            "headers": {
                name.lower(): "[redacted]" if name.lower() in _SECRET_HEADERS else value
                for name, value in self.headers.items()
                if not wanted or name.lower() in wanted
            },
        }


@dataclass(slots=True)
class _Counts:
    total: int = 0
    aborted: int = 0
    by_path: Counter[str] = field(default_factory=Counter)
    by_mode: Counter[str] = field(default_factory=Counter)
    by_status: Counter[str] = field(default_factory=Counter)
    by_fault: Counter[str] = field(default_factory=Counter)


class RequestLog:
    """Counts since the last ``clear`` and the last ``keep`` requests, oldest first."""

    def __init__(self, keep: int) -> None:
        self._last: deque[Received] = deque(maxlen=keep)
        self._counts = _Counts()
        self._running = 0
        self._sequence = 0

    @property
    def running(self) -> int:
        """Requests being worked on."""
        return self._running

    def begin(self, method: str, path: str, headers: Mapping[str, str]) -> Received:
        """A request arrived; every ``begin`` is followed by exactly one ``end``."""
        self._sequence += 1
        self._running += 1
        received = Received(sequence=self._sequence, method=method, path=path, headers=headers)
        self._last.append(received)
        self._counts.total += 1
        self._counts.by_path[path] += 1
        return received

    def end(self, received: Received) -> None:
        """A request is over, answered or not."""
        self._running -= 1
        counts = self._counts
        counts.aborted += received.aborted
        counts.by_fault[received.fault.value] += 1
        counts.by_status["none" if received.status is None else str(received.status)] += 1
        if received.stream is not None:
            counts.by_mode["stream" if received.stream else "plain"] += 1

    def clear(self) -> None:
        """Forget what is over; running requests will still be counted when they end."""
        self._last.clear()
        self._counts = _Counts()

    def document(self, *, only: Sequence[str], limit: int) -> dict[str, Any]:
        """As JSON: counts, and the last ``limit`` requests with the headers named in ``only``."""
        shown = list(self._last)[-limit:] if limit else []
        counts = self._counts
        return {
            "total": counts.total,
            "running": self._running,
            "aborted": counts.aborted,
            "by_path": dict(counts.by_path),
            "by_mode": dict(counts.by_mode),
            "by_status": dict(counts.by_status),
            "by_fault": dict(counts.by_fault),
            "by_header": {
                name: dict(Counter(entry.headers.get(name, "") for entry in self._last)) for name in only
            },
            "last": [entry.document(only) for entry in shown],
        }
