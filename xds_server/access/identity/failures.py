"""Limit how often a client may fail, such as by sending wrong secrets.

Each client has a bucket that allows a burst of failures and then one more failure per refill interval. The
number of tracked clients is bounded; the client whose last failure is oldest is evicted first.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

__all__ = ["FailureLimiter", "address_prefix"]


def address_prefix(address: str) -> str:
    """Return the key under which failures of an address are counted.

    The key of an IPv6 address is its /64 network, because one host can use all addresses of that network. The
    key of any other address is the address itself.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4 or found.ipv4_mapped is not None:
        return str(found)
    return str(ipaddress.ip_network((found, 64), strict=False))


class FailureLimiter:
    """A leaky bucket of failures per key; `now` is in seconds of any monotonic clock."""

    def __init__(self, *, burst: int = 10, seconds_each: float = 6.0, capacity: int = 10_000) -> None:
        """Allow `burst` failures, then one per `seconds_each`; track at most `capacity` keys."""
        self._burst = burst
        self._each = seconds_each
        self._capacity = capacity
        # When each bucket will be empty again; the key that failed least recently comes first.
        self._empty_at: OrderedDict[str, float] = OrderedDict()

    def retry_after(self, key: str, now: float) -> float:
        """Return the seconds until the next attempt is allowed; 0 if it is allowed now."""
        empty_at = self._empty_at.get(key, now)
        return max(0.0, empty_at - now - (self._burst - 1) * self._each)

    def record_failure(self, key: str, now: float) -> None:
        """Count a failure."""
        self._empty_at[key] = max(self._empty_at.get(key, now), now) + self._each
        self._empty_at.move_to_end(key)
        while len(self._empty_at) > self._capacity:
            self._empty_at.popitem(last=False)
