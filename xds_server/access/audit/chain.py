"""The hash chain of the audit log: an entry's hash covers the entry, its number and the previous hash.

A changed entry no longer matches its hash, and a missing or moved entry breaks the link to the previous one.
The store keeps the number and hash of the last entry separately, so that entries cut off at the end are
detected as well. An attacker who can rewrite the whole store can build a new valid chain. Only a checkpoint
that is kept elsewhere reveals the rewrite. The control plane therefore logs the number and hash of each entry
in an `audited` line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from xds_server.access.audit.events import AuditEvent, Entry, canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["GENESIS", "Break", "Checkpoint", "entry_hash", "next_entry", "parse_checkpoint", "verify"]

GENESIS: Final = "0" * 64
"""The hash that precedes the first entry."""

_CHECKPOINT: Final = re.compile(r"([0-9]{1,15}):([0-9a-f]{64})")
_FIELDS: Final = tuple(field.name for field in fields(AuditEvent))


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The number and hash of an entry; number 0 with `GENESIS` stands for the empty chain."""

    seq: int
    hash: str


def parse_checkpoint(text: str) -> Checkpoint:
    """Return the checkpoint that a text such as `12:9f86…` denotes.

    Raises:
        ValueError: The text is not a checkpoint; the message shows the allowed form.
    """
    found = _CHECKPOINT.fullmatch(text)
    if found is None:
        raise ValueError(
            f"{text[:100]!r} is not a checkpoint; expected NUMBER:HASH with the fields `seq` and `hash` of a "
            "log event `audited`; HASH has 64 lowercase hexadecimal digits"
        )
    if int(found[1]) == 0:
        raise ValueError(f"{text[:100]!r} is not a checkpoint; the numbers of checkpoints begin at 1")
    return Checkpoint(seq=int(found[1]), hash=found[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """A place where verification of the chain fails."""

    seq: int
    message: str


def entry_hash(seq: int, event: AuditEvent, previous: str) -> str:
    """Return the hash of an entry in hexadecimal."""
    content = {name: getattr(event, name) for name in _FIELDS}
    content |= {"outcome": event.outcome.value, "seq": seq, "previous": previous}
    return sha256(canonical(content).encode()).hexdigest()


def next_entry(event: AuditEvent, last: Checkpoint) -> Entry:
    """Return the entry for an event that follows the last entry of a chain."""
    seq = last.seq + 1
    return Entry(seq=seq, event=event, previous=last.hash, hash=entry_hash(seq, event, last.hash))


def verify(
    entries: Iterable[Entry], head: Checkpoint, checkpoints: Iterable[Checkpoint] = ()
) -> Iterator[Break]:
    """Yield every place where a complete chain is broken.

    Args:
        entries: all stored entries, in the order of their numbers.
        head: the last entry according to the store's separate record.
        checkpoints: entries that are recorded outside of the store.
    """
    expected = {checkpoint.seq: checkpoint.hash for checkpoint in checkpoints}
    last = Checkpoint(seq=0, hash=GENESIS)
    for entry in entries:
        if entry.seq != last.seq + 1:
            yield Break(seq=entry.seq, message=_gap(last.seq, entry.seq))
        elif entry.previous != last.hash:
            yield Break(
                seq=entry.seq,
                message=f"entry {entry.seq} does not contain the hash of the entry before it ({last.seq})",
            )
        if entry_hash(entry.seq, entry.event, entry.previous) != entry.hash:
            yield Break(
                seq=entry.seq, message=f"entry {entry.seq} was changed: its content does not match its hash"
            )
        if expected.pop(entry.seq, entry.hash) != entry.hash:
            yield Break(seq=entry.seq, message=f"entry {entry.seq} does not match its checkpoint")
        last = Checkpoint(seq=entry.seq, hash=entry.hash)
    if last != head:
        yield Break(
            seq=head.seq,
            message=f"the last entry is {last.seq} (hash {last.hash[:12]}), but the store recorded "
            f"entry {head.seq} (hash {head.hash[:12]}) as the last one",
        )
    for seq in sorted(expected):
        yield Break(seq=seq, message=f"entry {seq} is missing, but a checkpoint contains its hash")


def _gap(last: int, found: int) -> str:
    if found == last:
        return f"entry {found} is stored twice"
    if found < last:
        return f"entry {found} is stored after entry {last}"
    # The entries between the two may follow later: then they were moved, not removed.
    place = f"between entries {last} and {found}" if last else f"before entry {found}"
    if found == last + 2:
        return f"entry {last + 1} is missing {place}: it was removed or moved"
    return f"entries {last + 1} to {found - 1} are missing {place}: they were removed or moved"
