"""`shiftplane demo` with fewer users."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.long]


def test_the_story_of_the_demo(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "xds_server.cli", "demo", "--users=2000", f"--folder={tmp_path / 'demo'}"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["demo"] == "pass"
    assert last["failed"] == last["moved_back"] == 0
    assert last["pairs"] >= 40
    assert last["requests"] > 4_000
