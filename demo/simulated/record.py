"""Records the requests of a simulated server: counts of all, details of the last ones."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from demo.simulated.modes import FaultMode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Received", "RequestLog"]

_SECRET_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "cookie"})


@dataclass(slots=True, kw_only=True)
class Received:
    """One received request; fields taken from the body are None if it was not read or not valid.

    ``status`` is the status that was sent, None before. ``fault`` is the fault that changed the response.
    """

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

    @property
    def outcome(self) -> str:
        """What the server did: the name of the fault, ``rejected``, or ``ok``."""
        if self.fault is not FaultMode.NONE:
            return str(self.fault.value)
        return "rejected" if self.status is not None and self.status >= 400 else "ok"

    def sent(self, status: int) -> None:
        """Record that the headers were sent."""
        self.status = status

    def document(self, only: Sequence[str]) -> dict[str, Any]:
        """Return the request as JSON; ``only`` names the headers to include, all of them when empty."""
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
    """Counts since the last ``clear``, and the last ``keep`` requests, oldest first."""

    def __init__(self, keep: int) -> None:
        self._last: deque[Received] = deque(maxlen=keep)
        self._counts = _Counts()
        self._running = 0
        self._sequence = 0

    @property
    def running(self) -> int:
        """The number of requests in progress."""
        return self._running

    def begin(self, method: str, path: str, headers: Mapping[str, str]) -> Received:
        """Record an arrived request; the caller calls ``end`` exactly once for it."""
        self._sequence += 1
        self._running += 1
        received = Received(sequence=self._sequence, method=method, path=path, headers=headers)
        self._last.append(received)
        self._counts.total += 1
        self._counts.by_path[path] += 1
        return received

    def end(self, received: Received) -> None:
        """Record that a request ended, with or without a response."""
        self._running -= 1
        counts = self._counts
        counts.aborted += received.aborted
        counts.by_fault[received.fault.value] += 1
        counts.by_status["none" if received.status is None else str(received.status)] += 1
        if received.stream is not None:
            counts.by_mode["stream" if received.stream else "plain"] += 1

    def clear(self) -> None:
        """Reset the counts and the list; requests in progress are still counted when they end."""
        self._last.clear()
        self._counts = _Counts()

    def document(self, *, only: Sequence[str], limit: int) -> dict[str, Any]:
        """Return counts and the last ``limit`` requests as JSON; ``only`` names the headers, all if empty."""
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
