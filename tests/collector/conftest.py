"""Fixtures of the collector tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.collector.running import Collector, Setting, start_collector
from tests.support.postgres import fresh_schema

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from mirror_collector.store import Location


@pytest.fixture(params=["sqlite", "postgres"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """The location of a new store: a file, and a schema of a PostgreSQL server."""
    if request.param == "sqlite":
        return tmp_path / "deep" / "pairs.sqlite"
    return fresh_schema()


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[Collector]]:
    """Start a collector with a store of its own: ``async with start() as collector``."""
    return lambda setting=None: start_collector(tmp_path / "pairs.sqlite", setting or Setting())
