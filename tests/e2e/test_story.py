"""`shiftplane demo` with fewer users."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.long]


def test_the_story_of_the_demo(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "xds_server.cli", "demo", "--users=2000", f"--folder={tmp_path / 'demo'}"],
        capture_output=True,
        text=True,
        timeout=420,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["demo"] == "pass"
    assert last["failed"] == last["moved_back"] == 0
    assert last["pairs"] >= 40
    assert last["requests"] > 4_000


def test_an_envoy_that_does_not_start_ends_the_demo_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    done = subprocess.run(
        [sys.executable, "-m", "xds_server.cli", "demo", f"--folder={folder}"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=os.environ | {"SHIFTPLANE_ENVOY": "/bin/false"},
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    last = done.stdout.rstrip().splitlines()[-1]
    assert "gateway-1 ended with exit code 1 before it was ready" in last
    assert last.endswith(f"logs: {folder}")
    assert not [words for words in command_lines() if str(folder) in words]


def command_lines() -> list[str]:
    """Return the command lines of all processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # The process ended.
            found.append(path.read_text(errors="replace"))
    return found
