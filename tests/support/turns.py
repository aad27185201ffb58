"""Run the tests that measure time while no other test of the run is running."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["Turns"]


class Turns:
    """A plugin: a test marked `quiet` holds the lock of the run alone, all other tests share it.

    The workers of a run order such tests last, so that no worker waits while there is other work.
    """

    def __init__(self, *, worker: bool) -> None:
        """`worker` says that this process is a worker of pytest-xdist."""
        self._owns_file = not worker
        run = os.getppid() if worker else os.getpid()
        self._file = Path(tempfile.gettempdir()) / f"shiftplane-tests-{run}.lock"

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, bool, bool]:
        quiet = item.get_closest_marker("quiet") is not None
        with self._file.open("w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX if quiet else fcntl.LOCK_SH)
            return (yield)

    def pytest_unconfigure(self) -> None:
        if self._owns_file:
            self._file.unlink(missing_ok=True)
