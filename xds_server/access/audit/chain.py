"""The chain: each entry's hash covers the entry, its number and the hash before it.

A changed entry no longer has its hash, a missing or moved one no longer follows, and one cut off at the end
is missed because the store keeps the number and hash of the last one apart. Whoever may rewrite the whole
file can make a new chain that fits: only an anchor kept elsewhere shows that, such as the `audited` lines of
the log, each of which names an entry and its hash.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from xds_server.access.audit.events import AuditEvent, Entry, canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["GENESIS", "Break", "Checkpoint", "chained", "hash_of", "parse_checkpoint", "verify"]

GENESIS: Final = "0" * 64
"""What stands for the hash before the first entry."""

_ANCHOR: Final = re.compile(r"([0-9]{1,15}):([0-9a-f]{64})")
_FIELDS: Final = tuple(field.name for field in fields(AuditEvent))


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """An entry that is known from elsewhere; number 0 with `GENESIS` is the empty chain."""

    seq: int
    hash: str


def parse_checkpoint(text: str) -> Checkpoint:
    """Return the anchor that a text such as `12:9f86…` names.

    Raises:
        ValueError: It names none; the message says what is allowed.
    """
    found = _ANCHOR.fullmatch(text)
    if found is None:
        raise ValueError(
            f"{text[:100]!r} is no entry; NUMBER:HASH is allowed, as in the `audited` lines of the log"
        )
    return Checkpoint(seq=int(found[1]), hash=found[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """A place where the chain does not hold."""

    seq: int
    words: str


def hash_of(seq: int, deed: AuditEvent, previous: str) -> str:
    """Return the hash of an entry, in hexadecimal."""
    said = {name: getattr(deed, name) for name in _FIELDS}
    said |= {"outcome": deed.outcome.value, "seq": seq, "previous": previous}
    return sha256(canonical(said).encode()).hexdigest()


def chained(deed: AuditEvent, last: Checkpoint) -> Entry:
    """Return the entry that puts a deed after the last one."""
    seq = last.seq + 1
    return Entry(seq=seq, deed=deed, previous=last.hash, hash=hash_of(seq, deed, last.hash))


def verify(entries: Iterable[Entry], head: Checkpoint, anchors: Iterable[Checkpoint] = ()) -> Iterator[Break]:
    """Yield every place where a whole chain does not hold.

    Args:
        entries: all of them, as they are kept, in the order of their numbers.
        head: what is known to be the last one.
        anchors: entries that are known from elsewhere.
    """
    known = {anchor.seq: anchor.hash for anchor in anchors}
    last = Checkpoint(seq=0, hash=GENESIS)
    for entry in entries:
        if entry.seq != last.seq + 1:
            yield Break(seq=entry.seq, words=_gap(last.seq, entry.seq))
        elif entry.previous != last.hash:
            yield Break(seq=entry.seq, words=f"entry {entry.seq} does not follow entry {last.seq}")
        if hash_of(entry.seq, entry.deed, entry.previous) != entry.hash:
            yield Break(seq=entry.seq, words=f"entry {entry.seq} was changed: it does not have its own hash")
        if known.pop(entry.seq, entry.hash) != entry.hash:
            yield Break(seq=entry.seq, words=f"entry {entry.seq} is not the one that is known from elsewhere")
        last = Checkpoint(seq=entry.seq, hash=entry.hash)
    if last != head:
        yield Break(
            seq=head.seq,
            words=f"the chain ends at entry {last.seq} ({last.hash[:12]}), "
            f"not at entry {head.seq} ({head.hash[:12]})",
        )
    for seq in sorted(known):
        yield Break(seq=seq, words=f"entry {seq} is known from elsewhere and is not there")


def _gap(last: int, found: int) -> str:
    if found <= last:
        return f"entry {found} stands after entry {last}"
    missing = f"entry {last + 1} is" if found == last + 2 else f"entries {last + 1} to {found - 1} are"
    return f"{missing} missing"
