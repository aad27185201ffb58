"""What all tests of the collector share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.collector.running import Collector, Setting, start_collector

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[Collector]]:
    """Start a collector on the store of this test; ``async with start() as collector``."""
    return lambda setting=None: start_collector(tmp_path / "pairs.sqlite", setting or Setting())
