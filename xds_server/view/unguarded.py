"""What guards do not cover in a group of proxies, as text for operators (pure)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from xds_server.ir.versions import is_envoy, minor_version, reads_streams, supports_request_statistics

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["unguarded"]


def unguarded(versions: Iterable[str], *, token_statistics: bool) -> tuple[str, ...]:
    """Return what guards do not cover, given the Envoy version of each connected proxy.

    Clients other than Envoy are omitted. Without `token_statistics`, no proxy reads answers.
    """
    counted = Counter(minor_version(version) for version in versions if is_envoy(version))
    found = []
    for minor, number in sorted(counted.items()):
        proxies = f"Envoy 1.{minor} ({number} {'proxy' if number == 1 else 'proxies'})"
        whose = "it is" if number == 1 else "they are"
        if not supports_request_statistics(minor):
            found.append(f"{proxies} counts no requests: {whose} not guarded")
        elif token_statistics and not reads_streams(minor):
            found.append(f"{proxies} does not read streams: faults inside streamed answers are not found")
    if not token_statistics:
        found.append(
            "proxies read no answers (serve --token-statistics off), so faults inside answers are not found"
        )
    return tuple(found)
