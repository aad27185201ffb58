from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.plane import Plane

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    """Return a plane that runs nothing yet; stop what the test starts, print the logs of dead programs."""
    running = Plane(tmp_path)
    yield running
    died = [process for process in running.processes if not process.running]
    running.close()
    for process in died:
        sys.stdout.write(f"--- {process.name} had ended:\n{process.tail(30)}\n")
