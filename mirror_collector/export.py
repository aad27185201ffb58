"""Stored pairs as files for other programs: JSON lines, or Parquet for analysts."""

from __future__ import annotations

import itertools
from typing import IO, TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from mirror_collector.store import StoredPair

__all__ = ["ExportError", "as_row", "write_jsonl", "write_parquet"]

_CHUNK: Final = 1_000


class ExportError(Exception):
    """It cannot be written; the message says why."""


def as_row(pair: StoredPair, *, bodies: bool) -> dict[str, Any]:
    """Return a pair as one flat record; without `bodies` nothing of what was said."""
    listed, found = pair.listed, pair.listed.get("comparison") or {}
    floor = found.get("floor") or {}
    row: dict[str, Any] = {
        "id": int(listed["id"]),
        "route": listed.get("route"),
        "request_id": listed.get("request_id"),
        "started_at": listed["started_at"],
        "stored_at": listed["stored_at"],
        "primary_variant": listed.get("primary_variant"),
        "shadow_variant": listed.get("shadow_variant"),
        "comparator": found.get("version"),
        "similarity": listed["similarity"],
        "exact": found.get("exact"),
        "rouge_l": found.get("rouge_l"),
        "edit": found.get("edit"),
        "floor_rouge_l": floor.get("rouge_l"),
        "floor_edit": floor.get("edit"),
        "length_ratio": found.get("length_ratio"),
        "flags": listed.get("flags", []),
    }
    for side in ("primary", "shadow", "noise"):
        measured = found.get(side) or {}
        for name in ("status", "first_token_ms", "total_ms", "tokens", "finish_reason"):
            row[f"{side}_{name}"] = measured.get(name)
        if bodies:
            leg = pair.legs.get(side)
            row[f"{side}_text"] = None if leg is None or leg.reply is None else leg.reply.text
    if bodies:
        asked = pair.legs.get("primary")
        row["request"] = None if asked is None else asked.request.decode("utf-8", "replace")
    return row


def write_jsonl(
    pairs: Iterable[StoredPair], out: IO[bytes], *, bodies: bool, told: Callable[[int], None]
) -> int:
    """Write one JSON object a line; returns how many."""
    written = 0
    for pair in pairs:
        out.write(orjson.dumps(as_row(pair, bodies=bodies)) + b"\n")
        written += 1
        if written % _CHUNK == 0:
            told(written)
    return written


def write_parquet(
    pairs: Iterable[StoredPair], path: Path, *, bodies: bool, told: Callable[[int], None]
) -> int:
    """Write a Parquet file; returns how many pairs; raises ExportError without the library."""
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra of its own
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise ExportError("Parquet needs the extra: pip install 'shiftplane[parquet]'") from error
    kinds = {"number": pa.float64(), "integer": pa.int64(), "text": pa.string(), "truth": pa.bool_()}
    schema = pa.schema(
        [
            (name, pa.list_(pa.string()) if kind == "list" else kinds[kind])
            for name, kind in _kinds(bodies=bodies)
        ]
    )
    written = 0
    with parquet.ParquetWriter(path, schema) as writer:
        for chunk in _chunks(pairs):
            rows = [as_row(pair, bodies=bodies) for pair in chunk]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            written += len(rows)
            told(written)
    return written


def _chunks(pairs: Iterable[StoredPair]) -> Iterator[list[StoredPair]]:
    running = iter(pairs)
    while chunk := list(itertools.islice(running, _CHUNK)):
        yield chunk


def _kinds(*, bodies: bool) -> Iterator[tuple[str, str]]:
    yield from (
        ("id", "integer"),
        *((name, "text") for name in ("route", "request_id")),
        *((name, "number") for name in ("started_at", "stored_at")),
        *((name, "text") for name in ("primary_variant", "shadow_variant")),
        ("comparator", "integer"),
        ("similarity", "number"),
        ("exact", "truth"),
        *((name, "number") for name in ("rouge_l", "edit", "floor_rouge_l", "floor_edit", "length_ratio")),
        ("flags", "list"),
    )
    for side in ("primary", "shadow", "noise"):
        yield f"{side}_status", "integer"
        yield from ((f"{side}_{name}", "number") for name in ("first_token_ms", "total_ms"))
        yield f"{side}_tokens", "integer"
        yield f"{side}_finish_reason", "text"
        if bodies:
            yield f"{side}_text", "text"
    if bodies:
        yield "request", "text"
