"""Which requests a route claims, and whether a new claim takes requests of another route (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xds_server.spec import ModelRoute, PathMatch

__all__ = ["same_claim", "takes_from"]


def same_claim(one: ModelRoute, other: ModelRoute) -> bool:
    """Return whether two specs claim the same requests of the same proxies."""
    return one.spec.match == other.spec.match and one.spec.proxies == other.spec.proxies


def takes_from(new: ModelRoute, other: ModelRoute) -> bool:
    """Return whether proxies would route to `new` some of the requests that `other` claims.

    A proxy selects the virtual host with the narrowest host first, then the route with the longest path.
    """
    if new.spec.proxies.group != other.spec.proxies.group:
        return False
    new_match, other_match = new.spec.match, other.spec.match
    for host in map(str.lower, new_match.hosts):
        for claimed in map(str.lower, other_match.hosts):
            if host == claimed and _within(new_match.path, other_match.path):
                return True
            if host != claimed and _covers(claimed, host) and _overlap(new_match.path, other_match.path):
                return True
    return False


def _covers(claimed: str, host: str) -> bool:
    """Return whether a host pattern (`*` or `*.example.com`) covers a different host or pattern."""
    return claimed == "*" or (claimed.startswith("*") and host.endswith(claimed[1:]))


def _overlap(one: PathMatch, other: PathMatch) -> bool:
    return _within(one, other) or _within(other, one)


def _within(inner: PathMatch, outer: PathMatch) -> bool:
    """Return whether every path that `inner` matches is matched by `outer`."""
    if outer.exact is not None:
        return inner.exact == outer.exact
    return (inner.exact or inner.prefix or "/").startswith(outer.prefix or "/")
