"""Features that depend on the Envoy version of a proxy (pure).

Envoy rejects a whole listener with one unknown extension, so optional extensions are omitted for proxies too
old to have them. Everything else (splits, mirrors, capture, rewriting) is written so that every version from
`OLDEST_ENVOY` on accepts it with the same behavior.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from xds_server.ir.model import NEWEST_ENVOY

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "OLDEST_ENVOY",
    "OPTIONAL_EXTENSIONS",
    "OptionalExtension",
    "discovers_virtual_hosts",
    "is_envoy",
    "minor_version",
    "missing_features",
    "reads_streams",
    "served_as",
    "supported_by",
    "supports_request_statistics",
    "supports_route_body_limit",
    "supports_stats_scope",
    "too_old",
]

OLDEST_ENVOY: Final = 36
"""The oldest Envoy version that configurations are written for, as the minor number of 1.36.

An older proxy receives the configuration for this version and may reject it.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionalExtension:
    """An extension that proxies can work without.

    `since` is the first minor version that has it, `loss` the feature that older versions lack.
    """

    message: str
    since: int
    loss: str


OPTIONAL_EXTENSIONS: Final = (
    OptionalExtension(
        message="envoy.extensions.access_loggers.stats.v3.Config",
        since=37,
        loss="request statistics",
    ),
    OptionalExtension(
        message="envoy.extensions.filters.http.sse_to_metadata.v3.SseToMetadata",
        since=38,
        loss="token statistics of streamed responses",
    ),
)

_ROUTES_LIMIT_BODIES: Final = 37
_DISCOVERS_VIRTUAL_HOSTS: Final = 37
_COUNTS_REQUESTS: Final = 37
_READS_STREAMS: Final = 38
_SCOPES_STATISTICS: Final = 39
_SINCE: Final = {f"type.googleapis.com/{extra.message}": extra.since for extra in OPTIONAL_EXTENSIONS}
_VERSION: Final = re.compile(r"(\d{1,6})\.(\d{1,6})(\.\d{1,6})?", re.ASCII)


class Typed(Protocol):
    """A configuration with a type URL."""

    @property
    def type_url(self) -> str: ...


class Extension(Protocol):
    """An HTTP filter, access logger or anything else with a typed configuration."""

    @property
    def typed_config(self) -> Typed | None: ...


E = TypeVar("E", bound=Extension)


def supported_by(envoy: int, extensions: Iterable[E]) -> list[E]:
    """Return the `extensions` that Envoy 1.`envoy` has; those not listed as optional are always kept."""
    return [
        extension
        for extension in extensions
        if extension.typed_config is None
        or _SINCE.get(extension.typed_config.type_url, OLDEST_ENVOY) <= envoy
    ]


def supports_route_body_limit(envoy: int) -> bool:
    """Return whether a route's own buffer limit applies to filters that read a whole body.

    Older versions accept the limit but answer 413 to bodies above the listener's limit.
    """
    return envoy >= _ROUTES_LIMIT_BODIES


def supports_request_statistics(envoy: int) -> bool:
    """Return whether a proxy can count requests by variant."""
    return envoy >= _COUNTS_REQUESTS


def reads_streams(envoy: int) -> bool:
    """Return whether a proxy can read values from the events of a stream."""
    return envoy >= _READS_STREAMS


def supports_stats_scope(envoy: int) -> bool:
    """Return whether a statistics logger has a scope; older versions have a prefix instead."""
    return envoy >= _SCOPES_STATISTICS


def discovers_virtual_hosts(version: str) -> bool:
    """Return whether a proxy supports VHDS over its ADS stream.

    Older versions reject a table that requests it. A client without a version is not treated as Envoy.
    """
    minor = _minor(version)
    return minor is not None and minor >= _DISCOVERS_VIRTUAL_HOSTS


def is_envoy(version: str) -> bool:
    """Return whether this is a version that Envoy reports; other clients report none."""
    return _minor(version) is not None


def minor_version(version: str) -> int:
    """Return the minor number that Envoy reports: `1.38.3` → 38; that of the newest version if unreadable."""
    minor = _minor(version)
    return NEWEST_ENVOY if minor is None else minor


def served_as(version: str) -> int:
    """Return the minor version to write for, given what the proxy reports, such as `1.38.3`.

    An unreadable version is treated as the newest, and so is one newer than `NEWEST_ENVOY`: Envoy stays
    compatible with older configurations for a long time.
    """
    minor = _minor(version)
    return NEWEST_ENVOY if minor is None else min(max(minor, OLDEST_ENVOY), NEWEST_ENVOY)


def too_old(version: str) -> bool:
    """Return whether a proxy is older than every version that configurations are written for."""
    minor = _minor(version)
    return minor is not None and minor < OLDEST_ENVOY


def missing_features(version: str) -> tuple[str, ...]:
    """Return the features that a proxy of this version lacks, as text for operators."""
    envoy = served_as(version)
    found = []
    if too_old(version):
        found.append(
            f"unsupported Envoy version: the proxy receives the configuration for Envoy 1.{OLDEST_ENVOY}"
        )
    if not supports_route_body_limit(envoy):
        found.append(
            f"before Envoy 1.{_ROUTES_LIMIT_BODIES}, a client that reads slowly can occupy up to 64 MiB of "
            "proxy memory"
        )
    found += [
        f"before Envoy 1.{e.since}, proxies report no {e.loss}"
        for e in OPTIONAL_EXTENSIONS
        if e.since > envoy
    ]
    return tuple(found)


def _minor(version: str) -> int | None:
    """Return the minor number of a version 1.x; None for any other text."""
    found = _VERSION.fullmatch(version)
    return int(found[2]) if found is not None and found[1] == "1" else None
