"""Fixtures with a running HTTP server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.site import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.site import Client, Served


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """A server that requires tokens."""
    async with serving(tmp_path, is_open=False) as found:
        yield found


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """The client of a server in open mode, without login."""
    async with serving(tmp_path, is_open=True) as found:
        yield found.client
