"""The one place where the version of a proxy matters: what not every Envoy knows, and since when (pure).

An Envoy refuses a whole listener for one extension it was not built with, so what is optional is left out for
proxies too old to know it. What is not optional (splits, mirrors, capture, rewriting) is written in a way
that every version from `OLDEST_ENVOY` on takes, and that does the same in all of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from xds_server.ir.model import NEWEST_ENVOY

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "EXTRAS",
    "OLDEST_ENVOY",
    "Extra",
    "counts_requests",
    "discovers_virtual_hosts",
    "is_envoy",
    "known",
    "reduced",
    "routes_limit_bodies",
    "scopes_statistics",
    "served_as",
    "too_old",
]

OLDEST_ENVOY: Final = 36
"""The oldest Envoy a world is written for; an older one is told the same, and may refuse it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """An extension that proxies can do without.

    `since` is the first version that has it, `loss` what an operator goes without before.
    """

    message: str
    since: int
    loss: str


EXTRAS: Final = (
    Extra(
        message="envoy.extensions.access_loggers.stats.v3.Config",
        since=37,
        loss="request statistics",
    ),
    Extra(
        message="envoy.extensions.filters.http.sse_to_metadata.v3.SseToMetadata",
        since=38,
        loss="token statistics of streams",
    ),
)

_ROUTES_LIMIT_BODIES: Final = 37
_DISCOVERS_VIRTUAL_HOSTS: Final = 37
_COUNTS_REQUESTS: Final = 37
_SCOPES_STATISTICS: Final = 39
_SINCE: Final = {f"type.googleapis.com/{extra.message}": extra.since for extra in EXTRAS}
_VERSION: Final = re.compile(r"(\d{1,6})\.(\d{1,6})(\.\d{1,6})?", re.ASCII)


class Typed(Protocol):
    """A configuration that says of which type it is."""

    @property
    def type_url(self) -> str: ...


class Extension(Protocol):
    """An HTTP filter, an access logger: anything with a typed configuration."""

    @property
    def typed_config(self) -> Typed | None: ...


E = TypeVar("E", bound=Extension)


def known(envoy: int, extensions: Iterable[E]) -> list[E]:
    """Return those of `extensions` that Envoy 1.`envoy` has; what is no extra all of them have."""
    return [
        extension
        for extension in extensions
        if extension.typed_config is None
        or _SINCE.get(extension.typed_config.type_url, OLDEST_ENVOY) <= envoy
    ]


def routes_limit_bodies(envoy: int) -> bool:
    """Return whether a route's own limit counts where a filter reads a whole body.

    Before, Envoy takes that limit without a word and answers 413 to whatever the listener does not let in.
    """
    return envoy >= _ROUTES_LIMIT_BODIES


def counts_requests(envoy: int) -> bool:
    """Return whether a proxy can count requests by variant."""
    return envoy >= _COUNTS_REQUESTS


def scopes_statistics(envoy: int) -> bool:
    """Return whether a logger of statistics has a scope; before, it has a prefix that is deprecated later."""
    return envoy >= _SCOPES_STATISTICS


def discovers_virtual_hosts(version: str) -> bool:
    """Return whether a proxy can be told its virtual hosts one by one, over the stream it has.

    Before, Envoy refuses a table that asks for it. Who does not say a version is not known to be an Envoy.
    """
    minor = _minor(version)
    return minor is not None and minor >= _DISCOVERS_VIRTUAL_HOSTS


def is_envoy(version: str) -> bool:
    """Return whether this is a version an Envoy says of itself; other clients say none."""
    return _minor(version) is not None


def served_as(version: str) -> int:
    """Return the minor number of the version to write for, from what a proxy says of itself, as `1.38.3`.

    One that says nothing readable is taken for the newest, and so is one newer than all we know: Envoy goes
    on reading for a long time what it once could read.
    """
    minor = _minor(version)
    return NEWEST_ENVOY if minor is None else min(max(minor, OLDEST_ENVOY), NEWEST_ENVOY)


def too_old(version: str) -> bool:
    """Return whether a proxy is older than every version worlds are written for."""
    minor = _minor(version)
    return minor is not None and minor < OLDEST_ENVOY


def reduced(version: str) -> tuple[str, ...]:
    """Return in what a proxy falls short of the newest for its age, in an operator's words."""
    envoy = served_as(version)
    found = []
    if too_old(version):
        found.append(f"older than 1.{OLDEST_ENVOY}, served as 1.{OLDEST_ENVOY}")
    if not routes_limit_bodies(envoy):
        found.append(f"a client that reads slowly may hold 64 MiB before 1.{_ROUTES_LIMIT_BODIES}")
    found += [f"no {e.loss} before 1.{e.since}" for e in EXTRAS if e.since > envoy]
    return tuple(found)


def _minor(version: str) -> int | None:
    """Return the minor number of a version 1.x; None for what is no version, or a later major one."""
    found = _VERSION.fullmatch(version)
    return int(found[2]) if found is not None and found[1] == "1" else None
