"""Whose requests a route would take: what its match has in common with those of other routes (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xds_server.spec import ModelRoute, PathMatch

__all__ = ["same_claim", "takes_from"]


def same_claim(one: ModelRoute, other: ModelRoute) -> bool:
    """Return whether two specs claim the same requests of the same proxies."""
    return one.spec.match == other.spec.match and one.spec.proxies == other.spec.proxies


def takes_from(new: ModelRoute, other: ModelRoute) -> bool:
    """Return whether some requests that `other` claims would go to `new`.

    Proxies look for the narrowest host first, whatever its paths, and for the longest path within it.
    """
    if new.spec.proxies.group != other.spec.proxies.group:
        return False
    ours, theirs = new.spec.match, other.spec.match
    for host in map(str.lower, ours.hosts):
        for claimed in map(str.lower, theirs.hosts):
            if host == claimed and _within(ours.path, theirs.path):
                return True
            if host != claimed and _covers(claimed, host) and _meet(ours.path, theirs.path):
                return True
    return False


def _covers(claimed: str, host: str) -> bool:
    """Return whether a claim to hosts holds another: `*` and `*.example.com` hold many."""
    return claimed == "*" or (claimed.startswith("*") and host.endswith(claimed[1:]))


def _meet(one: PathMatch, other: PathMatch) -> bool:
    return _within(one, other) or _within(other, one)


def _within(inner: PathMatch, outer: PathMatch) -> bool:
    """Return whether all paths of one are paths of the other."""
    if outer.exact is not None:
        return inner.exact == outer.exact
    return (inner.exact or inner.prefix or "/").startswith(outer.prefix or "/")
