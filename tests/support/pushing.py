"""Runs a hub, which sends snapshots to its streams, for the time of a test."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from xds_server.xds.server import Hub

__all__ = ["pushing"]


@asynccontextmanager
async def pushing(hub: Hub) -> AsyncIterator[asyncio.Task[None]]:
    """Run a hub in a task, and yield the task; it is canceled and awaited at the end."""
    task = asyncio.create_task(hub.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
