"""Checks of `match`, `timeouts` and `progressDeadline`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from xds_server.spec.check.values import at, duration, items
from xds_server.spec.shape import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["CHECKS"]


def _paths(spec: Any) -> Iterator[Finding]:
    path = at(spec, "match", "path")
    if isinstance(path, dict):
        given = [name for name in ("prefix", "exact") if path.get(name) is not None]
        if len(given) != 1 and not set(path) - {"prefix", "exact"}:
            message = "has both prefix and exact" if given else "has neither prefix nor exact"
            yield Finding(("spec", "match", "path"), message, "set exactly one of prefix and exact")
    hosts = [h.lower() for h in items(at(spec, "match", "hosts")) if isinstance(h, str)]
    for host, count in Counter(hosts).items():
        if count > 1:
            last = len(hosts) - 1 - hosts[::-1].index(host)
            yield Finding(
                ("spec", "match", "hosts", last),
                f"{host!r} is listed more than once",
                "remove the duplicate",
            )


def _timeouts(spec: Any) -> Iterator[Finding]:
    connect = duration(at(spec, "timeouts", "connect"))
    request = duration(at(spec, "timeouts", "request"))
    if connect is not None and request is not None and request <= connect:
        yield Finding(
            ("spec", "timeouts", "request"),
            "is not longer than timeouts.connect, so requests could time out before a connection exists",
            f"use more than {at(spec, 'timeouts', 'connect')}",
        )
    wait = duration(at(spec, "convergence", "timeout"))
    deadline = duration(spec.get("progressDeadline"))
    if wait is not None and deadline is not None and deadline < wait:
        yield Finding(
            ("spec", "progressDeadline"),
            "is shorter than convergence.timeout, so it would pass before lagging proxies are reported",
            f"use at least {at(spec, 'convergence', 'timeout')}",
        )


CHECKS: Final = (_paths, _timeouts)
