"""Run the tests that measure time while no other test of the run is running."""

from __future__ import annotations

import fcntl
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

__all__ = ["Turns"]


class Turns:
    """A plugin: a test marked `quiet` holds the lock of the run alone, all other tests share it.

    The workers of a run order such tests last, so that no worker waits while there is other work.
    """

    def __init__(self, file: Path, *, owns_file: bool) -> None:
        """All test processes of a run lock the same `file`; the one that owns it removes it."""
        self._file = file
        self._owns_file = owns_file

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, bool, bool]:
        quiet = item.get_closest_marker("quiet") is not None
        with self._file.open("w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX if quiet else fcntl.LOCK_SH)
            return (yield)

    def pytest_unconfigure(self) -> None:
        if self._owns_file:
            self._file.unlink(missing_ok=True)
