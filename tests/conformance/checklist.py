"""The checklist this suite answers: what a control plane must get right on the wire, one line per item."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CHECKLIST", "Item"]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to get right. `note` says what is not claimed; `left_out` why there is no test at all."""

    title: str
    note: str = ""
    left_out: str = ""


CHECKLIST = {
    1: Item("the first request names its node", "locality is not kept: nothing depends on it"),
    2: Item("a request names its type; unknown types are survived"),
    3: Item("types on one stream do not disturb each other"),
    4: Item("a second request before any answer supersedes the first"),
    5: Item("an ended stream leaves nothing behind; of two streams of one node the newer counts"),
    6: Item("every response has a fresh nonce, its type and a version"),
    7: Item("an acknowledgement is answered by silence"),
    8: Item("a refusal is recorded and the refused version not repeated", "its status code is not kept"),
    9: Item("a first-ever refusal is a refusal"),
    10: Item("state-of-the-world: a stale nonce acknowledges nothing, its names count"),
    11: Item("delta: a stale nonce acknowledges nothing, its subscriptions count"),
    12: Item("a nonce of another stream does not spoil a first request"),
    13: Item("versions are hashes of content, the same on every replica"),
    14: Item("no change, no message"),
    15: Item("naming nothing means everything for clusters and listeners"),
    16: Item("naming nothing after a name means nothing"),
    17: Item("a wildcard can be left while names are kept"),
    18: Item("naming nothing means nothing for endpoints and routes"),
    19: Item("state-of-the-world: an added name is sent, changed or not"),
    20: Item("state-of-the-world: full sets for clusters and listeners, partial ones for others"),
    21: Item("state-of-the-world: a missing name is remembered and sent when it appears"),
    22: Item("delta: subscriptions add up, and one repeated forces an answer"),
    23: Item("delta: an unsubscription is answered only under a wildcard"),
    24: Item("delta: implicit and explicit wildcard, and leaving them"),
    25: Item("delta: a missing name is said to be missing, once"),
    26: Item("delta: a deletion is said once, a resource that returns is sent"),
    27: Item("delta: what a reconnecting client holds is not sent again, what it names is"),
    28: Item("a first wildcard request is answered even if there is nothing to send"),
    29: Item(
        "virtual hosts on demand (aliases)",
        left_out="a proxy is sent all virtual hosts of its table, so no request makes it ask for one more",
    ),
    30: Item("no response names a resource twice"),
    31: Item(
        "collections by xdstp glob",
        left_out="names are plain; proxies that know none of theirs use the wildcard",
    ),
    32: Item("additions travel before what refers to them, removals after"),
    33: Item("endpoints are sent again after their cluster changed"),
    34: Item("routes are sent again for a changed listener when asked for"),
    35: Item("routes never refer to a refused cluster"),
    36: Item("newer worlds replace what waits, and none goes backwards"),
    37: Item("a world with a dangling reference is never published"),
    38: Item("resources never expire", "time-to-live itself is left out: no resource here is temporary"),
    39: Item("every response names the replica that answered"),
    40: Item(
        "errors of single resources",
        left_out="optional in the protocol; that there is no such resource is said by its removal, and "
        "nothing else can be wrong with a single one: a world is built whole or not at all",
    ),
    41: Item("large requests and responses pass"),
    42: Item("a slow client costs one slot, delays nobody and is disconnected"),
    43: Item("a stopping server drains its streams"),
    44: Item("a server that is not ready takes no streams"),
    45: Item("a node proves who it is"),
    46: Item("hostile input ends at most its own stream"),
    47: Item("a service for each type", "REST is left out: proxies that poll learn of a rollback too late"),
    48: Item("a storm of reconnects is absorbed"),
}
