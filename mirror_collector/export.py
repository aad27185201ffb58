"""Export of stored pairs as JSON Lines or Parquet."""

from __future__ import annotations

import itertools
from typing import IO, TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from mirror_collector.store import StoredPair

__all__ = ["ExportError", "as_row", "write_jsonl", "write_parquet"]

_ROWS_PER_CHUNK: Final = 1_000


class ExportError(Exception):
    """The export failed; the message gives the reason."""


def as_row(pair: StoredPair, *, bodies: bool) -> dict[str, Any]:
    """Return a pair as one flat record; without `bodies`, it contains no message texts."""
    summary, comparison = pair.summary, pair.summary.get("comparison") or {}
    baseline = comparison.get("floor") or {}
    row: dict[str, Any] = {
        "id": int(summary["id"]),
        "route": summary.get("route"),
        "request_id": summary.get("request_id"),
        "started_at": summary["started_at"],
        "stored_at": summary["stored_at"],
        "primary_variant": summary.get("primary_variant"),
        "shadow_variant": summary.get("shadow_variant"),
        "comparator": comparison.get("version"),
        "api": comparison.get("api"),
        "similarity": summary["similarity"],
        "exact": comparison.get("exact"),
        "rouge_l": comparison.get("rouge_l"),
        "edit": comparison.get("edit"),
        "floor_rouge_l": baseline.get("rouge_l"),
        "floor_edit": baseline.get("edit"),
        "length_ratio": comparison.get("length_ratio"),
        "flags": summary.get("flags", []),
    }
    unread = comparison.get("unread") or {}
    for side in ("primary", "shadow", "noise"):
        measures = comparison.get(side) or {}
        for name in ("status", "first_token_ms", "total_ms", "tokens", "finish_reason"):
            row[f"{side}_{name}"] = measures.get(name)
        row[f"{side}_unread"] = unread.get(side)
        if bodies:
            leg = pair.legs.get(side)
            row[f"{side}_text"] = None if leg is None or leg.reply is None else leg.reply.text
    if bodies:
        primary = pair.legs.get("primary")
        row["request"] = None if primary is None else primary.request.decode("utf-8", "replace")
    return row


def write_jsonl(
    pairs: Iterable[StoredPair], out: IO[bytes], *, bodies: bool, progress: Callable[[int], None]
) -> int:
    """Write one JSON object per line; return the number of pairs.

    Args:
        pairs: the pairs.
        out: the file.
        bodies: whether to include message texts.
        progress: called with the number of pairs written so far.
    """
    written = 0
    for pair in pairs:
        out.write(orjson.dumps(as_row(pair, bodies=bodies)) + b"\n")
        written += 1
        if written % _ROWS_PER_CHUNK == 0:
            progress(written)
    return written


def write_parquet(
    pairs: Iterable[StoredPair], path: Path, *, bodies: bool, progress: Callable[[int], None]
) -> int:
    """Write a Parquet file; return the number of pairs.

    Args:
        pairs: the pairs.
        path: path of the file.
        bodies: whether to include message texts.
        progress: called with the number of pairs written so far.

    Raises:
        ExportError: `pyarrow` is not installed.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra of its own
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise ExportError(
            "the format parquet requires an extra package; install it with: pip install 'shiftplane[parquet]'"
        ) from error
    types = {
        "number": pa.float64(),
        "integer": pa.int64(),
        "text": pa.string(),
        "boolean": pa.bool_(),
        "list": pa.list_(pa.string()),
    }
    schema = pa.schema([(name, types[type_name]) for name, type_name in _columns(bodies=bodies)])
    written = 0
    with parquet.ParquetWriter(path, schema) as writer:
        for chunk in _chunks(pairs):
            rows = [as_row(pair, bodies=bodies) for pair in chunk]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            written += len(rows)
            progress(written)
    return written


def _chunks(pairs: Iterable[StoredPair]) -> Iterator[list[StoredPair]]:
    remaining = iter(pairs)
    while chunk := list(itertools.islice(remaining, _ROWS_PER_CHUNK)):
        yield chunk


def _columns(*, bodies: bool) -> Iterator[tuple[str, str]]:
    yield from (
        ("id", "integer"),
        *((name, "text") for name in ("route", "request_id")),
        *((name, "number") for name in ("started_at", "stored_at")),
        *((name, "text") for name in ("primary_variant", "shadow_variant")),
        ("comparator", "integer"),
        ("api", "text"),
        ("similarity", "number"),
        ("exact", "boolean"),
        *((name, "number") for name in ("rouge_l", "edit", "floor_rouge_l", "floor_edit", "length_ratio")),
        ("flags", "list"),
    )
    for side in ("primary", "shadow", "noise"):
        yield f"{side}_status", "integer"
        yield from ((f"{side}_{name}", "number") for name in ("first_token_ms", "total_ms"))
        yield f"{side}_tokens", "integer"
        yield f"{side}_finish_reason", "text"
        yield f"{side}_unread", "text"
        if bodies:
            yield f"{side}_text", "text"
    if bodies:
        yield "request", "text"
