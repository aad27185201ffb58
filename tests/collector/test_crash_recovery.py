"""Twenty kill -9 under load on one store: no pair is counted twice, and lost legs are counted."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from bench.clients.captured import entry, feed, plain

if TYPE_CHECKING:
    from pathlib import Path

KILLS = 20
LEGS = [
    entry("primary", "chat/v1", plain(40), content_type="application/json", chunks=1),
    entry("shadow", "chat/v2/shadow", plain(40, "term"), content_type="application/json", chunks=1),
]


def start_process(store: Path) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "mirror_collector", "serve", "--grpc=127.0.0.1:0", "--http=127.0.0.1:0"]
    process = subprocess.Popen([*command, f"--store={store}"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    event = json.loads(process.stderr.readline())
    assert event["event"] == "listening", event
    return process, event["grpc"]


async def load_until_killed(process: subprocess.Popen[str], address: str, first: int, after: float) -> None:
    """Send pairs faster than they are processed, and kill the process after `after` seconds."""

    async def pace(_sent: int) -> None:
        await asyncio.sleep(0.002)

    feeding = asyncio.create_task(feed(address, LEGS, range(first, first + 1_000_000), pace=pace))
    await asyncio.sleep(after)
    process.kill()
    try:
        async with asyncio.timeout(20):
            await feeding
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        pass
    process.communicate(timeout=20)


def read_store(store: Path) -> dict[str, Any]:
    """Read the store directly with SQLite."""
    with closing(sqlite3.connect(store)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (totals,) = db.execute("SELECT tally FROM route_tallies").fetchone()
        (compared,) = db.execute("SELECT tally FROM pair_tallies").fetchone()
        return {
            "route": json.loads(totals),
            "compared": json.loads(compared)["pairs"],
            "rows": db.execute("SELECT COUNT(*) FROM pairs").fetchone()[0],
            "requests": db.execute("SELECT COUNT(DISTINCT request_id) FROM pairs").fetchone()[0],
            "legs": db.execute("SELECT COUNT(*) FROM legs").fetchone()[0],
            "evidence": sum(json.loads(row)["pairs"] for (row,) in db.execute("SELECT counts FROM evidence")),
        }


def test_twenty_kills_under_load_neither_repeat_nor_hide_a_leg(tmp_path: Path) -> None:
    store, stored, rng = tmp_path / "pairs.sqlite", 0, random.Random(5)
    for kills in range(3 * KILLS):
        if kills >= KILLS and read_store(store)["route"]["unpaired"].get("restart"):
            break  # On a busy machine, few kills find a leg that waits.
        process, address = start_process(store)
        # Some stored pairs are sent again, as after a retry.
        asyncio.run(load_until_killed(process, address, max(0, stored - 30), rng.uniform(0.15, 0.5)))
        stored_state = read_store(store)
        stored = stored_state["rows"]
        assert (
            stored_state["rows"]
            == stored_state["requests"]
            == stored_state["compared"]
            == stored_state["evidence"]
        )
        assert stored_state["route"]["pairs"] == stored_state["rows"]
        assert stored_state["legs"] == 2 * stored_state["rows"]
    process, _ = start_process(store)
    time.sleep(0.2)
    process.terminate()
    process.communicate(timeout=20)
    route = read_store(store)["route"]
    received = sum(route["legs"].values())
    assert received == route["paired"] + sum(route["unpaired"].values()), "every leg is accounted for"
    assert route["unpaired"]["stored_before"] > 0, "repeated pairs are detected"
    assert route["unpaired"]["restart"] > 0, "legs lost in the crash are counted"
    assert route["pairs"] > 500
