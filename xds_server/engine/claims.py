"""Whose requests a route would take: what its match has in common with those of other routes (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xds_server.spec import ModelRoute

__all__ = ["same_match", "takes_from"]


def same_match(one: ModelRoute, other: ModelRoute) -> bool:
    """Return whether two specs claim the same requests of the same proxies."""
    return one.spec.match == other.spec.match and one.spec.proxies == other.spec.proxies


def takes_from(new: ModelRoute, other: ModelRoute) -> bool:
    """Return whether requests that go to `other` would go to `new`: it claims a part of the same, more closely."""
    if new.spec.proxies.group != other.spec.proxies.group:
        return False
    path = new.spec.match.path.exact or new.spec.match.path.prefix or "/"
    wider = other.spec.match.path
    within = path == wider.exact if wider.exact else path.startswith(wider.prefix or "/")
    return within and any(
        _within(host.lower(), claimed.lower()) for host in new.spec.match.hosts for claimed in other.spec.match.hosts
    )


def _within(host: str, claimed: str) -> bool:
    """Return whether all names of one claim to hosts are of another; `*` and `*.example.com` claim many."""
    if claimed == "*" or host == claimed:
        return True
    return claimed.startswith("*") and host.endswith(claimed[1:])
