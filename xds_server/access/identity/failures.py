"""Who shows wrong secrets too often, and how long they have to wait.

A bucket per address: so many failures at once, then one more each so many seconds. The number of addresses
that are remembered is bounded; the longest forgotten goes first.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

__all__ = ["FailureLimiter", "address_prefix"]


def address_prefix(address: str) -> str:
    """Return what failures of an address count for: of IPv6 its /64, as one host has all of that."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4 or found.ipv4_mapped is not None:
        return str(found)
    return str(ipaddress.ip_network((found, 64), strict=False))


class FailureLimiter:
    """Failures by address; `now` in seconds of any clock that does not go back."""

    def __init__(self, *, burst: int = 10, seconds_each: float = 6.0, most: int = 10_000) -> None:
        """`burst` failures are free, and one more each `seconds_each`; `most` addresses are known."""
        self._burst = burst
        self._each = seconds_each
        self._most = most
        # When the bucket of an address would be empty again; the oldest first.
        self._until: OrderedDict[str, float] = OrderedDict()

    def wait(self, address: str, now: float) -> float:
        """Return for how many seconds this address is not heard; 0 for not at all."""
        until = self._until.get(address, now)
        return max(0.0, until - now - (self._burst - 1) * self._each)

    def note(self, address: str, now: float) -> None:
        """Count a failure."""
        self._until[address] = max(self._until.get(address, now), now) + self._each
        self._until.move_to_end(address)
        while len(self._until) > self._most:
            self._until.popitem(last=False)
