"""A test that hangs fails with the stacks of all threads, and the run ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WAITS = """
import threading

def test_waits_for_ever():
    def in_a_thread():
        threading.Event().wait(300)

    thread = threading.Thread(target=in_a_thread, daemon=True)
    thread.start()
    thread.join()

def test_passes():
    pass
"""
DEAF = """
import signal, time

def test_handles_no_signal():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(300)
"""


def run(folder: Path, text: str, *options: str) -> tuple[int, str]:
    """Run a file of tests with the settings of the project; return the exit code and the output."""
    file = folder / "test_hanging.py"
    file.write_text(text, encoding="utf-8")
    # Without randomly, the second test of the file is the second to run.
    plugins = ("-p", "no:randomly", "-p", "no:schemathesis")
    settings = ("-c", str(ROOT / "pyproject.toml"), f"--rootdir={folder}", "--max-worker-restart=0")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, *settings, *options, str(file)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
        check=False,
    )
    return done.returncode, done.stdout


def test_a_test_that_hangs_fails_with_all_stacks_and_the_next_one_runs(tmp_path: Path) -> None:
    code, printed = run(tmp_path, WAITS, "--timeout=1", "-n1")
    assert code == 1
    assert "Timeout (>1.0s)" in printed
    assert ">       thread.join()" in printed
    assert "in in_a_thread" in printed
    assert "1 failed, 1 passed" in printed


def test_a_test_that_handles_no_signal_ends_the_run(tmp_path: Path) -> None:
    limits = ("--timeout=1", "-o", "faulthandler_timeout=2", "-n1")
    code, printed = run(tmp_path, DEAF, *limits)
    assert code != 0
    assert "in test_handles_no_signal" in printed
    assert "crashed while running" in printed
