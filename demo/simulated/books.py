"""Exact counts of what the server did: per API, outcome and status."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from demo.simulated.wire import Api

__all__ = ["Books"]


class Books:
    """Counts since the last ``clear``.

    An outcome is the name of the fault that changed the response, ``ok`` for a sound answer, or ``rejected``
    for a request that the server did not accept. The status is that of the response, None without a response.
    """

    def __init__(self) -> None:
        self._ended: Counter[tuple[Api, str, int | None]] = Counter()
        self._aborted: Counter[tuple[Api, str, int | None]] = Counter()
        self._running: Counter[Api] = Counter()

    def begin(self, api: Api) -> None:
        """Count an arrived request as running."""
        self._running[api] += 1

    def end(self, api: Api, outcome: str, status: int | None, *, aborted: bool) -> None:
        """Count the end of a request; ``aborted`` is whether the client disconnected before the end."""
        self._running[api] -= 1
        self._ended[api, outcome, status] += 1
        self._aborted[api, outcome, status] += aborted

    def clear(self) -> None:
        """Reset the counts; requests in progress are still counted when they end."""
        self._ended.clear()
        self._aborted.clear()

    def document(self) -> dict[str, Any]:
        """Return the counts as JSON; ``count`` includes the requests counted in ``aborted``."""
        entries = [
            {
                "api": api.value,
                "outcome": outcome,
                "status": status,
                "count": count,
                "aborted": self._aborted[api, outcome, status],
            }
            for (api, outcome, status), count in self._ended.items()
        ]
        entries.sort(key=lambda entry: (entry["api"], entry["outcome"], entry["status"] or 0))
        running = {api.value: count for api, count in self._running.items() if count}
        return {"total": self._ended.total(), "running": running, "entries": entries}
