"""The checklist of the conformance suite: the requirements that a control plane must meet on the wire."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CHECKLIST", "Item"]


@dataclass(frozen=True, slots=True)
class Item:
    """One requirement. `note` is a limitation; `left_out` is the reason if there is no test."""

    title: str
    note: str = ""
    left_out: str = ""


CHECKLIST = {
    1: Item("the first request must contain its node", "locality is not stored: nothing depends on it"),
    2: Item("a request must contain its type; unknown types are not an error"),
    3: Item("the types on one stream are independent"),
    4: Item("a second request before the first response replaces the first"),
    5: Item("a closed stream leaves no state; of two streams of one node the newer counts"),
    6: Item("every response has a new nonce, its type and a version"),
    7: Item("an ACK gets no response"),
    8: Item("a NACK is recorded and the NACKed version is not sent again", "its status code is not stored"),
    9: Item("a NACK of the first response is a NACK"),
    10: Item("SotW: a stale nonce is no ACK, but its names change the subscription"),
    11: Item("delta: a stale nonce is no ACK, but its names change the subscription"),
    12: Item("a nonce of another stream in a first request has no effect"),
    13: Item("versions are hashes of content, the same on every replica"),
    14: Item("without a change there is no response"),
    15: Item("an empty first list is a wildcard for clusters and listeners"),
    16: Item("an empty list after a name subscribes to nothing"),
    17: Item("a client can end a wildcard and keep names"),
    18: Item("an empty list subscribes to nothing for endpoints and routes"),
    19: Item("SotW: an added name is sent, changed or not"),
    20: Item("SotW: responses are full sets for clusters and listeners, and partial for other types"),
    21: Item("SotW: a missing name stays subscribed and is sent when it exists"),
    22: Item("delta: subscriptions accumulate, and a repeated one gets a response"),
    23: Item("delta: an unsubscription gets a response under a wildcard only"),
    24: Item("delta: implicit and explicit wildcards start and end"),
    25: Item("delta: a missing name is sent as removed, once"),
    26: Item("delta: a removal is sent once, and a resource that exists again is sent"),
    27: Item("delta: a reconnected client receives what it lacks, and every name it subscribes to"),
    28: Item("a first wildcard request gets a response, even an empty one"),
    29: Item(
        "virtual hosts on demand (aliases)",
        left_out="a proxy receives all virtual hosts of its table, so no request needs another one",
    ),
    30: Item("no response contains a resource twice"),
    31: Item(
        "collections by xdstp glob",
        left_out="names are plain; clients without names use the wildcard",
    ),
    32: Item("added resources are sent before those that refer to them, removals after"),
    33: Item("endpoints are sent again after their cluster changed"),
    34: Item("routes are sent again when a changed listener subscribes to them"),
    35: Item("routes never refer to a NACKed cluster"),
    36: Item("a newer snapshot replaces an unsent one, and no version is sent after a newer one"),
    37: Item("a snapshot with a dangling reference is never published"),
    38: Item("resources never expire", "time-to-live is not supported: no resource here is temporary"),
    39: Item("every response identifies the replica that sent it"),
    40: Item(
        "errors of single resources",
        left_out="optional in the protocol; a resource that does not exist is sent as removed, and a single "
        "resource has no other errors: a snapshot is built as a whole or not at all",
    ),
    41: Item("large requests and responses are supported"),
    42: Item("a slow client occupies one place, delays no other client and is disconnected"),
    43: Item("a stopping server drains its streams"),
    44: Item("a server that is not ready accepts no streams"),
    45: Item("a node is authenticated"),
    46: Item("invalid input ends at most its own stream"),
    47: Item(
        "each type has a service", "REST is left out: polling proxies would learn of a rollback too late"
    ),
    48: Item("a reconnect storm is absorbed"),
}
